"""Every data set as sequences with targets and parts, whatever files it comes in, and its fixed splits. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.data import files, published, splits
from common.errors import UserError
from tasks.protein.config import Config, classes, folder, folds, limits, target
from tasks.protein.files import checks, fasta_csv_pickle, generated
from tasks.protein.files.addresses import also, elsewhere, homes, sequences, sums
from tasks.protein.files.checks import TEST, TRAIN, VALIDATION
from tasks.protein.files.fasta_csv_pickle import Entry

split_seed = 20_230_501  # of splits that no file gives; independent of the run's seed: all runs see the same test set
smallest_validation = 10  # fewer would make selection a coin toss

# HotProtein's own files: names of the folder (or archive) of sequences, and of a fold's pickle without its ending.
pickled = {
    "hp-s": (("S_target", "S/S_target"), "S_target"),
    "hp-s2c2": (("d1_fasta_clean", "d1/d1_fasta_clean"), "d1_{fold}"),
    "hp-s2c5": (("d2_fasta_clean", "d2/d2_fasta_clean"), "d2_{fold}"),
}
parted = {"hp-s2c2": "s2c2_{fold}_{part}.csv", "hp-s2c5": "s2c5_{fold}_{part}.csv"}  # a file for each part
whole = {"meltome": ("mixed_split.csv", "mixed_split.fasta"), "hp-s": ("hp_s.csv",)}  # one file for all
# Where a CSV has its degrees. Growth and melting temperatures are two quantities: neither is read for the other.
growth, melting, either = ("ogt", "growth_temperature"), ("tm",), ("target", "tgt_reg", "temperature")


@dataclass(frozen=True)
class Source:
    """One fold: names, sequences, where each stands (file:line), float64 targets (a class or degrees) and parts int8.

    ``warnings`` say which files are not the published ones, and what was left out, is in two parts, or is suspicious.
    """

    names: list[str]
    sequences: list[str]
    where: list[str]
    targets: np.ndarray
    parts: np.ndarray
    warnings: list[str]

    @property
    def counts(self) -> str:
        """How many sequences there are, in words."""
        parts = {"training": TRAIN, "validation": VALIDATION, "test": TEST}
        return ", ".join(f"{int((self.parts == part).sum())} {name}" for name, part in parts.items()) + " sequences"


def read(config: Config) -> dict[int, Source]:
    """What ``config.fold`` asks for, completely checked: one fold, or all of them by number for -1."""
    wanted = range(folds) if config.fold == -1 else [config.fold]
    if config.dataset == "generated":
        pairs = enumerate(zip(*generated.sequences()))
        entries = [Entry(f"generated-{i}", letters, f"generated:{i}", str(t)) for i, (letters, t) in pairs]
        return {fold: _finish(config, _degrees(config, entries), fold) for fold in wanted}
    place = folder(config)
    if not place.is_dir():
        expected = f"the files of {config.dataset} in it{_help(config)}"
        raise UserError(f"{place}: there is no such folder; expected {expected}")
    found = _layout(config, place, list(wanted))
    sources = {}
    for fold, rows, others in found:
        sources[fold] = one = _finish(config, rows, fold)
        one.warnings[:0] = published.unlike(config.dataset, others, one.counts)
    return sources


Fold = tuple[int, list, list[str]]  # its number, its rows (an entry and its target), and files that are not published


def _layout(config: Config, place: Path, wanted: list[int]) -> Iterator[Fold]:
    """The folds ``wanted`` from whichever files lie in ``place``."""
    if config.file:
        return _one_file(config, place / config.file, wanted)
    there = [path for path in roots(config, place) if path.exists()]
    if config.dataset in pickled and there:
        return _pickles(config, there[0], wanted)
    if config.dataset in parted and (place / parted[config.dataset].format(fold=wanted[0], part="train")).is_file():
        return _parts(config, place, wanted)
    usual = [place / name for name in whole.get(config.dataset, ())]
    single = sorted(path for path in place.iterdir() if fasta_csv_pickle.ending(path))
    there = [path for path in usual if path.is_file()] or single
    # Any file could be HP-S or Meltome; the other two have files of their own, and another's would be scored as theirs.
    if there and (there[0] in usual or (len(there) == 1 and config.dataset not in parted)):
        return _one_file(config, there[0], wanted)
    expected = [path.name for path in [*roots(config, place)[:1], *usual]]
    expected += [parted[config.dataset].format(fold=wanted[0], part="train")] if config.dataset in parted else []
    several = f" or one CSV or FASTA file (there are {len(there)}; name it with task.file=)" if there else ""
    seen = f", found {', '.join(path.name for path in sorted(place.iterdir())[:5]) or 'nothing'}"
    others = sorted({_usual(path.name) for path in single} - {"", config.dataset})
    seen += f" (files of {', '.join(others)}: is that the task.dataset?)" if others else ""
    raise UserError(f"{place}: expected {' or '.join(expected)}{several} in it{seen}{_help(config)}")


def _usual(name: str) -> str:
    """The data set whose usual file has this name; empty where none has."""
    name = name.lower().removesuffix(".gz")
    found = {file: dataset for dataset, files in whole.items() for file in files}
    found |= {f"{Path(root).name.lower()}.fasta": dataset for dataset, (roots, _) in pickled.items() for root in roots}
    for dataset, like in parted.items():
        found |= {like.format(fold=fold, part=part): dataset for fold in range(folds) for part in ("train", "test")}
    return found.get(name, "")


def roots(config: Config, place: Path) -> list[Path]:
    """Where HotProtein's sequences may lie: folders, archives, files."""
    names, _ = pickled.get(config.dataset, ((), ""))
    return [place / f"{name}{ending}" for name in names for ending in ("", ".tar.gz", ".tar", ".fasta")]


def _unlike(config: Config, *paths: Path) -> list[str]:
    """Those of the files that are not the published ones, where these are known."""
    known = {**sums.get(config.dataset, {}), **also.get(config.dataset, {})}
    return [str(path) for path in paths if known and files.md5(path) != known.get(path.name)]


def of_sequences(found: dict[str, Entry]) -> str:
    """The MD5 sum of names and sequences, whatever form they come in."""
    return files.md5_of(*(f"{name} {found[name].sequence}\n".encode() for name in sorted(found)))


def _pickles(config: Config, root: Path, wanted: list[int]) -> Iterator[Fold]:
    like = pickled[config.dataset][1]
    if "{fold}" not in like:
        _only_split(config, root.parent / f"{like}.pkl")
    found = fasta_csv_pickle.folder_of_fasta(root)
    others = [str(root)] if of_sequences(found) != sequences.get(config.dataset) else []
    others = _unlike(config, root) and others  # an archive as published, or what is in it
    for fold in wanted:
        stem = like.format(fold=fold)
        labelled, plain = root.parent / f"{stem}_classification.pkl", root.parent / f"{stem}.pkl"
        ready = target(config) == "class" and not config.boundaries and labelled.is_file()
        path = labelled if ready else plain
        if not path.is_file():
            raise UserError(f"{path}: there is no such file; expected the fold that task.fold asks for{_help(config)}")
        rows = []
        for part, members in fasta_csv_pickle.fold(path).items():
            for at, (name, value) in enumerate(members):
                where = f"{path}: {part}_labels[{at}]"
                if name not in found:
                    raise UserError(f"{path}: {part}_names[{at}] is {name!r}, of which {root} has no sequence")
                own = found[name]
                entry = Entry(name, own.sequence, own.where, "" if ready else str(value), part)
                if ready and value not in range(classes(config)):
                    raise UserError(f"{where}: expected a class, 0-{classes(config) - 1}, found {value!r}")
                rows.append((entry, float(value) if ready else _target(config, str(value), where)))
        yield fold, rows, others + _unlike(config, path)


def _parts(config: Config, place: Path, wanted: list[int]) -> Iterator[Fold]:
    for fold in wanted:
        entries, paths = [], []
        for part in ("train", "test"):
            path = place / parted[config.dataset].format(fold=fold, part=part)
            if not path.is_file():
                raise UserError(f"{path}: there is no such file; expected both parts of the fold{_help(config)}")
            paths.append(path)
            for entry in fasta_csv_pickle.table(fasta_csv_pickle.decoded(path), str(path), *_columns(config)):
                if entry.part not in ("", part):
                    raise UserError(f"{entry.where}: set is {entry.part}, in the file of the {part} sequences")
                entries.append(Entry(entry.name, entry.sequence, entry.where, entry.value, part, entry.validation))
        yield fold, _degrees(config, entries), _unlike(config, *paths)


def _one_file(config: Config, path: Path, wanted: list[int]) -> Iterator[Fold]:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file{_help(config)}")
    if _usual(path.name) not in ("", config.dataset):
        raise UserError(
            f"{path}: this is the usual name of a file of {_usual(path.name)}, and task.dataset is {config.dataset}: "
            f"its results would stand under the wrong name; set task.dataset={_usual(path.name)}, or rename the file"
        )
    entries = fasta_csv_pickle.one_file(path, *_columns(config))
    missing = [entry for entry in entries if not entry.part]
    if missing and len(missing) < len(entries):
        raise UserError(f"{missing[0].where}: says neither train nor test, while other sequences of the file do")
    if not missing:
        _only_split(config, path)
    rows, others = _degrees(config, entries), _unlike(config, path)
    return ((fold, rows, others) for fold in wanted)


def _columns(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the columns that may hold the data set's temperature, and of those that hold another."""
    return ((*either, *melting), growth) if config.dataset == "meltome" else ((*either, *growth), melting)


def _only_split(config: Config, path: Path) -> None:
    """UserError where a fold is asked of a file that has one split, its own, which is every seed's."""
    if config.fold > 0:
        raise UserError(f"{path}: has one split, its own; expected task.fold=0, found {config.fold}")


def _degrees(config: Config, entries: list[Entry]) -> list:
    return [(entry, _target(config, entry.value, entry.where, entry.column)) for entry in entries]


def _target(config: Config, value: str, where: str, column: str = "") -> float:
    """Degrees, or the number of the class that they are in."""
    degrees = fasta_csv_pickle.number(value, where, column)
    if target(config) == "temperature":
        return degrees
    return float(np.searchsorted(limits(config), degrees, side="right"))


def _finish(config: Config, rows: list, fold: int) -> Source:
    """Duplicates found, parts dealt where the files do not, and all of it checked."""
    own, file = bool(rows[0][0].part), rows[0][0].where.rpartition(":")[0]
    warnings = checks.temperatures([entry for entry, _ in rows])
    rows = _without_duplicates(config, rows, warnings)
    entries, targets = [entry for entry, _ in rows], np.array([value for _, value in rows])
    if own:
        numbers = [TEST if e.part == "test" else VALIDATION if e.validation else TRAIN for e in entries]
        parts = np.array(numbers, np.int8)
        if not (parts == TEST).any() or (parts == TEST).all():
            expected = "expected sequences for training and for testing"
            raise UserError(f"{entries[0].where}: {expected}, found one of the two")
    else:
        parts = np.full(len(entries), TRAIN, np.int8)
        order = splits.order(split_seed, len(entries))
        parts[order[len(entries) * fold // folds : len(entries) * (fold + 1) // folds]] = TEST
        if not (parts == TEST).any():
            raise UserError(f"{file}: {len(entries)} sequences are too few for {folds} folds: none is left to test")
    parts = _with_validation(config, targets, parts, file)
    if not (parts == TRAIN).any():
        raise UserError(f"{file}: no sequence is left for training, all are for validation or testing")
    checks.variety(config, entries, targets, parts)
    warnings += checks.names(config, entries) + checks.leaks(entries, parts)
    names, sequences, where = ([getattr(entry, kind) for entry in entries] for kind in ("name", "sequence", "where"))
    return Source(names, sequences, where, targets, parts, warnings)


def _without_duplicates(config: Config, rows: list, warnings: list[str]) -> list:
    """The first row of each sequence of a part; ``warnings`` says what was left out, and where targets differ."""
    first: dict[tuple[str, str], tuple[Entry, float]] = {}
    dropped = []
    for entry, value in rows:
        other, kept = first.setdefault((entry.part, entry.sequence), (entry, value))
        if other is entry:
            continue
        if config.duplicates != "first":
            of = f" of the {entry.part} sequences" if entry.part else ""
            other_target = f", with another target ({value:g}, not {kept:g})" if value != kept else ""
            raise UserError(
                f"{entry.where}: the same sequence{of} as {other.where}{other_target}; expected each once. Leave one "
                "out, or keep the first of each with task.duplicates=first"
            )
        dropped.append((entry, value, other, kept))
    if dropped:
        were, differ = "s were" if len(dropped) > 1 else " was", [row for row in dropped if row[1] != row[3]]
        text = f"{len(dropped)} duplicate sequence{were} left out, first {dropped[0][0].where}"
        if differ:
            entry, value, other, kept = differ[0]
            where = f"first {entry.where}: {value:g}, {kept:g} in {other.where}"
            text += f"; {len(differ)} of them had another target ({where})"
        warnings.append(text)
    return list(first.values())


def _with_validation(config: Config, targets: np.ndarray, parts: np.ndarray, file: str) -> np.ndarray:
    """``parts`` with the validation sequences marked: the file's own, or drawn evenly over the sorted targets."""
    marked = (parts == VALIDATION).any()
    if config.validation == -1 and marked:
        return parts
    free = np.flatnonzero(parts != TEST)
    size = config.validation if config.validation >= 0 else max(len(free) // 10, smallest_validation)
    if size and len(free) < 2 * smallest_validation:
        raise UserError(
            f"{file}: {len(free)} sequences beside the test set are too few to hold {smallest_validation} out for "
            f"validation and train on as many; bring more, or set task.validation=0 run.select=last"
        )
    if size and not smallest_validation <= size <= len(free) - smallest_validation:
        raise UserError(
            f"task.validation is {config.validation}; with {len(free)} sequences beside the test set it must be 0 or "
            f"lie between {smallest_validation} and {len(free) - smallest_validation}"
        )
    parts = parts.copy()
    parts[free] = TRAIN
    if size:
        order = free[np.lexsort((splits.draws(split_seed, len(parts))[free], targets[free]))]
        parts[order[(2 * np.arange(size) + 1) * len(free) // (2 * size)]] = VALIDATION
    return parts


def _help(config: Config) -> str:
    if config.dataset in homes:
        fold = f" task.fold={config.fold}" if config.fold else ""
        how = f'fetch it with `make prepare TASK=protein SET="task.dataset={config.dataset}{fold}"`, or '
    else:
        how = f"{elsewhere[config.dataset]}; "
    return f"; {how}name another folder with DATA=<folder>"
