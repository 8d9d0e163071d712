"""Pretrained models as transformers writes them: the files of a folder that decide one, and a hub's copies of it.

Nothing but ``load`` and ``network`` needs torch: files are fingerprinted before anything is queued. Transformers is
imported here alone. Every problem is a UserError; what helps is said in the words that a task gives as ``expected``.
"""

import contextlib
import importlib
import json
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from common.errors import UserError, install, reason

single = ("model.safetensors", "pytorch_model.bin")  # the weights in one file; the first that is there is read
sharded = "model.safetensors.index.json"  # stands in for them where they are several files


def files(folder: Path, expected: str) -> list[Path]:
    """config.json and the files of weights that transformers loads from ``folder``, nothing else of it."""
    settings, index = one_of(folder, ["config.json"], expected), folder / sharded
    _no_other_file(settings)
    if index.is_file() and not any((folder / name).is_file() for name in single):
        return [settings, index, *_shards(index)]
    return [settings, one_of(folder, single, expected)]


def one_of(folder: Path, names: Iterable[str], expected: str) -> Path:
    """The first file of ``folder`` among ``names`` that is there."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: {' or '.join(names)} is missing; {expected}")


def _shards(index: Path) -> list[Path]:
    """The files of weights that ``index`` names, which are those that transformers loads."""
    named = read_json(index).get("weight_map")
    names = sorted(set(map(str, named.values()))) if isinstance(named, dict) else []
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise UserError(f"{index}: names {name!r}, and no such file lies beside it; fetch the folder again")
    if not names:
        raise UserError(f"{index}: expected weight_map, the file of every weight, found none")
    return [index.parent / name for name in names]


def _no_other_file(settings: Path) -> None:
    """UserError where a folder sends transformers to weights that ``files`` would not name."""
    other, adapter = read_json(settings).get("transformers_weights"), settings.parent / "adapter_config.json"
    if other is not None:
        raise UserError(
            f"{settings}: transformers_weights is {other!r}; expected the weights in {' or '.join(single)}: take the "
            "key out, and give the file that name"
        )
    if adapter.is_file():
        what = "expected plain weights, found an adapter to others"
        raise UserError(f"{adapter}: {what}; merge it into them, or move it")


def read_json(path: Path) -> dict:
    """The settings in ``path``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UserError(f"{path}: expected a JSON file ({problem})") from problem
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def own(pretrained: str, kind: str, expected: str) -> Path:
    """The user's file or folder (``kind``) that ``task.pretrained`` names, which exists."""
    path = Path(pretrained).expanduser()
    if not (path.is_file() if kind == "file" else path.is_dir()):
        raise UserError(f"task.pretrained is '{pretrained}', and there is no such {kind}; {expected}")
    return path


def cached(name: str, expected: str) -> Path:
    """The folder of the model ``name`` (``task.hub``) in the hub's cache on this machine; no network is used."""
    with _installed():
        import huggingface_hub
    try:
        return Path(huggingface_hub.snapshot_download(name, local_files_only=True))
    except Exception as problem:  # not in the cache, or no name a hub could have
        raise UserError(f"task.hub={name} is not in the hub's cache on this machine; {expected}") from problem


def fetch(name: str, beside: list[str]) -> None:
    """Download a model and its files ``beside`` into the hub's cache, unless it is there."""
    with _installed():
        import huggingface_hub
    wanted = ["config.json", "model*.safetensors", sharded, *beside]
    try:
        found = Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
        if not list(found.glob("model*.safetensors")):  # older models have the pickle alone, which is read safely
            huggingface_hub.snapshot_download(name, allow_patterns=["pytorch_model.bin"])
    except Exception as problem:  # the hub raises a dozen kinds; all of them mean that it was not fetched
        raise UserError(
            f"task.hub={name} could not be fetched ({reason(problem)}); repeat this where there is a network, or name "
            "a folder: task.pretrained"
        ) from problem


@contextlib.contextmanager
def _installed():
    try:
        yield
    except ImportError as problem:
        how = f"read with the package transformers; install it: {install('transformers')}"
        raise UserError(f"pretrained models are {how}") from problem


def library() -> Any:
    """The package transformers, silent; ``UserError`` where it is missing."""
    with _installed():  # by name: common itself stands without it
        transformers = importlib.import_module("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def load(kind: str, folder: Path, **options) -> Any:
    """What the class ``kind`` of transformers reads from ``folder``, without a network and running no code from it."""
    loader = getattr(library(), kind)
    try:
        return loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except Exception as problem:  # transformers, safetensors and torch have a dozen kinds between them
        raise UserError(
            f"{folder}: expected a model and a tokenizer as transformers writes them ({kind}: {reason(problem)}); "
            "fetch them again"
        ) from problem


def network(kind: str, folder: Path, ignore: tuple[str, ...], **options) -> Any:
    """The network that ``load`` gives, in float32, every weight of it from the files of ``folder``.

    ``ignore``: patterns of the names of weights that belong to parts that nothing here asks for, such as heads.
    Attention is computed step by step: fused kernels have no second derivative on a CPU, which some methods ask for.
    """
    options |= dict(attn_implementation="eager", dtype="float32", weights_only=True)  # the last: of a pickle
    loads = dict(output_loading_info=True, ignore_mismatched_sizes=True)  # which are reported here, all at once
    made, loaded = load(kind, folder, **loads, **options)
    # every weight and no other: a layer that config.json leaves out is not to be lost in silence
    faults = [(key, "missing") for key in sorted(loaded["missing_keys"])]
    faults += [(key, f"{list(there)}, not {list(asked)}") for key, there, asked in sorted(loaded["mismatched_keys"])]
    faults += [(key, "in the file and not in the network") for key in sorted(loaded["unexpected_keys"])]
    found = [f"{key} is {fault}" for key, fault in faults if not any(fnmatch(key, pattern) for pattern in ignore)]
    if found:
        raise UserError(
            f"{folder} does not hold the weights that its config.json describes: {'; '.join(found[:5])} "
            f"({len(found)} in all); fetch both once more"
        )
    return made
