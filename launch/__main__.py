"""``python -m launch <verb> key=value ...``: ``make <verb>`` calls it with the same words."""

import io
import os
import sys

from common import paths
from common.errors import UserError, nearest
from launch.cli import checks, verbs
from launch.cli.verbs import VERBS
from launch.request import arguments


def main(words: list[str]) -> int:
    """Run one verb; the exit code: 0, 1 (something asked for failed), 2 (a bad request), 130 (interrupted)."""
    name = words[0] if words else "help"
    name = "help" if name in ("-h", "--help") else name
    try:
        if name not in VERBS:
            raise UserError(f"unknown verb {name!r}{nearest(name, VERBS)} (verbs: {', '.join(VERBS)})")
        request = arguments.parse(words[1:])
        # said, so that nobody takes a word for a filter that it is not
        if unused := sorted(key for key in request.given if not VERBS[name].uses(key)):
            print(f"note: {name} does not use {', '.join(unused)}", file=sys.stderr)
        if VERBS[name].runs:
            checks.usable(paths.runs(), "RUNS")
        code = verbs.function(name)(request)
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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no ± still gets its table
    sys.exit(main(sys.argv[1:]))
