"""How amounts are written."""

import pytest

from launch import wording


@pytest.mark.parametrize(
    "sparsity, text", [(0.8, "0.8"), (0.8926258176, "0.8926"), (0.999999, "0.999999"), (0.99996, "0.99996"), (1, "1")]
)
def test_nothing_below_one_is_called_one(sparsity, text):
    assert wording.level(sparsity) == text
