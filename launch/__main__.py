"""``python -m launch <verb> key=value ...``: one function a verb; ``make <verb>`` calls it with the same words."""

import os
import sys

from common import paths
from common.errors import UserError, nearest
from launch.cli import checks, look, train
from launch.request import arguments
from launch.request.arguments import Request


def help(request: Request) -> int:
    """verbs, keys, tasks and methods; METHOD=, TASK= or CLUSTER= lists their settings"""
    from launch.cli import help

    print(help.settings(request) if {"method", "task", "cluster"} & set(request.given) else help.text(VERBS))
    return 0


VERBS = (train.plan, train.smoke, train.sweep, look.status, look.tail, look.why, train.retry, look.cancel, look.clean)
VERBS += (look.report, look.ui, look.sync, train.prepare, look.test, look.lint, look.docs, help)
VERBS = {verb.__name__: verb for verb in VERBS}

# The words each verb listens to; what others are given is said, so that nobody takes one for a filter.
LISTENS = {
    "plan": {"task", "method", "preset", "data", "cluster", "workers", "format"},
    "smoke": {"task", "method", "preset", "data"},
    "sweep": {"task", "method", "preset", "data", "cluster", "workers"},
    "retry": {"task", "method", "run", "cluster", "workers"},
    "prepare": {"task", "preset", "data"},
    "status": {"task", "method", "format", "watch", "last"},
    "tail": {"task", "run", "last", "watch"},
    "why": {"task", "run"},
    "cancel": {"task", "method", "run", "yes"},
    "clean": {"task", "method", "run", "weights", "descendants", "yes"},
    "report": {"task", "method", "preset", "data"},
    "help": {"task", "method", "preset", "cluster"},
    "ui": {"port"},
}
TAKES_SETTINGS = ("plan", "smoke", "sweep", "prepare", "report")
TAKES_A_CLUSTERS = ("plan", "sweep", "retry")


def _unused(verb: str, request: Request) -> list[str]:
    def used(key: str) -> bool:
        if "." in key:
            return verb in (TAKES_A_CLUSTERS if key.startswith("cluster.") else TAKES_SETTINGS)
        return key in LISTENS.get(verb, ())

    return sorted(key for key in request.given if not used(key))


def main(words: list[str]) -> int:
    """Run one verb; the exit code: 0, 1 (something asked for failed), 2 (a bad request), 130 (interrupted)."""
    name = words[0] if words else "help"
    name = "help" if name in ("-h", "--help") else name
    try:
        if name not in VERBS:
            raise UserError(f"unknown verb {name!r}{nearest(name, VERBS)} (verbs: {', '.join(VERBS)})")
        request = arguments.parse(words[1:])
        if unused := _unused(name, request):
            print(f"note: {name} does not use {', '.join(unused)}", file=sys.stderr)
        if name not in ("test", "lint", "docs", "help", "prepare"):
            checks.usable(paths.runs(), "RUNS")
        code = VERBS[name](request)
        sys.stdout.flush()  # here, where a reader that is gone is no error
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `make status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if name == "sweep":
            print("error: who read the output is gone; the same command goes on from here", file=sys.stderr)
        return 1 if name == "sweep" else 0


if __name__ == "__main__":
    if sys.stdout is None:  # closed by the caller (>&-)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    sys.stdout.reconfigure(errors="replace")  # a terminal that has no ± still gets its table
    sys.exit(main(sys.argv[1:]))
