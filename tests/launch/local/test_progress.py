"""What the local executor shows while it runs, and what it finds on the machine."""

import io
import subprocess
from pathlib import Path

from launch.local import devices
from launch.local.progress import Event, Progress
from tests.support.local_sweep import Stage


def test_gpus_are_found_without_torch(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-8f0c,-1,3")
    assert devices.gpus() == ["2", "GPU-8f0c"] and devices.workers() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.gpus() == [] and devices.workers() >= 1
    listing = "GPU 0: A (UUID: GPU-1)\n  MIG 1g Device 0: (UUID: MIG-2)\n  MIG 1g Device 1: (UUID: MIG-3)\n"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(devices.shutil, "which", lambda name: name)
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=listing))
    assert devices.gpus() == ["MIG-2", "MIG-3"]
    listing = "GPU 0: A (UUID: GPU-1)\nGPU 1: A (UUID: GPU-2)\n"
    assert devices.gpus() == ["0", "1"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def story(progress: Progress, clock: list[float], count: int = 100) -> None:
    """``count`` stages of 2 s each, one after the other, a tick every 0.25 s; the fifth fails."""
    for number in range(count):
        stage = Stage(f"stage{number}", None, Path("."), seed=number)
        progress(Event("started", stage, ended=number, total=count, chain=1))
        for tick in range(8):
            progress(Event("tick", ended=number, total=count, running=((stage, tick, 8),), chain=1))
            clock[0] += 0.25
        kind = "failed" if number == 4 else "done"
        progress(Event(kind, stage, 2.0, "loss\nis nan", ended=number + 1, total=count, chain=1))
    progress(Event("end", ended=count, total=count))


def test_progress_in_a_log_is_short():
    clock, stream = [0.0], io.StringIO()
    story(Progress(stream, lambda: clock[0]), clock)
    lines = stream.getvalue().splitlines()
    assert 10 <= len(lines) <= 32, "200 s: a line every ten seconds, and one a tenth"
    assert "failed: dense 0 seed 4: is nan" in lines
    assert lines[-1] == "100/100 stages, 1 failed in 3 min 20 s"
    assert any("50/100" in line and "about 1 min 40 s left" in line for line in lines)
    assert "\r" not in stream.getvalue()


def test_progress_on_a_terminal_is_one_line():
    clock, stream = [0.0], Terminal()
    story(Progress(stream, lambda: clock[0], width=60), clock, count=10)
    text = stream.getvalue()
    assert text.count("\n") == 2, "the failure and the end; everything else is drawn over"
    drawn = [part.split("\n")[0] for part in text.split("\r\x1b[K")]
    assert all(len(line) < 60 for line in drawn)
    assert any("dense 0 seed 3 4/8" in line and "left" in line for line in drawn)


def test_progress_says_that_a_stopped_sweep_resumes():
    stream = Terminal()
    progress = Progress(stream, lambda: 0.0, width=80)
    for kind in ("tick", "stopping", "tick", "end"):
        progress(Event(kind, ended=1, total=3))
    assert "Ctrl-C again kills" in stream.getvalue()
    assert stream.getvalue().endswith("1/3 stages in 0 s; stopped, the same command goes on from here\n")


def test_estimate_respects_the_longest_chain():
    progress = Progress(io.StringIO(), lambda: 0.0)
    progress(Event("done", Stage("a", None, Path(".")), 10.0, ended=1, total=11))
    assert progress.left(Event("tick", ended=1, total=11, chain=10, workers=8)) == 100.0
    assert progress.left(Event("tick", ended=1, total=11, chain=1, workers=5)) == 20.0
