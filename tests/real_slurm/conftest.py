"""What mostly waits for Slurm starts with the first test here and goes on beside the others; its tests come last."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.slurm import interruptions
from tests.support.slurm.cluster import Cluster
from tests.support.slurm.forgetful import Forgetful
from tests.support.together import together

MEANWHILE = {"interrupted", "forgetful"}


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: bool(MEANWHILE & set(item.fixturenames)))


@pytest.fixture(autouse=True)
def meanwhile(request):
    if request.node.get_closest_marker("slurm"):
        here = together(request.node.nodeid)
        beside = [item for item in request.session.items if together(item.nodeid) == here]
        for name in sorted(MEANWHILE & {name for item in beside for name in item.fixturenames}):
            request.getfixturevalue(name)


@pytest.fixture(scope="session")
def interrupted(slurm_session, tmp_path_factory):
    """Name of the case -> the future of its site; on a Slurm of their own, as the session's is cleared now and then."""
    folder = tmp_path_factory.mktemp("interruptions")
    with Cluster() as cluster, ThreadPoolExecutor(len(interruptions.CASES)) as pool:
        yield interruptions.start(pool, cluster, folder)


@pytest.fixture(scope="session")
def forgetful(slurm_session_accounting, tmp_path_factory):
    """With accounting or without (True, False) -> the future of what happened."""
    folder = tmp_path_factory.mktemp("forgetful")
    with ThreadPoolExecutor(2) as pool:
        yield {on: pool.submit(Forgetful(folder / str(on), on).play) for on in (True, False)}
