"""Masks: dead weights are exactly zero whatever the optimizer, its memory is cleared only where masks change."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from common import sparsity as sp

OPTIMIZERS = {
    "sgd": lambda p, fused: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True, fused=fused),
    "adam": lambda p, fused: torch.optim.Adam(p, lr=0.01, weight_decay=0.01, fused=fused),
    "adamw": lambda p, fused: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, amsgrad=True, fused=fused),
}
MOMENTS = {
    "sgd": ["momentum_buffer"],
    "adam": ["exp_avg", "exp_avg_sq"],
    "adamw": ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
}


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)
        )


def train(model, optimizer, masks=None, steps: int = 5, gradients: bool = True) -> None:
    noise = torch.Generator().manual_seed(1)
    for _ in range(steps):
        loss = model(torch.randn(16, 2, 6, 6, generator=noise)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        if masks is not None and gradients:
            masks.apply_to_gradients()
        optimizer.step()
        if masks is not None:
            masks.apply()


def chosen(masks: sp.Masks, sparsity: float, seed: int = 0) -> dict[str, torch.Tensor]:
    return sp.select(sp.random_score(masks.weights, seed), sp.global_pool(masks.weights, sparsity))


def state_of(model, optimizer, masks) -> list:
    optimizer_state = [v.clone() for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    bits = [masks[name].clone() for name in masks.weights]
    return [*(p.detach().clone() for p in model.parameters()), *optimizer_state, *bits]


def equal(one: list, other: list) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("gradients", [True, False])
def test_dead_weights_stay_exactly_zero_and_the_living_move(kind, fused, gradients):
    model = network()
    optimizer = OPTIMIZERS[kind](model.parameters(), fused)
    masks = sp.Masks(sp.prunable(model))
    masks.update(chosen(masks, 0.8), optimizer)
    train(model, optimizer, masks, 40, gradients)
    for name, weight in masks.weights.items():
        assert torch.count_nonzero(weight[~masks[name]]) == 0
        assert torch.count_nonzero(weight[masks[name]]) == masks.counts[name]
        if gradients:
            for moment in MOMENTS[kind]:
                assert torch.count_nonzero(optimizer.state[weight][moment][~masks[name]]) == 0
    assert masks.sparsity == pytest.approx(0.8, abs=1 / masks.total)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_update_clears_the_optimizer_s_memory_where_masks_change_and_nowhere_else(kind, fused):
    model = network()
    optimizer = OPTIMIZERS[kind](model.parameters(), fused)
    masks = sp.Masks(sp.prunable(model))
    masks.update(chosen(masks, 0.5), optimizer)
    train(model, optimizer, masks, gradients=False)  # dead weights gather momentum, to be cleared
    before, old = copy.deepcopy(optimizer.state_dict()["state"]), {n: masks[n].clone() for n in masks.weights}
    values = {n: w.detach().clone() for n, w in masks.weights.items()}
    new = chosen(masks, 0.5, seed=1)
    grown, dropped = masks.update(new, optimizer)
    assert grown == dropped == sum(int((new[n] & ~old[n]).sum()) for n in old) > 0
    for index, parameter in enumerate(model.parameters()):
        name = next((n for n, w in masks.weights.items() if w is parameter), None)
        for key, value in before[index].items():
            now = optimizer.state[parameter][key]
            if name is None or not torch.is_tensor(value) or value.shape != parameter.shape:
                assert torch.equal(torch.as_tensor(now), torch.as_tensor(value)), "the step count, biases, batch norm"
            else:
                changed = old[name] ^ new[name]
                assert torch.count_nonzero(value[changed]) > 0
                assert torch.count_nonzero(now[changed]) == 0
                assert torch.equal(now[~changed], value[~changed])
    for name, weight in masks.weights.items():
        assert torch.count_nonzero(weight[~new[name]]) == 0
        assert torch.count_nonzero(weight[new[name] & ~old[name]]) == 0, "grown weights start at zero"
        assert torch.equal(weight[new[name] & old[name]], values[name][new[name] & old[name]])


def test_grown_weights_take_the_values_given_and_others_keep_theirs():
    weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    masks = sp.Masks({"w": weight})
    masks.update({"w": torch.tensor([True, True, False, False])})
    assert weight.tolist() == [1, 2, 0, 0]
    new = {"w": torch.tensor([True, False, True, False])}
    assert masks.update(new, grown_values={"w": torch.tensor([5.0, 6.0, 7.0, 8.0])}) == (1, 1)
    assert weight.tolist() == [1, 0, 7, 0]
    assert (masks.counts, masks.kept, masks.total, masks.sparsity) == ({"w": 2}, 2, 4, 0.5)
    new["w"][1] = True  # the masks are a copy of their own
    assert masks["w"].tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("new", "grown_values", "message"),
    [
        ({"a": torch.zeros(2, 2, dtype=torch.bool)}, None, "masks are for"),
        (
            {"a": torch.zeros(2, 2, dtype=torch.bool), "b": torch.zeros(4, dtype=torch.bool)},
            None,
            "mask of b: expected bool",
        ),
        ({"a": torch.zeros(2, 2, dtype=torch.bool), "b": torch.zeros(3)}, None, "mask of b: expected bool"),
        (
            {"a": torch.ones(2, 2, dtype=torch.bool), "b": torch.ones(3, dtype=torch.bool)},
            {"a": torch.ones(2, 2)},
            "for b",
        ),
        (
            {"a": torch.ones(2, 2, dtype=torch.bool), "b": torch.ones(3, dtype=torch.bool)},
            {"a": torch.ones(2, 2), "b": torch.ones(1)},  # would broadcast
            r"grown_values must hold a tensor of shape \(3,\) for b",
        ),
    ],
)
def test_an_update_that_fails_changes_nothing(new, grown_values, message):
    model = nn.ParameterDict({"a": nn.Parameter(torch.ones(2, 2)), "b": nn.Parameter(torch.ones(3))})
    optimizer = torch.optim.Adam(model.parameters())
    masks = sp.Masks(dict(model.items()))
    dead = {"a": torch.tensor([[True, False], [True, True]]), "b": torch.tensor([True, False, True])}
    masks.update(dead, optimizer)
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    before = state_of(model, optimizer, masks)
    with pytest.raises(ValueError, match=message):
        masks.update(new, optimizer, grown_values)
    assert equal(state_of(model, optimizer, masks), before)
    assert masks.kept == 5


def test_masking_gradients_leaves_clipping_to_the_living():
    weight = nn.Parameter(torch.ones(2, 3))
    masks = sp.Masks({"w": weight})
    masks.apply_to_gradients()  # no gradient yet
    assert weight.grad is None
    masks.update({"w": torch.tensor([[True, False, True], [False, False, False]])})
    weight.grad = torch.full((2, 3), 3.0)
    masks.apply_to_gradients()
    assert weight.grad.tolist() == [[3, 0, 3], [0, 0, 0]]
    assert float(nn.utils.get_total_norm([weight.grad])) == pytest.approx(18**0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_large_and_permuted_tensors_are_zeroed_alike(dtype):
    weights = {
        "large": nn.Parameter(torch.randn(600, 1000).to(dtype)),
        "permuted": nn.Parameter(torch.randn(64, 32, 3, 3).to(dtype, memory_format=torch.channels_last)),
        "transposed": nn.Parameter(torch.randn(50, 40).to(dtype).t()),
    }
    before = {n: w.detach().clone() for n, w in weights.items()}
    masks = sp.Masks(weights)
    masks.update(chosen(masks, 0.7))
    for weight in weights.values():
        weight.grad = torch.ones_like(weight)
    masks.apply_to_gradients()
    for name, weight in weights.items():
        assert torch.equal(weight, torch.where(masks[name], before[name], 0))
        assert torch.equal(weight.grad, masks[name].to(dtype))
    assert masks.kept == sp.kept_count(masks.total, 0.7)


def test_masks_take_one_byte_a_weight_in_memory_and_one_bit_on_disk():
    masks = sp.Masks({"w": nn.Parameter(torch.zeros(64, 10))})
    assert masks["w"].dtype == torch.bool
    assert masks["w"].element_size() * masks["w"].numel() == 640
    assert masks.state_dict()["bits"]["w"].numel() == 80


@given(st.lists(st.booleans(), max_size=70))
def test_packing_is_undone_by_unpacking_at_any_size(flags):
    bits = torch.tensor(flags, dtype=torch.bool)
    packed = sp.pack(bits)
    assert (packed.dtype, packed.numel()) == (torch.uint8, -(-len(flags) // 8))
    assert torch.equal(sp.unpack(packed, (len(flags),)), bits)


def test_packing_keeps_shapes_and_refuses_wrong_sizes():
    bits = torch.rand(3, 5, 7) > 0.5
    assert torch.equal(sp.unpack(sp.pack(bits), bits.shape), bits)
    assert torch.equal(sp.unpack(sp.pack(bits.transpose(0, 2)), (7, 5, 3)), bits.transpose(0, 2))
    assert sp.pack(torch.tensor([True] + [False] * 7)).tolist() == [128]
    assert sp.unpack(sp.pack(torch.tensor(True)), ()).item() is True
    with pytest.raises(ValueError, match="takes 14 bytes, found 13"):
        sp.unpack(sp.pack(torch.ones(104, dtype=torch.bool)), (3, 5, 7))
    with pytest.raises(ValueError, match=r"found 14 of torch\.int32"):
        sp.unpack(torch.zeros(14, dtype=torch.int32), (3, 5, 7))


def test_masks_survive_a_round_trip_and_the_checksum_tells_them_apart():
    masks = sp.Masks(sp.prunable(network()))
    dense = masks.checksum()
    masks.update(chosen(masks, 0.8))
    other = sp.Masks(sp.prunable(network()))
    assert other.checksum() == dense != masks.checksum()
    other.load_state_dict(masks.state_dict())
    assert other.checksum() == masks.checksum() == masks.state_dict()["checksum"]
    assert (other.counts, other.kept) == (masks.counts, masks.kept)
    assert all(torch.equal(other.weights[n], w) for n, w in masks.weights.items()), "weights are zeroed to match"


def test_a_copy_of_a_pruned_model_is_pruned_further_and_its_original_stays():
    """Copied together, masks follow the copy; to a copy of the model alone they are loaded."""
    model = network()
    masks = sp.Masks(sp.prunable(model))
    masks.update(chosen(masks, 0.5))
    before = sp.checksum(sp.snapshot(model))
    pair = copy.deepcopy((model, masks))
    alone = copy.deepcopy(model)
    loaded = sp.Masks(sp.prunable(alone))
    loaded.load_state_dict(masks.state_dict())
    for twin, its in (pair, (alone, loaded)):
        assert all(dict(twin.named_parameters())[name] is weight for name, weight in its.weights.items())
        its.update(sp.choose(sp.magnitude(its.weights), 0.8, within=its))
        assert its.sparsity == pytest.approx(0.8, abs=1 / its.total)
        assert not any((its[name] & ~masks[name]).any() for name in masks.weights)
        assert sum(int(torch.count_nonzero(weight)) for weight in its.weights.values()) == its.kept
    assert masks.sparsity == pytest.approx(0.5, abs=1 / masks.total) and sp.checksum(sp.snapshot(model)) == before


@pytest.mark.parametrize("damage", ["bit", "padding", "name", "size", "checksum"])
def test_damaged_masks_are_an_error_and_change_nothing(damage):
    weights = {"a": nn.Parameter(torch.ones(3, 3)), "b": nn.Parameter(torch.ones(8))}
    masks = sp.Masks(weights)
    masks.update(chosen(masks, 0.5))
    state = masks.state_dict()
    if damage == "name":
        state["bits"]["c"] = state["bits"].pop("a")
    elif damage == "size":
        state["bits"]["a"] = state["bits"]["a"][:1]
    elif damage == "checksum":
        state["checksum"] = "0" * 64
    else:
        state["bits"]["a"][0 if damage == "bit" else 1] ^= 1
    fresh = sp.Masks({n: nn.Parameter(torch.ones_like(w)) for n, w in weights.items()})
    with pytest.raises(ValueError, match=r"damaged|saved masks are for|takes 2 bytes, found 1"):
        fresh.load_state_dict(state)
    assert fresh.kept == fresh.total == 17
    assert all(bool(bits.all()) for bits in fresh.bits.values())
    assert all(bool((w == 1).all()) for w in fresh.weights.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), -1.0])
def test_dead_is_zero_whatever_was_there(dtype, value):
    """Also after a step that diverged: inf times 0 would be NaN, in weights, gradients and the optimizer's memory."""
    weight = nn.Parameter(
        torch.full((8, 600), value, dtype=dtype).t() if value == -1 else torch.full((600, 8), value, dtype=dtype)
    )
    masks = sp.Masks({"w": weight})
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    optimizer.state[weight]["momentum_buffer"] = torch.full_like(weight, value)
    weight.grad = torch.full_like(weight, value)
    bits = torch.arange(weight.numel()).reshape(weight.shape) % 3 == 0
    masks.update({"w": bits}, optimizer)
    masks.apply_to_gradients()
    for tensor in (weight, weight.grad, optimizer.state[weight]["momentum_buffer"]):
        dead = tensor.detach()[~bits]
        assert torch.equal(dead, torch.zeros_like(dead)) and not torch.signbit(dead).any()
        assert torch.equal(tensor.detach()[bits].isnan(), torch.full((int(bits.sum()),), value != value))
