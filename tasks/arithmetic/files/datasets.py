"""Every data set as training, validation and test problems, whatever folder its files lie in. No torch."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.data import published, splits
from common.data.files import md5
from common.errors import UserError
from tasks.arithmetic import vocabulary
from tasks.arithmetic.config import Config, folder, folds
from tasks.arithmetic.files import generated, mawps_asdiv_svamp
from tasks.arithmetic.files.addresses import below, sums
from tasks.arithmetic.files.mawps_asdiv_svamp import Fault
from tasks.arithmetic.problem import Problem
from tasks.arithmetic.vocabulary import Vocabulary

split_seed = 20_220_630  # of the validation problems; independent of the run's seed: every run selects on the same
shown = 24  # bad rows that are named; the rest are counted
parts = ("train", "dev")  # the files of a split


@dataclass(frozen=True)
class Source:
    """One fold. With ``task.protocol=published`` ``validation`` is ``test`` itself.

    ``warnings`` say which files are not the published ones, what was left out, what they state wrongly, and what is in
    two parts; ``vocabulary`` is that of the training problems. Training problems whose equation cannot be answered (a
    constant rarer than ``task.least_constants``) are left out of training alone. ``asked``: the words of every problem
    of the training part, those held out for validation and those left out too, so that it is the same whatever selects.
    """

    train: list[Problem]
    validation: list[Problem]
    test: list[Problem]
    warnings: list[str]
    vocabulary: Vocabulary
    asked: set[tuple[str, ...]]

    @property
    def counts(self) -> str:
        """How many problems there are, in words."""
        count = 0 if self.validation is self.test else len(self.validation)
        held = f"{count} validation" if count else "none held out"
        return f"{len(self.train)} training, {held}, {len(self.test)} test problems"


def read(config: Config) -> dict[int, Source]:
    """What ``config.fold`` asks for, completely checked: one fold, or all of them by number for -1."""
    wanted = range(folds[config.dataset]) if config.fold == -1 else [config.fold]
    if config.dataset == "generated":
        return {fold: _finish(config, *generated.problems(), "generated", []) for fold in wanted}
    found, faults = {}, []
    for fold in wanted:
        files = _files(config, fold)
        tables = [mawps_asdiv_svamp.table(path, graphs=config.model == "graph2tree") for path in files]
        bad = [fault for _, some in tables for fault in some]
        found[fold] = [problems for problems, _ in tables], bad, files
        faults += bad
    if faults and config.unreadable == "refuse":
        lines = "\n  ".join([f"{_rows(faults)} refused ({_kinds(faults)}):", *_named(faults)])
        how = "Mend the files, or leave these rows out, counted in a warning, with task.unreadable=skip"
        raise UserError(f"{lines}\n{how}")
    sources = {}
    for fold, ((train, test), bad, files) in found.items():
        sources[fold] = one = _finish(config, train, test, str(files[0].parent), bad)
        known = zip(files, (sums[config.dataset][name] for name in inside(config, fold)), strict=True)
        others = [str(path) for path, own in known if md5(path) != own]
        one.warnings[:0] = published.unlike(config.dataset, others, one.counts)
    return sources


def roots(config: Config) -> list[Path]:
    """The folders that may hold the data set's files or its folds, the likeliest first."""
    place, public = folder(config), below[config.dataset]
    return [place, *(place / name for name in (public, config.dataset, f"{config.dataset}/{public}", f"data/{public}"))]


def inside(config: Config, fold: int) -> list[str]:
    """The names of a fold's two files below the folder of its data set."""
    return [f"fold{fold}/{part}.csv" if folds[config.dataset] > 1 else f"{part}.csv" for part in parts]


def _files(config: Config, fold: int) -> list[Path]:
    """The files of the fold's training and evaluation part, both there."""
    place, names = folder(config), inside(config, fold)
    if not place.is_dir():
        expected = f"the files of {config.dataset} in it{_help(config)}"
        raise UserError(f"{place}: there is no such folder; expected {expected}")
    for root in roots(config):
        files = [root / name for name in names]
        there = [path.is_file() for path in files]
        if all(there):
            _no_other(config, root)
            return files
        if any(there):
            missing = files[there.index(False)]
            raise UserError(f"{missing}: there is no such file; expected both parts of the split{_help(config)}")
    seen = ", ".join(path.name for path in sorted(place.iterdir())[:5]) or "nothing"
    raise UserError(
        f"{place}: expected {' and '.join(names)} in it, or in {below[config.dataset]} or {config.dataset} in it, "
        f"found {seen}{_help(config)}"
    )


def _no_other(config: Config, root: Path) -> None:
    """UserError where the folder has another data set's name, whose results would stand under the wrong one."""
    place = root.resolve()
    fold = re.fullmatch(r"fold\d", place.name)
    if fold and folds[config.dataset] == 1:
        raise UserError(
            f"{root}: this is the usual folder of a fold, and {config.dataset} has none: its results would stand under "
            "the wrong name; name the folder of the data set, or rename it"
        )
    name = place.parent.name if fold else place.name
    for other in below:
        if other != config.dataset and name in (other, below[other]):
            raise UserError(
                f"{root}: this is the usual folder of {other}, and task.dataset is {config.dataset}: its results would "
                f"stand under the wrong name; set task.dataset={other}, or rename the folder"
            )


def _rows(faults: list[Fault]) -> str:
    return f"{len(faults)} row{'s were' if len(faults) > 1 else ' was'}"


def _named(faults: list[Fault]) -> list[str]:
    return first([f"{fault.where}: {fault.text}" for fault in faults])


def first(lines: list[str]) -> list[str]:
    """The first of them, and how many there are besides."""
    rest = [f"... and {len(lines) - shown} more"] if len(lines) > shown else []
    return lines[:shown] + rest


def _kinds(faults: list[Fault]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(fault.kind for fault in faults).items()))


def _finish(config: Config, train: list[Problem], test: list[Problem], origin: str, bad: list[Fault]) -> Source:
    """Warnings, and the validation problems held out."""
    warnings = []
    if bad:
        warnings.append(f"{_rows(bad)} skipped ({_kinds(bad)}): {'; '.join(_named(bad))}")
    for name, some in (("training", train), ("evaluation", test)):
        if not some:
            raise UserError(f"{origin}: no {name} problem is left; expected at least one that can be used")
    asked = {tuple(problem.words) for problem in train}
    warnings += _of_rows([*train, *test]) + _leaks(train, test, asked)
    if long := [problem for problem in test if len(problem.equation) > config.longest]:
        warnings.append(
            f"the equations of {len(long)} of {len(test)} evaluation problems have more nodes than "
            f"task.longest={config.longest}, so none of them can be answered with its own (first {long[0].where})"
        )
    if config.protocol == "published":
        warnings.append(
            "task.protocol=published: nothing was held out, validation is of the evaluation part itself, and where "
            "run.select chooses by it scores are too good"
        )
        validation = test
    else:
        held = _held_out(config, train, origin)
        validation = [problem for problem, out in zip(train, held) if out]
        train = [problem for problem, out in zip(train, held) if not out]
    rare = vocabulary.rare([problem.equation for problem in train], config.least_constants)
    answerable = [problem for problem in train if rare.isdisjoint(problem.equation)]
    if not answerable:
        raise UserError(
            f"no training problem is left: every equation has a constant that occurs less often than "
            f"task.least_constants={config.least_constants}; expected a smaller one"
        )
    if left := len(train) - len(answerable):
        warnings.append(
            f"{left} of {len(train)} training problems were left out of training: their equations have constants that "
            f"occur less than {config.least_constants} times (task.least_constants)"
        )
    known = vocabulary.build(  # of what is trained on alone: what a left-out problem tells would never be learned
        [problem.words for problem in answerable],
        [problem.equation for problem in answerable],
        [len(problem.numbers) for problem in answerable],
        config.least_count,
    )
    if config.embedding == "learned" and len(known.words) == len(vocabulary.special):
        raise UserError(
            f"{origin}: no word of the {len(answerable)} training problems occurs "
            f"task.least_count={config.least_count} times, so none would be known; expected a smaller one"
        )
    return Source(answerable, validation, test, warnings, known, asked)


def _of_rows(problems: list[Problem]) -> list[str]:
    found = []
    if wrong := [problem for problem in problems if not problem.gives]:
        none = sum(problem.value is None for problem in wrong)
        without = f", {none} of them without any value, which no answer can have" if none else ""
        found.append(
            f"the equations of {len(wrong)} of {len(problems)} problems do not give the stated answer{without}; they "
            f"are kept (first {wrong[0].where})"
        )
    if outside := [problem for problem in problems if problem.beyond]:
        found.append(
            f"group_nums of {len(outside)} of {len(problems)} problems have positions outside the question, which were "
            f"left out (first {outside[0].where})"
        )
    return found


def _leaks(train: list[Problem], test: list[Problem], asked: set[tuple[str, ...]]) -> list[str]:
    """A sentence where problems of the evaluation part are also in the training part."""
    seen = {_key(problem): problem for problem in train}
    both = [problem for problem in test if _key(problem) in seen]
    if not both:
        return []
    alike = sum(tuple(problem.words) in asked for problem in test) - len(both)
    return [
        f"{len(both)} of {len(test)} evaluation problems are also among the training problems, with the same numbers "
        f"(and {alike} with others): scores are too good (first {both[0].where}, which is {seen[_key(both[0])].where})"
    ]


def _key(problem: Problem) -> tuple:
    return tuple(problem.words), tuple(problem.numbers)


def _held_out(config: Config, train: list[Problem], origin: str) -> np.ndarray:
    """bool [problems]: those for validation. Problems of one question go together, so that none is trained on."""
    size = config.validation if config.validation >= 0 else max(1, len(train) // 10)
    held = np.zeros(len(train), bool)
    groups: dict[tuple, list[int]] = {}
    for at, problem in enumerate(train):
        groups.setdefault(tuple(problem.words), []).append(at)
    members = list(groups.values())
    left = size
    for group in splits.order(split_seed, len(members)):
        if len(members[group]) <= left:
            held[members[group]] = True
            left -= len(members[group])
    if left or (size and held.all()):
        raise UserError(
            f"{origin}: {size} of {len(train)} training problems cannot be held out for validation (a question's "
            f"problems stay together, and {len(members)} questions differ); choose another task.validation, or "
            "task.validation=0 run.select=last"
        )
    return held


def _help(config: Config) -> str:
    how = f'`make prepare TASK=arithmetic SET="task.dataset={config.dataset}"`'
    return f"; fetch it with {how}, or name another folder with DATA=<folder>"
