"""For tests of the arithmetic data: a small MAWPS on disk, and how it is read."""

from hypothesis import strategies as st

from tasks.arithmetic.config import Config
from tasks.arithmetic.files import datasets
from tests.support.arithmetic_files import made

train, dev = made(30), made(10, first=30)


def mawps(folder, **values) -> Config:
    return Config(dataset="mawps", data=str(folder), **values)


def one(config: Config) -> datasets.Source:
    (found,) = datasets.read(config).values()
    return found


def trees(leaves):
    return st.recursive(leaves.map(lambda leaf: [leaf]), lambda inner: st.tuples(
        st.sampled_from("+-*/"), inner, inner).map(lambda t: [t[0], *t[1], *t[2]]), max_leaves=12)  # fmt: skip
