"""At the time limit: what a stage says where Slurm cannot be asked to queue its job again."""

import pytest

from common import record
from launch.runs import records
from launch.slurm import time_limit
from tests.support.fake_slurm import Slurm
from tests.support.stages import stage


@pytest.mark.parametrize("there", [True, False])
def test_a_job_that_nobody_requeues_says_so_and_is_resumed_by_the_next_sweep(tmp_path, monkeypatch, there):
    """The node has no scontrol, or the site's does not do it: the stage was saved, and neither runs nor waits."""
    runs = tmp_path / "runs"
    folder = stage(runs, "a", state="running")
    slurm = Slurm(tmp_path / "bin", monkeypatch)
    slurm.program("scontrol", error="scontrol: error: requeue is disabled", code=1)
    if not there:
        monkeypatch.setenv("PATH", str(tmp_path))
    pauses: list[float] = []
    monkeypatch.setattr(time_limit.time, "sleep", pauses.append)
    with pytest.raises(SystemExit, match=r"Slurm did not requeue it at the time limit.*'make sweep' resumes it"):
        time_limit.requeue("12_0", folder, begun=0, first=True, busy=False)
    pauses = [pause for pause in pauses if not 0 < pause < 1]  # subprocess naps as well while it waits
    assert pauses == [0, 2, 10] and slurm.calls == ["scontrol requeue 12_0"] * 3 * there
    said = record.read_status(folder)["reason"]
    assert ("requeue is disabled" in said) == there and ("No such file" in said) != there
    assert [found.state for found in records.read(where=runs)] == ["interrupted"]
