"""Where a pretrained embedding lies: in a folder or in a hub's cache. No torch in here.

``files`` names everything that decides what the embedding starts from, for a checksum before anything is queued.
"""

from pathlib import Path

from common.data import hub
from common.errors import UserError
from tasks.arithmetic.config import Config

tokenizers = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",), ("sentencepiece.bpe.model",))
beside = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")  # may be missing
wanted = list(dict.fromkeys([*(name for names in tokenizers for name in names), *beside]))  # beside the model


def files(config: Config) -> list[Path]:
    """The files that decide the pretrained embedding, config.json first; none where words are learned from scratch."""
    if config.embedding != "pretrained":
        return []
    expected = _expected(config)
    folder = hub.own(config.pretrained, "folder", expected) if config.pretrained else hub.cached(config.hub, expected)
    found = hub.files(folder, expected)
    if not any(all((folder / name).is_file() for name in names) for names in tokenizers):
        kinds = " or ".join(" and ".join(names) for names in tokenizers)
        raise UserError(f"{folder}: the tokenizer's {kinds} is missing; {expected}")
    return found + [folder / name for name in wanted if (folder / name).is_file()]


def fetch(config: Config) -> Path:
    """The embedding's folder; what ``task.hub`` names is downloaded into the hub's cache, unless it is there."""
    if config.hub:
        hub.fetch(config.hub, wanted)
    return files(config)[0].parent


def _expected(config: Config) -> str:
    name = config.hub or "roberta-base"
    return (
        "expected a folder with config.json, the tokenizer's files and model.safetensors (or pytorch_model.bin) as "
        "task.pretrained, or a model of a hub as task.hub, fetched where there is a network: make prepare "
        f'TASK=arithmetic SET="task.embedding=pretrained task.hub={name}" (or with the PRESET= that asks for it)'
    )
