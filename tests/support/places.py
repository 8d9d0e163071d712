"""Where the checkout is, and where real data sets may lie beside it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"  # no part of the project: tests without it are skipped
