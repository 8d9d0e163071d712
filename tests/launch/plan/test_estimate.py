"""What a plan is expected to cost."""

from types import SimpleNamespace

import pytest

from common import paths, record
from launch.plan import estimate


class Stage(SimpleNamespace):
    __hash__ = object.__hash__

    def __init__(self, digest: str, method: str, state: str = "new", **settings):
        content = {"method": method, "data": "x", "settings": {"run": {"steps": 100}, "task": {}, "method": settings}}
        shared = {"parent": None, "processes": 1, "config": content, "folder": paths.stage("classic", digest)}
        super().__init__(digest=digest, method=method, state=state, **shared)


def seconds(todo: Stage, done: dict[Stage, float]) -> float:
    """The estimate for ``todo`` after stages that took so many seconds."""
    for one, taken in done.items():
        one.folder.mkdir(parents=True, exist_ok=True)
        record.write_json(paths.summary(one.folder), {"seconds": taken})
    plan = SimpleNamespace(task="classic", stages={one.digest: one for one in [*done, todo]}, todo=lambda: [todo])
    return estimate.estimate(plan, None)["hours"] * 3600


def test_a_stage_is_expected_to_take_as_long_as_its_steps_do():
    full = Stage("a", "omp_after", "done", retrain="full")
    none = Stage("b", "omp_after", "done", retrain="none")
    assert seconds(Stage("d", "omp_after", retrain="none"), {full: 100}) == 0
    assert seconds(Stage("d", "omp_after", retrain="none"), {full: 100, none: 3}) == pytest.approx(3)
    assert seconds(Stage("d", "omp_no_retraining"), {full: 100, none: 3}) == pytest.approx(3)
    assert seconds(Stage("d", "omp_after", retrain="full"), {full: 100, none: 3}) == pytest.approx(100)
    half = Stage("d", "omp_after", retrain="fine_tune", retrain_share=0.5)
    assert seconds(half, {full: 100, none: 3}) == pytest.approx(50)
    assert seconds(Stage("d", "scratch_b"), {full: 100}) == pytest.approx(200)
