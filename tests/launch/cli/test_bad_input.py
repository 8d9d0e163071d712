"""Bad input: one clear message, exit code 2, no traceback, and nothing written or queued."""

import json
import zipfile

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common import paths, record
from common.errors import UserError
from launch.__main__ import main
from launch.plan import planner
from launch.request import arguments, compose, grid
from tests.support.classic_files import mnist_files, write
from tests.support.cli import copy, error, launch, quick
from tests.support.stages import stage

# What is asked for, and what the message must say.
REQUESTS = [
    ("task=clasic", "unknown task 'clasic'; did you mean 'classic'?"),
    ("method=rigel", "unknown method 'rigel'; did you mean 'rigl'?"),
    ("preset=laptob", "unknown preset 'laptob'; did you mean 'laptop'?"),
    ("cluster=lokal", "unknown cluster 'lokal'; did you mean 'local'?"),
    ("metod=imp", "unknown key 'metod'; did you mean 'method'?"),
    ("METHOD=imp", "unknown key 'METHOD'; did you mean 'method'?"),
    ("steps=3", "unknown key 'steps'; did you mean 'run.steps'?"),
    ("run.stepz=3", "unknown key run.stepz; did you mean 'run.steps'?"),
    ("task.datset=mnist", "unknown key task.datset; did you mean 'task.dataset'?"),
    ("method=rigl method.drop_fractoin=0.1", "unknown key method.drop_fractoin; did you mean 'method.drop_fraction'?"),
    ("method=rigl method.rewind=0", "(method rigl: it has: batches"),
    ("method=dense method.sparsity=0.5", "unknown key method.sparsity (method dense: it has no settings)"),
    ("model.width=3", "unknown key 'model.width'"),
    ("imp", "expected key=value, found 'imp'"),
    ("=imp", "expected key=value, found '=imp'"),
    ("method=", "method has no value"),
    ("method=,", "method names no method, found ','"),
    (
        "method=rigl run.steps=20 method.every=100",
        "rigl: no update would ever come: the first is due at step 100 (method.every), and the topology rests from "
        "step 15 on (method.stop=0.75 of 20 steps); choose a smaller method.every, or more steps",
    ),
    ("task=protein width=32", "unknown key 'width'; did you mean 'task.width'?"),
    ("width=32 task=protein", "unknown key 'width'; did you mean 'task.width'?"),
    ("sparsity=0.8", "unknown key 'sparsity'; did you mean 'method.sparsity'?"),
    ("sparsty=0.8", "unknown key 'sparsty'; did you mean 'method.sparsity'?"),
    ("zzzzzz=1", "unknown key 'zzzzzz' (keys: "),
    ("task=protein run.width=32", "unknown key run.width; did you mean 'task.width'?"),
    ("task=protein width=1 method=rigl run.seed=x", "did you mean 'task.width'?"),
    ("run.steps=", "run.steps has no value"),
    ("run.seed=1 run.seed=2", "run.seed is given twice; give several values as run.seed=a,b"),
    ("data=/a task.data=/b", "data and task.data are the same setting"),
    ("workers=abc", "workers (0: one per core) must be a whole number from 0 to 4096, found 'abc'"),
    ("workers=-1", "found '-1'"),
    ("workers=²", "found '²'"),
    ("format=xml", "format is text or json, found 'xml'"),
    ("run.steps=1.5", "run.steps: expected a whole number, found '1.5'"),
    ("run.seed=0,", "run.seed: expected a whole number, found ''"),
    ("run.learning_rate=fast", "run.learning_rate: expected a number, found 'fast'"),
    ("run.nesterov=yes", "run.nesterov: expected true or false, found 'yes'"),
    ("run.milestones=0.5", "run.milestones: expected a list such as [a, b], found '0.5'"),
    ("run.milestones=[a]", "each value a number, found '[a]'"),
    ("run.milestones=[[1]]", "not nested, found '[[1]]'"),
    ("run.milestones=[2.0]", "run.milestones must be in [0, 1], found 2.0"),
    ("method=imp method.rates=0.1", "method.rates: expected a mapping such as {name: value}, found '0.1'"),
    ("method=imp method.rates={a:b}", "each value a number, found '{a:b}'"),
    ("method=imp method.rates={a:", "expected a mapping"),
    ("run.exclude=[[a-z]*]", "a list such as [a, b], with quotes around a value that holds one of *&![]"),
    ('run.exclude=["*.weight"]', "no prunable weights left: '*.weight' leaves all dense"),
    ("run.exclude=[*]", "no prunable weights left: '*' leaves all dense"),
    ("run.optimizer=adm", "run.optimizer must be one of sgd, adam, adamw; found 'adm'; did you mean 'adam'?"),
    ("run.batch_size=0", "run.batch_size must be above 0, found 0"),
    ("run.seed=-1", "run.seed must not be negative, found -1"),
    ("run.steps=0 run.epochs=0", "run.epochs and run.steps are both 0"),
    ("run.optimizer=sgd run.nesterov=true run.momentum=0", "run.nesterov needs run.momentum above 0"),
    ("run.momentum=99", "run.momentum must be in [0, 1), found 99"),
    (f"run.steps={'9' * 40}", "run.steps must be below 2^63, found a number of 40 digits"),
    ("run.seed=0-2", "run.seed: expected a whole number (several as 0,1,2), found '0-2'"),
    ("method=gmp method.sparsity=80%", "method.sparsity: expected a number (a percent is 0.01), found '80%'"),
    ("SET=run.seed=0", "unknown key 'SET': it is make's; here its words stand by themselves, as in run.seed=0"),
    ("run.steps=1000000001", "run.steps must be in [0, 1000000000], found 1000000001"),
    (f"method=rigl run.steps={'9' * 4000}", "run.steps must be below 2^63, found a number of 4000 digits"),
    (f"run.seed={'9' * 4000}", "run.seed must be below 2^63, found a number of 4000 digits"),
    ("task=protein task.layers=100000", "task.layers must be in [1, 1000], found 100000"),
    ("run.schedule=one_cycle", "run.schedule=one_cycle rises for run.warmup_steps, which is 0"),
    ("task.validation=0", "task.validation is 0"),
    ("task.dataset=mnits", "did you mean 'mnist'?"),
    *[(f"method=gmp method.sparsity={bad}", f"in [0, 1), found {bad}") for bad in ("1.0", "-0.1", "80.0")],
    *[
        (f"method=gmp method.sparsity={bad}", f"a finite number, found '{bad}'")
        for bad in ("nan", "inf", "-inf", "1e999")
    ],
    ("method=magnitude_v2 method.sparsity=0.999999", "at method.sparsity=0.999999 the first layer"),
    ("method=imp method.sparsity=0", "method.sparsity=0 is dense training"),
    (
        "method=snip method.allocation=erc",
        "method.allocation must be one of global, uniform, uniform_first_dense, erk, erk_plus, rows; found 'erc'; did "
        "you mean 'erk'?",
    ),
    (
        "method=rigl method.initial=random",
        "method.initial must be one of erk, uniform, uniform_first_dense, omp, snip; found 'random'",
    ),
    ("method=imp method.allocation=layers", "give method.rounds, not a sparsity"),
    ("method=imp method.rounds=0", "pruning takes from 1 to 1000 rounds, these settings ask for 0"),
    ("method=imp method.rounds=100000000", "pruning takes from 1 to 1000 rounds, these settings ask for 100000000"),
    ("method=imp method.rate=1e-9 method.sparsity=0.9", "pruning takes from 1 to 1000 rounds"),
    ("method=imp method.rewind=²", "method.rewind must be a step"),
    ("method=imp method.rounds=3 method.sparsity=0.5", "not both or none"),
    ("method=imp method.rates={output.weight:0.1}", "they need method.allocation=layers"),
    ("method=imp method.rewind=41 run.steps=40", "method.rewind=41 is beyond the 40 steps"),
    ("method=imp method.rewind=629", "method.rewind=629 is beyond the 628 steps"),  # which the data decide
    ("method=one_shot_ticket method.rewind=22 run.epochs=1", "method.rewind=22 is beyond the 21 steps"),
    ("method=instability method.sparsity=0 method.rewind=100000", "method.rewind=100000 is beyond the 628 steps"),
    ("run.batch_size=1258", "run.batch_size is 1258 and there are 1257 training examples; expected no more than these"),
    ("task=protein run.batch_size=2431", "run.batch_size is 2431 and there are 2430 training examples"),
    ("task=arithmetic run.batch_size=1441", "run.batch_size is 1441 and there are 1440 training examples"),
    ("method=rigl run.epochs=1", "rigl: no update would ever come"),
    ("method=obert method.prunings=9 run.epochs=0.1", "method.prunings=9 do not fit between steps"),
    ("method=imp method.rewind=007", "method.rewind must be a step"),  # one step, one name
    ("method=imp method.rewind=٣", "method.rewind must be a step"),
    ("method=gmp method.structure=1٤x4", "expected weights, RxC as in 4x4"),
    ("method=imp method.rewind=soon", "method.rewind must be a step (0, 1, 2, ...) or 'pretrained'"),
    ("method=imp method.rewind=pretrained", "needs pretrained weights, task.pretrained is empty"),
    ("method=gmp method.begin=0.9", "method.begin must be below method.end, found 0.9 and 0.8"),
    ("preset=laptop data=/no/such/folder", "/no/such/folder: there is no such folder"),
    (
        "task.dataset=mnist task.data=~no-such-user/here task.validation=10",
        "~no-such-user/here: there is no such folder",
    ),
    ("data=/tmp", "but the digits come with scikit-learn and need no folder"),
    ("task.pretrained=/no/such/file", "/no/such/file"),
    (f"task.dataset=mnist data=/{'x' * 5000}", "cannot read"),
]


@pytest.mark.parametrize("asked, message", REQUESTS, ids=[asked[:60] for asked, _ in REQUESTS])
def test_request_is_refused_with_one_message(folders, capsys, asked, message):
    assert main(["sweep", *asked.split()]) == 2
    seen = capsys.readouterr()
    assert not seen.out and seen.err.startswith("error: ") and seen.err.count("error:") == 1
    assert message in seen.err
    assert not list(folders.iterdir())


def test_everything_wrong_is_said_at_once(folders, capsys):
    asked = "method=imp,rigl run.stepz=3 run.seed=a method.rates=x task.datset=digits"
    assert main(["sweep", *asked.split()]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: 4 settings cannot work:\n")
    assert all(part in message for part in ("run.stepz", "run.seed: expected", "method.rates: expected", "task.datset"))
    asked = "method=imp,rigl run.batch_size=0 method.rate=2 method.every=0 task.validation=1"
    assert main(["sweep", *asked.split()]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: 4 settings cannot work:\n")
    assert "\n  run.batch_size" in message and "\n  imp: method.rate" in message and "\n  rigl: method.every" in message


@pytest.mark.parametrize("verb, near", [("swep", "sweep"), ("statsu", "status"), ("reprot", "report")])
def test_unknown_verb(capsys, verb, near):
    assert main([verb]) == 2
    assert f"unknown verb '{verb}'; did you mean '{near}'?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["status", "report", "help", "prepare"])
def test_every_verb_knows_an_unknown_task(capsys, verb):
    assert main([verb, "task=clasic"]) == 2
    assert "did you mean 'classic'?" in capsys.readouterr().err


def test_a_verb_says_what_it_does_not_use(capsys):
    assert main(["status", "preset=laptop", "format=json"]) == 0
    seen = capsys.readouterr()
    assert "note: status does not use preset" in seen.err and json.loads(seen.out)["stages"] == 0


@pytest.mark.parametrize("port", ["http", "0", "70000"])
def test_port(capsys, port):
    assert main(["ui", f"port={port}"]) == 2
    assert f"port must be a whole number from 1 to 65535, found '{port}'" in capsys.readouterr().err


def test_prepare(capsys):
    assert main(["prepare", "task.datset=mnist", "task.validation=x"]) == 2
    message = capsys.readouterr().err
    assert "did you mean 'task.dataset'?" in message and "task.validation: expected a whole number" in message
    assert main(["prepare", "task.dataset=mnist,digits", "task.augment=true"]) == 2
    assert "2 settings cannot work" in capsys.readouterr().err


DAMAGED = {
    "missing": ("train-labels-idx1-ubyte", None, "train-labels-idx1-ubyte (or train-labels-idx1-ubyte.gz"),
    "empty": ("t10k-images-idx3-ubyte", b"", "found an empty file"),
    "truncated": ("train-images-idx3-ubyte", mnist_files()["train-images-idx3-ubyte"][:-1], "expected 31376 bytes"),
    "not one": ("train-images-idx3-ubyte", b"<html>not found</html>", "expected the IDX magic number 00000803"),
    "other labels": ("t10k-labels-idx1-ubyte", mnist_files()["train-labels-idx1-ubyte"], "expected 20 labels"),
}


@pytest.mark.parametrize("name, content, message", DAMAGED.values(), ids=DAMAGED)
def test_damaged_data(folders, capsys, name, content, message):
    data = write(folders / "data", mnist_files())
    asked = ["task.dataset=mnist", "task.validation=10", f"data={data}", "run.seed=0", "run.batch_size=10"]
    assert main(["plan", *asked]) == 0
    assert capsys.readouterr().out
    (data / name).unlink() if content is None else (data / name).write_bytes(content)
    done = quick("sweep", *asked)
    assert message in error(done) and str(data) in done.stderr and "make prepare" in done.stderr
    assert not paths.runs().exists()


@pytest.mark.parametrize("kind", ["another archive", "another network"])
def test_weights_that_do_not_fit_are_refused_by_the_plan(folders, capsys, kind):
    path = folders / "weights.pt"
    if kind == "another archive":  # whole as a zip, and no file of torch's
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", "no pickle")
    else:
        torch.save({"fc1.weight": torch.ones(3, 3)}, path)
    assert main(["plan", "method=dense", f"task.pretrained={path}"]) == 2
    assert f"task.pretrained: {path} does not fit task.model=lenet-300-100" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["plan", "sweep", "status", "report", "sync", "ui"])
def test_a_file_where_runs_should_be(folders, monkeypatch, capsys, verb):
    (folders / "file").write_text("mine")
    for place in ("file", "file/below"):
        monkeypatch.setenv("RUNS", str(folders / place))
        assert main([verb]) == 2
        message = capsys.readouterr().err
        assert f"{folders / 'file'} is not a folder; RUNS=<folder> chooses another" in message
    assert (folders / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["what?", "%j", "a%4a", "100%25", "a\\b", "a\nb", "caf\udce9"])
@pytest.mark.parametrize("variable", ["RUNS", "REPORTS"])
def test_folders_that_mlflow_or_slurm_would_read_otherwise_are_refused(folders, monkeypatch, capsys, variable, name):
    monkeypatch.setenv(variable, str(folders / name))
    assert main(["sweep", "method=dense", "run.steps=1"]) == 2
    message = capsys.readouterr().err
    assert "cannot be part of it" in message and f"{variable}=<folder> chooses another" in message
    assert not any(folders.rglob("config.yaml"))


def test_a_link_to_nowhere_is_no_place_for_runs(folders, monkeypatch, capsys):
    (folders / "link").symlink_to(folders / "gone")
    monkeypatch.setenv("RUNS", str(folders / "link"))
    assert main(["sweep", "method=dense", "run.steps=1"]) == 2
    assert f"{folders / 'link'} is a link to {folders / 'gone'}, which is not there" in capsys.readouterr().err


def test_a_tilde_is_the_home_folder(monkeypatch):
    """make hands RUNS=~/runs on as it was typed; a folder named ~ is what nobody wants."""
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("RUNS", "~/runs")
    monkeypatch.setenv("REPORTS", "~/reports")
    assert (str(paths.runs()), str(paths.reports())) == ("/home/somebody/runs", "/home/somebody/reports")


def test_a_file_where_reports_should_be_is_seen_before_training(folders, monkeypatch, capsys):
    (folders / "file").write_text("mine")
    monkeypatch.setenv("REPORTS", str(folders / "file"))
    assert main(["sweep", "method=dense", "run.steps=1"]) == 2
    assert "is not a folder; REPORTS=<folder> chooses another" in capsys.readouterr().err
    assert not paths.runs().exists()
    stage(paths.runs(), "0123456789abcdef", task="classic")
    assert main(["report"]) == 2
    assert "cannot write the report to" in capsys.readouterr().err


def test_a_report_of_a_method_that_has_not_finished_is_refused_and_the_last_one_stands(capsys):
    """The dense line that comes with every method is no report of it."""
    asked = ["method=rigl,snip", "method.sparsity=0.5", "run.seed=0"]
    for folder, method in zip(planned(*asked), ("dense", "rigl")):
        stage(paths.runs(), folder.name, method, task="classic")
    assert main(["report", *asked]) == 0
    assert "note: nothing of snip is finished" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in paths.reports().rglob("*") if path.is_file()}
    assert before and main(["report", "task=classic", "method=snip", *asked[1:]]) == 2
    seen = capsys.readouterr()
    assert not seen.out and "nothing of snip is finished for task classic" in seen.err and "TASK=" not in seen.err
    assert {path: path.read_bytes() for path in paths.reports().rglob("*") if path.is_file()} == before


def test_a_report_with_other_words_names_the_settings_of_what_is_finished(capsys):
    """Words to repeat it with: of the stage that is nearest to one of those asked for."""
    level = ["method.sparsity=0.5", "run.seed=0"]
    for more in (["run.steps=40"], ["run.steps=40", "run.batch_size=7", "method.allocation=uniform"]):
        for one in planner.make(arguments.parse(["method=gmp", *level, *more])).stages.values():
            folder = stage(paths.runs(), one.digest, one.method, one.sparsity, task="classic")
            paths.config(folder).write_text(yaml.safe_dump(one.config))
    assert main(["report", "method=gmp", *level, "run.steps=41"]) == 2
    message = capsys.readouterr().err
    assert "nothing of gmp with these settings is finished for task classic" in message
    assert message.rstrip().endswith("With other settings there are 2 stages of gmp, such as gmp with run.steps=40")
    assert main(["report", "method=gmp", *level, message.split()[-1]]) == 0, "the words that it named"
    elsewhere = one.config | {"data": "f" * 64}  # as near by its settings, but not by its data
    folder = stage(paths.runs(), "0" * 16, "gmp", 0.5, task="classic")
    paths.config(folder).write_text(yaml.safe_dump(elsewhere | {"digest": folder.name}))
    assert main(["report", "method=gmp", *level, "run.steps=41", *more[1:]]) == 2
    assert "3 stages of gmp, such as gmp with run.steps=40\n" in capsys.readouterr().err
    assert main(["report", "method=snip", *level]) == 2
    assert "other settings" not in capsys.readouterr().err
    assert main(["report", "method=snip,gmp", *level, "run.steps=41"]) == 2, "here nothing of either is finished"
    message = capsys.readouterr().err
    assert "nothing of snip, gmp" in message and "such as gmp with run.steps=40" in message


def test_a_report_of_which_a_part_is_finished_with_other_settings_says_so(capsys):
    for more in (["method=rigl"], ["method=gmp", "method.allocation=uniform"]):
        for one in planner.make(arguments.parse([*more, "method.sparsity=0.5", "run.seed=0"])).stages.values():
            folder = stage(paths.runs(), one.digest, one.method, one.sparsity, task="classic")
            paths.config(folder).write_text(yaml.safe_dump(one.config))
    assert main(["report", "method=rigl,gmp", "method.sparsity=0.5", "run.seed=0"]) == 0
    (note,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: nothing of gmp")]
    assert note.startswith("note: nothing of gmp with these settings is finished")
    assert note.endswith("there is 1 stage of gmp, such as gmp with method.allocation=uniform")


def test_where_nothing_is_finished_no_file_of_finished_stages_is_named(capsys):
    from launch.report import show
    from launch.slurm import live_records

    (one,) = planner.make(arguments.parse(["method=dense", "run.seed=0"])).stages.values()
    folder = stage(paths.runs(), one.digest, "dense", 0.0, task="classic", state="failed")
    paths.config(folder).write_text(yaml.safe_dump(one.config))
    show.write_report("classic", live_records.read("classic"), {folder.name})
    shown = capsys.readouterr().out
    assert "no finished stages yet" in shown and "results:" not in shown and "1 failed" in shown


def test_a_traceback_is_named_only_where_there_is_one(monkeypatch, capsys):
    from launch.cli import train
    from launch.mlflow_view import sync

    monkeypatch.setattr(sync, "sync", lambda *_: None)
    made = planner.make(arguments.parse(["method=dense", "run.seed=0,1"]))
    for number, one in enumerate(made.stages.values()):
        folder = stage(paths.runs(), one.digest, "dense", 0.0, number, state="failed", task="classic")
        if number:
            paths.error(folder).write_text("Traceback")
    assert train.show(made) == 1
    killed, raised = sorted(
        (line for line in capsys.readouterr().out.splitlines() if line.startswith("failed: ")),
        key=lambda line: "traceback" in line,
    )
    assert "traceback" not in killed and "error.txt" not in killed and f"(traceback in {paths.error(folder)})" in raised


def test_a_report_without_a_task_names_those_that_have_results(capsys):
    stage(paths.runs(), "0123456789abcdef", task="protein")
    assert main(["report"]) == 2
    message = capsys.readouterr().err
    assert "nothing of this is finished for task classic" in message and message.rstrip().endswith("TASK=protein")


def test_a_file_where_a_stage_should_be(capsys):
    folder = planned("method=dense", "run.seed=0")[0]
    folder.parent.mkdir(parents=True)
    folder.write_text("mine")
    assert main(["sweep", "method=dense", "run.seed=0"]) == 2
    assert "cannot write to" in capsys.readouterr().err


def planned(*asked):
    return [stage.folder for stage in planner.make(arguments.parse(list(asked))).stages.values()]


@pytest.mark.parametrize("damage", ["seed", "epochs", "half", "list", "empty", "binary"])
def test_a_changed_configuration_is_refused_and_kept(capsys, damage):
    made = planner.make(arguments.parse(["method=omp_after", "method.sparsity=0.5,0.8", "run.seed=0"]))
    planner.write(made)
    victim = paths.config(list(made.stages.values())[-1].folder)
    text = victim.read_text()
    changed = {
        "seed": text.replace("seed: 0", "seed: 1"),
        "epochs": text.replace("epochs: 30.0", "epochs: 3.0"),
        "half": text[: len(text) // 2],
        "list": "[1, 2]",
        "empty": "",
        "binary": "\x00\x01",
    }[damage]
    assert changed != text
    victim.write_text(changed)
    others = {path: path.read_bytes() for path in paths.runs().rglob("*") if path.is_file()}
    assert main(["sweep", "method=omp_after", "method.sparsity=0.5,0.8", "run.seed=0"]) == 2
    message = capsys.readouterr().err
    assert str(victim) in message and "delete this file" in message
    assert {path: path.read_bytes() for path in paths.runs().rglob("*") if path.is_file()} == others
    victim.unlink()
    planner.write(made)
    assert victim.read_text() == text


def test_settings_that_do_not_matter_follow_the_request(folders):
    """Data that moved: what is not done yet is told the new place."""
    for name in ("here", "there"):
        data = write(folders / name, mnist_files())
        made = planner.make(
            arguments.parse(f"method=dense task.dataset=mnist task.validation=10 run.seed=0 data={data}".split())
        )
        planner.write(made)
        (only,) = made.stages.values()
        assert yaml.safe_load(paths.config(only.folder).read_text())["settings"]["task"]["data"] == str(data)
    assert len(list((paths.runs() / "classic").iterdir())) == 1


DAMAGE = {
    "config.yaml": ["", "{", "[1]", "\x00", "settings: 3\n", "label: [1]\nsettings: {run: 3}"],
    "status.json": ["", "{", "[1]", "null", "3"],
}


@pytest.mark.parametrize("name, content", [(name, text) for name, texts in DAMAGE.items() for text in texts])
def test_a_damaged_folder_breaks_no_view(capsys, name, content):
    for state, digest in (("done", "a" * 16), ("running", "b" * 16)):
        (stage(paths.runs(), digest, task="classic", state=state) / name).write_text(content)
    stage(paths.runs(), "c" * 16, task="classic")
    folder = planned("method=dense", "run.seed=0")[0]
    folder.mkdir()
    (folder / name).write_text(content)
    for verb in ("plan", "status", "report"):
        assert main([verb]) == 0, capsys.readouterr().err


YAML = {
    "launch/presets/default.yaml": [
        ("sweep: [", "is not valid YAML"),
        ("[1]", "must hold keys and values, found ['1']"),
        ("compare: imp\nsweep: {run.seed: [0]}", "compare must be a list of methods"),
        ("compare: [imp]\nsweeps: {run.seed: [0]}", "unknown key 'sweeps'; did you mean 'sweep'?"),
        ("compare: [imp]\nsweep: {run.sede: [0]}", "unknown key run.sede; did you mean 'run.seed'?"),
        ("compare: [imp]\nsweep: {run.seed: 0}", "run.seed must be a list of values, found '0'"),
        ("compare: [imp]\nsweep: {run.seed: [a]}", "launch/presets/default.yaml: sweep: run.seed: "),
        ("compare: [impp]\nsweep: {run.seed: [0]}", "unknown method 'impp'; did you mean 'imp'?"),
    ],
    "tasks/classic/config.yaml": [
        ("run: {epochs: 3", "is not valid YAML"),
        ("runs: {}", "unknown key 'runs'; did you mean 'run'?"),
        ("run: 3", "run must hold keys and values, found '3'"),
        ("run: {epoch: 3}", "unknown key run.epoch; did you mean 'epochs'?"),
        ("run: {epochs: many}", "tasks/classic/config.yaml: run.epochs"),
        ("methods: {rigel: {every: 3}}", "unknown key 'rigel'; did you mean 'rigl'?"),
        ("presets: {laptop: 3}", "must hold keys and values, found '3'"),
        ("presets: {laptop: {sweeps: {}}}", "unknown key 'sweeps'; did you mean 'sweep'?"),
        ("presets: 3", "presets must hold keys and values, found '3'"),
    ],
    "launch/clusters/local.yaml": [("workers: many", "must be a whole number"), ("- 3", "must hold keys and values")],
}


@pytest.mark.parametrize("name, content, message", [(n, *case) for n, cases in YAML.items() for case in cases])
def test_mistakes_in_the_projects_own_files(folders, monkeypatch, capsys, name, content, message):
    real = compose.read_yaml.__wrapped__

    def read(path):
        if not path.as_posix().endswith(name):
            return real(path)
        (folders / path.name).write_text(content)
        return real(folders / path.name)

    monkeypatch.setattr(compose, "read_yaml", read)
    assert main(["plan", f"preset={'laptop' if 'presets: {laptop' in content else 'default'}"]) == 2
    assert message in capsys.readouterr().err


def test_mistakes_in_a_copy_of_the_project(tmp_path):
    root = copy(tmp_path / "copy")
    (root / "common" / "methods" / "empty.py").write_text("")
    assert "must define a class named Method" in error(launch("plan", "method=empty", root=root))
    (root / "launch" / "presets" / "laptop.yaml").write_text("compare: [")
    assert "laptop.yaml is not valid YAML" in error(launch("plan", "preset=laptop", root=root))


@pytest.mark.parametrize("text, message", [("b = (", "SyntaxError"), ("import nothing_such", "nothing_such")])
def test_a_mistake_in_a_method_file_is_named_with_its_line(tmp_path, text, message):
    root = copy(tmp_path / "copy")
    (root / "common" / "methods" / "unfinished.py").write_text(f"a = 1\n{text}\n")
    said = error(launch("plan", "method=unfinished", root=root))
    assert "common/methods/unfinished.py, line 2: " in said and message in said


def test_methods_are_separated_by_commas():
    with pytest.raises(UserError, match="separated by commas: method=rigl,gmp"):
        arguments.parse(["method=rigl gmp"])
    assert arguments.parse(["method=rigl, gmp"]).methods == ["rigl", "gmp"]


def test_a_failed_stage_without_a_reason(capsys):
    folder = planned("method=dense", "run.seed=0")[0]
    folder.mkdir(parents=True)
    record.write_json(paths.status(folder), {"state": "failed", "reason": None})
    assert main(["plan", "method=dense", "run.seed=0"]) == 0
    assert "no reason was recorded" in capsys.readouterr().out


KEYS = [
    "task",
    "method",
    "preset",
    "format",
    "workers",
    "data",
    "run.seed",
    "run.steps",
    "run.epochs",
    "run.milestones",
]
KEYS += [
    "run.optimizer",
    "run.nesterov",
    "run.exclude",
    "task.dataset",
    "task.validation",
    "task.data",
    "method.sparsity",
]
KEYS += ["method.rates", "method.rounds", "method.rewind", "method.rate", "method.allocation", "run.", ".", "task.x.y"]
VALUES = [
    "0",
    "1",
    "-1",
    "0.5",
    "nan",
    "1e999",
    "",
    ",",
    "a",
    "imp",
    "rigl,imp",
    "null",
    "true",
    "[",
    "]",
    "[0.5]",
    "{a:1}",
]
VALUES += [
    "{a: b}",
    "{",
    "[[1]]",
    "{a:{b:1}}",
    "&a [*a]",
    "!!python/object:x",
    "layers",
    "pretrained",
    "²",
    "\udcff",
    "digits",
]
VALUES += ["mnist", "~no-such-user/x", "9" * 5000, "${run.seed}", "[" * 3000, "paper", "dense", "classic", "json"]


@given(st.lists(st.tuples(st.sampled_from(KEYS) | st.text(max_size=8), st.sampled_from(VALUES) | st.text(max_size=8))))
def test_any_words_give_cells_or_a_message(pairs):
    try:
        _, found = grid.cells(arguments.parse([f"{key}={value}" for key, value in pairs]))
        assert found
    except UserError as problem:
        assert str(problem)
