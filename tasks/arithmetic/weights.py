"""Where a pretrained embedding lies: in a folder or in a hub's cache. No torch in here.

``files`` names everything that decides what the embedding starts from, so that a checksum can be made of it before
anything is queued. Every problem is a UserError: which file, what was expected, what helps.
"""

import json
from pathlib import Path

from common.errors import UserError
from tasks.arithmetic.config import Config

single = ("model.safetensors", "pytorch_model.bin")  # the weights in one file; the first that is there is read
sharded = "model.safetensors.index.json"  # stands in for them where they are several files
tokenizers = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",), ("sentencepiece.bpe.model",))
beside = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")  # may be missing
wanted = ["config.json", *(name for names in tokenizers for name in names), *beside]  # of a hub, beside the weights


def files(config: Config) -> list[Path]:
    """The files that decide the pretrained embedding; none where words are learned from scratch."""
    if config.embedding != "pretrained":
        return []
    folder = place(config)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: config.json is missing; {_expected(config)}")
    _no_other_file(folder)
    found = [folder / "config.json"]
    weights = next((folder / name for name in single if (folder / name).is_file()), None)
    if weights is not None:
        found.append(weights)
    elif (folder / sharded).is_file():
        found += [folder / sharded, *_shards(folder / sharded)]
    else:
        raise UserError(f"{folder}: {' or '.join(single)} is missing; {_expected(config)}")
    if not any(all((folder / name).is_file() for name in names) for names in tokenizers):
        kinds = " or ".join(" and ".join(names) for names in tokenizers)
        raise UserError(f"{folder}: the tokenizer's {kinds} is missing; {_expected(config)}")
    names = dict.fromkeys([*(name for names in tokenizers for name in names), *beside])
    return found + [folder / name for name in names if (folder / name).is_file()]


def _shards(index: Path) -> list[Path]:
    """The files of weights that ``index`` names, which are those that transformers loads."""
    named = _json(index).get("weight_map")
    names = sorted(set(map(str, named.values()))) if isinstance(named, dict) else []
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise UserError(f"{index}: names {name!r}, and no such file lies beside it; fetch the folder again")
    if not names:
        raise UserError(f"{index}: expected weight_map, the file of every weight, found none")
    return [index.parent / name for name in names]


def _no_other_file(folder: Path) -> None:
    """UserError where the folder sends transformers to weights that ``files`` would not name."""
    settings, adapter = folder / "config.json", folder / "adapter_config.json"
    other = _json(settings).get("transformers_weights")
    if other is not None:
        raise UserError(
            f"{settings}: transformers_weights is {other!r}; expected the weights in {' or '.join(single)}: take the "
            "key out, and give the file that name"
        )
    if adapter.is_file():
        raise UserError(
            f"{adapter}: expected plain weights, found an adapter to others; merge it into them, or move it"
        )


def _json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UserError(f"{path}: expected a JSON file ({problem})") from problem
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def place(config: Config) -> Path:
    """The folder of the weights, which exists; hub names are looked up in the local cache."""
    if config.pretrained:
        path = Path(config.pretrained).expanduser()
        if not path.is_dir():
            raise UserError(
                f"task.pretrained is '{config.pretrained}', and there is no such folder; {_expected(config)}"
            )
        return path
    hub = _library()
    try:
        return Path(hub.snapshot_download(config.hub, local_files_only=True))
    except Exception as problem:  # not in the cache, or no name a hub could have
        raise UserError(
            f"task.hub={config.hub} is not in the hub's cache on this machine; {_expected(config)}"
        ) from problem


def fetch(config: Config) -> Path:
    """Download what ``task.hub`` names into the hub's cache, unless it is there; the folder it is in."""
    hub = _library()
    try:
        found = Path(hub.snapshot_download(config.hub, allow_patterns=[*wanted, "model*.safetensors", sharded]))
        if not list(found.glob("model*.safetensors")):  # older models have the pickle alone, which is read safely
            hub.snapshot_download(config.hub, allow_patterns=["pytorch_model.bin"])
    except Exception as problem:  # the hub raises a dozen kinds; all of them mean that it was not fetched
        reason = " ".join(str(problem).split())[:300]
        raise UserError(
            f"task.hub={config.hub} could not be fetched ({type(problem).__name__}: {reason}); {_expected(config)}"
        ) from problem
    files(config)
    return found


def _library():
    try:
        import huggingface_hub
    except ImportError as problem:
        raise UserError("task.hub needs the package transformers; install it: pip install transformers") from problem
    return huggingface_hub


def _expected(config: Config) -> str:
    name = config.hub or "roberta-base"
    return (
        "expected a folder with config.json, the tokenizer's files and model.safetensors (or pytorch_model.bin) as "
        "task.pretrained, or a model of a hub as task.hub, fetched where there is a network: make prepare "
        f'TASK=arithmetic SET="task.embedding=pretrained task.hub={name}"'
    )
