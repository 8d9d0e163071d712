"""Which stages are tried again: what failed, what it stands on, what it blocks."""

from pathlib import Path

import pytest

from common.errors import UserError
from launch.monitor import retry
from launch.request.arguments import parse
from launch.runs.records import Record


def record(name: str, method: str, parent: str | None, state: str) -> Record:
    config = {"parent": parent, "method": method, "seed": 0, "sparsity": 0.5, "label": name}
    return Record(Path("/runs/classic") / name, config, {}, None, False, refined=(state, ""))


LINE = [
    record("dense0", "dense", None, "failed"),
    record("round1", "imp", "dense0", "blocked"),
    record("round2", "imp", "round1", "blocked"),
    record("shot", "omp_after", "dense0", "blocked"),
    record("other", "dense", None, "done"),
    record("tries", "omp_after", "other", "failed"),
    record("stops", "gmp", None, "cancelled"),
]


def chosen(*words: str) -> set[str]:
    return {r.digest for r in retry.chosen(LINE, parse(list(words)))}


@pytest.fixture(autouse=True)
def versions(monkeypatch):
    monkeypatch.setattr(retry, "outdated", lambda found: set())


def test_what_failed_and_what_it_blocks():
    assert chosen() == {"dense0", "round1", "round2", "shot", "tries"}


def test_of_one_method_with_what_it_stands_on():
    """The blocked rounds cannot start without the dense stage, whose failure blocks the one-shot stage as well."""
    assert chosen("method=imp") == {"dense0", "round1", "round2", "shot"}
    assert chosen("method=omp_after") == {"dense0", "round1", "round2", "shot", "tries"}
    assert chosen("method=gmp") == set()


def test_one_blocked_stage_takes_its_failed_ancestors_along():
    assert {"dense0", "round1", "round2"} <= chosen("run=round2")
    assert chosen("run=tries") == {"tries"}
    assert chosen("run=stops") == {"stops"}


def test_what_is_done_is_not_tried_again():
    with pytest.raises(UserError, match="other is done"):
        chosen("run=other")


def test_parents_come_first_and_go_where_they_were():
    own = retry.chosen(LINE, parse([]))
    for record_ in own:
        record_.config["settings"] = {"run": {}}
    places = retry.places(own, LINE, parse([]))
    assert list(places) == [("classic", "local", "default")]
    order = [stage.digest for stage in places["classic", "local", "default"]]
    assert order.index("dense0") < order.index("round1") < order.index("round2")
    assert list(retry.places(own, LINE, parse(["cluster=example"]))) == [("classic", "example", "default")]


def test_what_was_blocked_by_something_mended_since():
    """Its job was cancelled when its parent failed; then the parent was trained after all."""
    found = [record("dense1", "dense", None, "done"), record("child", "imp", "dense1", "blocked")]
    found[0] = Record(found[0].folder, found[0].config, {}, {}, True)
    assert [r.digest for r in retry.chosen(found, parse([]))] == ["child"]
