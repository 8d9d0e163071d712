"""Write requirements/python3.X.txt for the Python that runs this: every package, pinned, torch first.

Nothing is installed; pip resolves ``direct.txt`` (without torch, see there) and reports what it would install.
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = "# Written by requirements/pin.py from direct.txt; do not edit by hand.\n"


def resolve(lines):
    """The names and versions pip would install for ``lines``; raises CalledProcessError when they contradict."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    answer = subprocess.run([*command, *lines], check=True, stdout=subprocess.PIPE)
    packages = [item["metadata"] for item in json.loads(answer.stdout)["install"]]
    return {package["name"].lower().replace("_", "-"): package["version"] for package in packages}


def main():
    """Resolve and write the file of this Python's version."""
    lines = [line.strip() for line in (HERE / "direct.txt").read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    torch = [line for line in lines if line.startswith("torch==")]
    pins = resolve([line for line in lines if line not in torch])
    text = HEADER + "".join(f"{line}\n" for line in torch + [f"{name}=={pins[name]}" for name in sorted(pins)])
    target = HERE / "python{}.{}.txt".format(*sys.version_info)
    target.write_text(text, encoding="utf-8")
    print(f"{target.name}: {len(pins) + 1} packages")


if __name__ == "__main__":
    main()
