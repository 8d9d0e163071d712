"""Whatever happens on a cluster, every stage ends with the very weights, masks and metrics of an undisturbed run."""

import os
import signal

import pytest

from tests.support.slurm.interruptions import ATTEMPTS, CASES
from tests.support.slurm.site import Site

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def expected(interrupted):
    """The results of an undisturbed run, without Slurm."""
    return interrupted["cancelled"].result().undisturbed()


@pytest.mark.parametrize("name", [case.__name__ for case in reversed(CASES)])
def test_nothing_that_happens_changes_a_result(name, interrupted, expected):
    site = interrupted[name].result()
    found = site.results()
    assert len(found) == 2 and found == expected
    for stage in site.stages():
        assert site.read(stage)["attempt"] >= ATTEMPTS[name], "it was interrupted, not merely slow"
        assert not (stage / "checkpoint.pt").exists()


def test_a_time_limit_that_no_step_fits_into_does_not_go_round_for_ever(slurm, tmp_path):
    """Three attempts without a finished step; the notice of the time limit is sent by hand, to be quicker."""
    site = Site(slurm, tmp_path)
    site.slow(0, begin=3)
    site.sweep("method=dense", "run.seed=0", "run.steps=10")
    stage = site.stages()[0]
    for attempt in (1, 2, 3):
        slurm.until(lambda n=attempt: site.read(stage).get("attempt") == n, f"attempt {attempt}", 60)
        os.kill(site.read(stage)["pid"], signal.SIGUSR2)
    site.settled()
    assert site.counts() == {"failed": 1}
    assert "raise cluster.time" in site.launch("why", f"run={stage.name}")
    site.slow(0)
    site.launch("retry")
    site.cluster.until(lambda: (stage / "DONE").exists(), "the end", 60)
