"""The table of verbs: what each does, in which file, and which words it listens to.

It drives ``python -m launch``, its help, and the part of the Makefile that `make docs` writes. It needs the standard
library alone, so that nothing is imported for a verb that is not asked for.
"""

import importlib
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from launch.request.keys import KEYS

WHAT = ("task", "method", "preset", "data", "task.", "method.", "run.")
WIDTH = 110  # columns of the help


@dataclass(frozen=True)
class Verb:
    """``file``: in ``launch/cli/``, with a function named as the verb; ``help``: one line.

    ``keys``: of ``KEYS``, those it listens to, and groups of settings. ``runs``: does it read or write the folder of
    all results?
    """

    file: str
    help: str
    keys: tuple[str, ...] = ()
    runs: bool = True

    def uses(self, key: str) -> bool:
        """Does it listen to this key of a request?"""
        group, dot, _ = key.partition(".")
        return group + dot in self.keys


VERBS = {
    "plan": Verb(
        "train",
        "what a sweep would train: new, done, shared and why, and what it costs; nothing is started or written",
        (*WHAT, "cluster", "cluster.", "workers", "layers", "format"),
    ),
    "smoke": Verb("train", "the first cell of a sweep in a few steps, here and now; keeps nothing", WHAT),
    "sweep": Verb(
        "train",
        "train what is missing, here or on CLUSTER=; here it ends with table, curves and MLflow; repeat it at will",
        (*WHAT, "cluster", "cluster.", "workers"),
    ),
    "status": Verb(
        "look",
        "how far every stage is; METHOD= for some, LAST=1000 for names; WATCH=1 looks until everything has ended",
        ("task", "method", "format", "watch", "last"),
    ),
    "tail": Verb(
        "look",
        "the last lines that RUN=<first letters> recorded and printed; WATCH=1 follows",
        ("task", "run", "last", "watch"),
    ),
    "why": Verb(
        "look",
        "why RUN=<first letters> is where it is: reason, last lines of the error, node, attempts, time used",
        ("task", "run"),
    ),
    "retry": Verb(
        "train",
        "train again what failed and what that blocks, with the same settings; TASK=, METHOD=, RUN= choose",
        ("task", "method", "run", "cluster", "cluster.", "workers"),
    ),
    "cancel": Verb(
        "look",
        "take what is queued or running off the cluster: all, or of TASK=, METHOD=, RUN=; asks (YES=1 does not)",
        ("task", "method", "run", "yes"),
    ),
    "clean": Verb(
        "look",
        "remove what is no longer needed; WEIGHTS=1 finished weights too, METHOD= or RUN= whole stages; asks",
        ("task", "method", "run", "weights", "descendants", "yes"),
    ),
    "report": Verb(
        "look",
        "reports/<task>/results.csv, tables and curves: of all that is done, or of what the same words would sweep",
        WHAT,
    ),
    "ui": Verb("look", "open the MLflow UI, kept up to date while it is open", ("port",)),
    "sync": Verb("look", "fill MLflow from runs/"),
    "prepare": Verb(
        "train",
        "fetch and check the data a task's settings name, into DATA or data/<task>/",
        ("task", "preset", "data", "task.", "method.", "run."),
        runs=False,
    ),
    "test": Verb("develop", 'run the tests; ARGS="-k name" for some', runs=False),
    "lint": Verb("develop", "check style and types", runs=False),
    "docs": Verb("develop", "write docs/methods.md and the Makefile's list of verbs anew, from the code", runs=False),
    "help": Verb(
        "help",
        "verbs, keys, tasks and methods; METHOD=, TASK= or CLUSTER= lists their settings",
        ("task", "method", "preset", "cluster"),
        runs=False,
    ),
}

# Variables of make that are no keys of a request.
VARIABLES = {
    "SET": "any setting, several values as a,b (help METHOD=rigl TASK=classic lists them)",
    "RUNS": "folder of all results (default: runs)",
    "REPORTS": "folder of tables and figures (default: reports)",
    "ARGS": "test: words for pytest",
    "PYTHON": "make: the Python of .venv, which the first command sets up; make clean-environment removes it",
}


def function(name: str) -> Callable[[Any], int]:
    """What carries out a verb: it takes a ``Request`` and returns the exit code."""
    return getattr(importlib.import_module(f"launch.cli.{VERBS[name].file}"), name)


def listing() -> list[str]:
    """The verbs, and the words that they listen to, a line each."""
    lines = [*(f"  {name:<9} {verb.help}" for name, verb in VERBS.items()), ""]
    for key, meaning in KEYS.items():
        listeners = [name for name, verb in VERBS.items() if key in verb.keys]
        few = f"{', '.join(listeners)}: " if len(listeners) <= 5 else ""
        lines.append(f"  {key.upper():<11} {few}{meaning}")
    return lines + [f"  {name:<11} {meaning}" for name, meaning in VARIABLES.items()]


def makefile() -> str:
    """The part of the Makefile that lists variables and verbs, with the help that needs no environment."""
    variables = [*map(str.upper, KEYS), *VARIABLES]
    words = [*(f'$${{{key.upper()}:+"{key}=$${key.upper()}"}}' for key in KEYS), "$$SET"]
    helps = [f"make {name:<10} {verb.help}" for name, verb in VERBS.items()]
    helps += ["make clean-environment   remove .venv", ""]
    helps += textwrap.wrap(f"with {'= '.join(variables)}=", WIDTH)
    helps += ['as in: make sweep TASK=classic METHOD=imp,omp_after SET="run.seed=0,1 method.sparsity=0.8"']
    helps += ["Once .venv is there, which the first command but this one sets up, `make help` says what each is."]
    handed_on = textwrap.wrap(f"arguments = {' '.join(words)}", WIDTH, subsequent_indent="\t", break_on_hyphens=False)
    lines = [
        f"known := {' '.join(variables)}",
        f"verbs := {' '.join(name for name in VERBS if name != 'help')}",
        " \\\n".join(handed_on),
        "define without_environment",
        *(line.replace("$", "$$") for line in helps),
        "endef",
    ]
    return "".join(f"{line}\n" for line in lines)
