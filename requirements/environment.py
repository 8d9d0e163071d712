"""Set up ``.venv``: the pinned packages of ``requirements/``, torch first. ``make`` runs this before every verb.

It runs under whatever ``python3`` the machine has, so it uses the standard library only, and the syntax of Python 3.6,
to be able to say clearly that a Python is too old. ``.venv/ready`` is written last and says what is in there; a set-up
that was interrupted has no such file and starts over. Two set-ups at once wait for each other.
"""

import argparse
import fcntl
import hashlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time

SUPPORTED = ((3, 10), (3, 11), (3, 12))
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROBE = "import sys; print(*sys.version_info[:2]); print(sys.executable); import venv, ensurepip; print('complete')"


class SetupError(Exception):
    """The environment cannot be made; the message says what was found and what helps."""


def probe(command):
    """((major, minor), path, whether it can make environments) of an interpreter, or None if it does not run."""
    try:
        answer = subprocess.run(
            [command, "-I", "-c", PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = answer.stdout.decode("utf-8", "replace").splitlines()
    if len(lines) < 2:  # such as a version manager's stand-in for a version that is not installed
        return None
    return tuple(int(part) for part in lines[0].split()), lines[1], lines[-1] == "complete"


def choose(first):
    """(version, path) of ``first`` if it is usable, else of a supported Python on PATH; raises SetupError."""
    names = ["python{}.{}".format(*version) for version in reversed(SUPPORTED)]
    seen = []
    for command in [first] + names:
        found = probe(command)
        if found is None:
            continue
        version, path, complete = found
        if version in SUPPORTED and complete:
            return version, path
        seen.append((version, path))
    for version, path in seen:
        if version in SUPPORTED:
            raise SetupError(
                "{} (Python {}.{}) cannot make virtual environments: its venv or ensurepip module is missing.\n"
                "On Debian and Ubuntu: apt install python{}.{}-venv".format(path, *(version + version))
            )
    what = ", ".join("{} is {}.{}".format(path, *version) for version, path in seen) or "none that runs"
    raise SetupError(
        "Python 3.10, 3.11 or 3.12 is needed; found: {}.\n"
        "Install one of them, or name it: make PYTHON=/path/to/python3.11 ...".format(what)
    )


def requirements(version):
    """The path of the pinned list of a Python version."""
    return os.path.join(ROOT, "requirements", "python{}.{}.txt".format(*version))


def stamp(folder, version):
    """What ``ready`` holds when ``folder`` has all that is pinned for ``version``: folder, version, list's digest."""
    with open(requirements(version), "rb") as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    return "{}\npython {}.{}\n{}\n".format(os.path.realpath(folder), *(version + (digest,)))


def read_stamp(folder):
    """(home, version, whole text) from the folder's ``ready``; None where there is none that can be read."""
    try:
        with open(os.path.join(folder, "ready"), encoding="utf-8") as stream:
            text = stream.read()
        home, python, _ = text.splitlines()
        return home, tuple(int(part) for part in python.split()[1].split(".")), text
    except (OSError, ValueError, IndexError):
        return None


def state(folder, version=None):
    """One word: "ready", "outdated" (the list changed) or "missing" (nothing usable: never made, interrupted, moved,
    copied, or of another Python than the ``version`` asked for)."""
    found = read_stamp(folder)
    if found is None or not os.access(os.path.join(folder, "bin", "python"), os.X_OK):
        return "missing"
    home, made_for, text = found
    # Scripts in bin/ carry the folder's path. One folder may have two names (mounts, links), so names are not compared.
    if not os.path.isdir(home) or not os.path.samefile(home, folder):
        return "missing"
    if made_for not in SUPPORTED or (version is not None and version != made_for):
        return "missing"
    return "ready" if text.splitlines()[1:] == stamp(folder, made_for).splitlines()[1:] else "outdated"


class Progress:
    """One changing line on a terminal; elsewhere a line now and then, so that a log stays short."""

    def __init__(self, title):
        self.title, self.start, self.shown = title, time.time(), time.time()
        self.live = sys.stdout.isatty()
        print(title, flush=True)

    def show(self, text):
        """Show where pip is; ``text`` is cut to one line."""
        now = time.time()
        if now - self.shown < (0.2 if self.live else 15):
            return
        self.shown = now
        line = "  {:3.0f} s  {}".format(now - self.start, text)[: shutil.get_terminal_size().columns - 1]
        print("\r\033[K" + line if self.live else line, end="" if self.live else "\n", flush=True)

    def end(self):
        """Leave the terminal on a fresh line."""
        if self.live:
            print("\r\033[K", end="", flush=True)


def pip(folder, title, arguments):
    """Run pip in the environment; its whole output goes to ``setup.log``. Raises SetupError with its last lines."""
    # Settings for installing elsewhere than into the running Python would defeat the purpose; all others are respected.
    ours = {name: value for name, value in os.environ.items() if name not in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")}
    ours.update(PIP_USER="0", PYTHONUNBUFFERED="1")
    command = [os.path.join(folder, "bin", "python"), "-I", "-u", "-m", "pip", "install", "--no-color"] + arguments
    progress, text, tail = Progress(title), "starting pip", []
    with open(os.path.join(folder, "setup.log"), "ab") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=ours, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                chunk, rest = b"-", b""
                while chunk:
                    progress.show(text)
                    if not selector.select(timeout=1):
                        continue
                    chunk = os.read(process.stdout.fileno(), 65536)
                    log.write(chunk)
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in (line.decode("utf-8", "replace").strip() for line in lines):
                        tail = (tail + [line])[-12:] if line else tail
                        if line.startswith(("Collecting", "Downloading", "Building", "Installing")):
                            text = "unpacking and installing" if line.startswith("Installing coll") else line
            code = process.wait()
        finally:
            progress.end()
            if process.poll() is None:
                process.terminate()
                process.wait()
    if code != 0:
        raise SetupError(
            "pip could not install the packages (exit {}). It ended with:\n{}\nAll it said: {}\n"
            "Check the network and pip's settings (pip config list), then repeat the command.".format(
                code, "\n".join("  | " + line for line in tail), log.name
            )
        )


def create(folder, python):
    """An empty virtual environment in place of whatever is in ``folder``."""
    for name in os.listdir(folder):
        if name != "lock":  # others may be waiting on it
            path = os.path.join(folder, name)
            (shutil.rmtree if os.path.isdir(path) and not os.path.islink(path) else os.remove)(path)
    made = subprocess.run([python, "-I", "-m", "venv", folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if made.returncode != 0:
        raise SetupError(made.stdout.decode("utf-8", "replace") + "{} -m venv failed".format(python))


def install(folder, version, python, fresh):
    """Bring ``folder`` to what is pinned; the stamp goes first and comes back last."""
    ready, pins = os.path.join(folder, "ready"), requirements(version)
    if os.path.lexists(ready):
        os.remove(ready)
    if fresh:
        print("setting up .venv with Python {}.{} ({})".format(*(version + (python,))), flush=True)
        create(folder, python)
    with open(pins, encoding="utf-8") as stream:
        lines = [line.strip() for line in stream if line.strip() and not line.startswith("#")]
    torch = [line for line in lines if line.startswith("torch==")]
    # Alone and first: its wheel decides about the GPU libraries, and a failure with it shows before anything else.
    pip(folder, "[1/2] torch, the largest part", ["--constraint", pins] + torch)
    pip(folder, "[2/2] {} packages".format(len(lines)), ["--requirement", pins])
    with open(ready + ".new", "w", encoding="utf-8") as stream:
        stream.write(stamp(folder, version))
    os.replace(ready + ".new", ready)


def prepare(folder, version=None):
    """Make ``folder`` ready; ``version`` None keeps whatever Python it has. Returns whether anything was installed."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another set-up of .venv is running; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as problem:  # some network file systems have none
            print("no lock on .venv ({}): let only one set-up run at a time".format(problem), flush=True)
        found = state(folder, version)
        if found == "ready":
            os.utime(os.path.join(folder, "ready"))  # make compares times: the lists may be younger with the same text
            return False
        start = time.time()
        if found == "outdated":
            install(folder, read_stamp(folder)[1], None, fresh=False)
        else:
            chosen, python = choose(sys.executable)
            install(folder, chosen, python, fresh=True)
        print("environment ready after {:.0f} s".format(time.time() - start), flush=True)
        return True


def main(arguments=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Set up .venv with the pinned packages.")
    parser.add_argument("--this-python", action="store_true", help="rebuild if .venv has another Python version")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        prepare(os.path.join(ROOT, ".venv"), choose(sys.executable)[0] if asked.this_python else None)
    except SetupError as problem:
        print("error: {}".format(problem), file=sys.stderr)
        return 2
    except OSError as problem:
        print("error: .venv cannot be set up: {}".format(problem), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nset-up stopped; the same command starts it again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
