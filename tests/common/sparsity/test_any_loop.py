"""The use of the core in a plain PyTorch loop that docs/core.md shows, run as it stands there."""

import re

import pytest
import torch
from torch import nn

from common import sparsity
from tests.support.places import ROOT

PAGE = ROOT / "docs" / "core.md"


def shown_block() -> str:
    return re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)


def test_what_the_page_names_is_there():
    prose = re.sub(r"```.*?```", "", PAGE.read_text(), flags=re.DOTALL)
    names = re.findall(r"`(?:sparsity\.)?([a-z_]+)[`(]", prose)
    assert len(names) > 10 and not [name for name in names if not hasattr(sparsity, name)]


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_loop_that_is_shown_trains_sparse_and_dead_weights_stay_zero(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    inputs = torch.randn(640, 32)
    targets = (inputs @ torch.randn(32, 4)).argmax(1)
    loader = list(zip(inputs.split(32), targets.split(32))) * 10
    optimizer = {
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3),
        "adamw": lambda: torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1),
    }[kind]()
    names = {"model": model, "loader": loader, "loss": nn.functional.cross_entropy, "optimizer": optimizer}
    before = nn.functional.cross_entropy(model(inputs), targets).item()
    exec(shown_block(), names)
    masks = names["masks"]
    total = 32 * 32 + 32 * 4
    assert (masks.total, masks.kept) == (total, round(total * 0.1))
    for name, weight in masks.weights.items():
        assert torch.count_nonzero(weight[~masks[name]]) == 0
    assert sum(int(torch.count_nonzero(w)) for w in masks.weights.values()) == masks.kept, "the living are alive"
    assert nn.functional.cross_entropy(model(inputs), targets).item() < 0.85 * before
