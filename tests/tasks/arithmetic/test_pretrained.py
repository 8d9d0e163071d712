"""Pretrained embeddings of the arithmetic task: fingerprints, and what is refused."""

from dataclasses import replace

import pytest

from common.data import hub
from common.errors import UserError
from launch.__main__ import main
from tasks.arithmetic import data, prepare
from tasks.arithmetic.config import Config
from tests.support.arithmetic_data import dev, mawps, train
from tests.support.arithmetic_files import complaint, files, write

roberta = {"config.json": "{}", "model.safetensors": "w", "vocab.json": "{}", "merges.txt": "m"}


def test_the_files_of_a_pretrained_embedding_are_fingerprinted(tmp_path):
    config = Config(embedding="pretrained", pretrained=str(write(tmp_path, roberta)))
    before, stamp = prepare.check(config).fingerprint, prepare.stamp(config)
    assert before != prepare.check(Config()).fingerprint and stamp == prepare.stamp(config)
    for name in roberta:
        write(tmp_path, {name: roberta[name] + " "})
        assert prepare.check(config).fingerprint != before and prepare.stamp(config) != stamp, name
        write(tmp_path, {name: roberta[name]})
    assert prepare.check(config).fingerprint == before


def test_a_folder_of_weights_that_is_not_there_is_told_when_preparing_and_after_the_data(tmp_path):
    write(tmp_path, files(train, dev))
    config = mawps(tmp_path, embedding="pretrained", pretrained=str(tmp_path / "nowhere"))
    told = []
    text = complaint(prepare.prepare, replace(config, dataset="generated", data=""), None, told.append)
    assert "nowhere" in text and any("generated: nothing to prepare" in line for line in told)
    whole = replace(config, dataset="generated", data="", pretrained=str(write(tmp_path / "weights", roberta)))
    prepare.prepare(whole, None, told.append)


def test_what_a_pretrained_embedding_refuses_is_named_with_file_and_line(tmp_path):
    def encode(words):
        if "how" in words:
            raise UserError("too long")
        return [1], [0]

    found = data.load(mawps(write(tmp_path, files(train, dev))), 0)
    text = complaint(data.Tensors, found.test, found.vocabulary, encode)
    assert text.count("dev.csv:") == 10 and "dev.csv:3: too long" in text


def test_a_plan_asks_the_network_itself(tmp_path, capsys):
    """Whether it can be read at all, and whether a problem has more pieces than it reads."""
    folder = write(tmp_path, roberta)
    words = ["task=arithmetic", "method=dense", "task.embedding=pretrained", f"task.pretrained={folder}"]
    assert main(["plan", *words]) == 2
    assert f"{folder}: expected a model and a tokenizer" in capsys.readouterr().err


def test_capitals_are_read_by_a_pretrained_embedding_alone(tmp_path):
    """RoBERTa's pieces differ with the case; a learned vocabulary is of lower-cased words."""
    pretrained = {"embedding": "pretrained", "pretrained": str(write(tmp_path / "weights", roberta))}
    shouted = [{**one, "Question": one["Question"].replace("Pens", "PENS")} for one in train]
    plain, loud = (write(tmp_path / name, files(rows, dev)) for name, rows in (("plain", train), ("loud", shouted)))
    assert prepare.check(mawps(plain)).fingerprint == prepare.check(mawps(loud)).fingerprint
    assert prepare.check(mawps(plain, **pretrained)).fingerprint != prepare.check(mawps(loud, **pretrained)).fingerprint
    seen = []

    def encode(words):
        seen.append(words)
        return [1] * len(words), range(len(words))

    found = data.load(mawps(loud), 0)
    data.Tensors(found.train, found.vocabulary, encode)
    data.Tensors(data.load(Config(), 0).test, found.vocabulary, encode)  # generated: as its words are
    assert all("PENS" in words for words in seen[: len(found.train)]) and len(seen) > len(found.train)
    assert all("NUM" in words for words in seen) and "PENS" not in found.vocabulary.words


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"config.json": None}, "config.json is missing"),
        ({"model.safetensors": None}, "model.safetensors or pytorch_model.bin is missing"),
        ({"merges.txt": None}, "the tokenizer's"),
        ({"config.json": "[]"}, "expected a JSON object"),
        ({"config.json": '{"transformers_weights": "x"}'}, "transformers_weights"),
        ({"adapter_config.json": "{}"}, "found an adapter"),
        ({"model.safetensors": None, hub.sharded: '{"weight_map": {"a": "../x"}}'}, "no such file lies beside it"),
    ],
)
def test_an_incomplete_folder_of_weights_is_refused(tmp_path, change, expected):
    content = {name: text for name, text in {**roberta, **change}.items() if text is not None}
    config = Config(embedding="pretrained", pretrained=str(write(tmp_path, content)))
    assert expected in complaint(prepare.check, config)
    assert "no such folder" in complaint(prepare.check, replace(config, pretrained=str(tmp_path / "nowhere")))
