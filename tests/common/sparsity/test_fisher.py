"""Second-order pruning: the inverse Fisher blocks, what they choose, and how survivors make up for what goes."""

import math
import re
import signal
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common import paths, record
from common import sparsity as sp
from common.errors import UserError
from common.sparsity import fisher
from common.sparsity.fisher import InverseBlocks, InverseFisher
from common.stage import run
from common.training import memory, optimization
from common.training.state import Parent
from tests.support import ranks, training
from tests.support.training import Death, Noisy, begun, toy, trained


@pytest.fixture(autouse=True)
def runs(folders, shared_runs, monkeypatch):
    """One runs/ for the file: the dense training is done once."""
    monkeypatch.setenv("RUNS", str(shared_runs))


def correlated(m: int, n: int, scale: float = 1e-2, seed: int = 0) -> torch.Tensor:
    """float32[m, n]: gradients that have something to do with each other."""
    noise = torch.Generator().manual_seed(seed)
    mixing = torch.randn(n, n, generator=noise) / math.sqrt(n)
    return scale * torch.randn(m, n, generator=noise) @ mixing


def filled(gradients: torch.Tensor, block: int, damping: float = 1e-7) -> InverseBlocks:
    blocks = InverseBlocks(gradients.shape[1], block, len(gradients), damping)
    for gradient in gradients:
        blocks.add(gradient)
    return blocks.finish()


def exact(gradients: torch.Tensor, damping: float = 1e-7) -> torch.Tensor:
    """F in float64, by its definition."""
    rows = gradients.double()
    return damping * torch.eye(rows.shape[1], dtype=torch.float64) + rows.T @ rows / len(rows)


def network(gradients: torch.Tensor, sizes=((5, 9), (7, 4))):
    """Masks of tensors with as many weights in all as the rows have; their gradients as ``sample``; random weights."""
    noise = torch.Generator().manual_seed(3)
    weights = {f"w{i}": nn.Parameter(torch.randn(size, generator=noise)) for i, size in enumerate(sizes)}
    counts = [w.numel() for w in weights.values()]

    def sample():
        for row in gradients:
            yield {
                name: piece.view(w.shape) for (name, w), piece in zip(weights.items(), row.split(counts), strict=True)
            }

    return sp.Masks(weights), sample


# --- the inverse ------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 70), block=st.integers(1, 80), m=st.integers(1, 60), scale=st.sampled_from([1e-4, 1e-3, 1e-2])
)
def test_the_recursion_gives_the_inverse_of_each_block(count, block, m, scale):
    """A rest makes a smaller block; fewer gradients than weights a block; any number of them at a time."""
    gradients = correlated(m, count, scale)
    blocks = filled(gradients, block)
    for k, first in enumerate(range(0, count, min(block, count))):
        expected = torch.linalg.inv(exact(gradients[:, first : first + block]))
        size = len(expected)
        found = blocks.inverse[k, :size, :size].double()
        assert (found - expected).norm() < 1e-4 * expected.norm()
        assert torch.allclose(blocks.diagonal()[first : first + size].double(), expected.diagonal(), rtol=1e-3)
    assert blocks.diagonal().shape == (count,)


@pytest.mark.parametrize("together", [1, 3, 16, 100])
def test_how_many_gradients_are_taken_in_at_once_does_not_matter(monkeypatch, together):
    monkeypatch.setattr(fisher, "TOGETHER", together)
    gradients = correlated(100, 30)
    expected = torch.linalg.inv(exact(gradients))
    assert torch.allclose(filled(gradients, 30).inverse[0].double(), expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_the_arithmetic_is_better_than_in_float32():
    """The reference code works in float32: with gradients near 0.1 and damping 1e-7 it loses digits from the start."""
    gradients = correlated(300, 50, 0.1)
    expected = torch.linalg.inv(exact(gradients)).diagonal()
    plain = 1e7 * torch.eye(50)
    for row in gradients:
        reached = plain @ row
        plain -= torch.outer(reached, reached) / (300 + row @ reached)
    errors = [
        ((found.double() - expected) / expected).abs().max()
        for found in (filled(gradients, 50).diagonal(), plain.diag())
    ]
    assert errors[0] < 3e-4 and errors[0] < errors[1] / 3


def test_blocks_of_one_are_the_closed_form():
    gradients = correlated(33, 40)
    expected = 1 / (1e-7 + gradients.double().square().mean(0))
    assert torch.allclose(filled(gradients, 1).diagonal().double(), expected, rtol=1e-5)
    masks, sample = network(correlated(33, 73))
    diagonal = sp.fisher_diagonal(sample(), 1e-7)
    inverse = InverseFisher(masks, sample, 33, 1, 1e-7).diagonal()
    for name in masks.weights:
        assert torch.allclose(diagonal[name], 1 / inverse[name], rtol=1e-5)
        assert (
            not InverseFisher(masks, sample, 33, 1, 1e-7)
            .correction({n: torch.zeros_like(b) for n, b in masks.bits.items()})[name]
            .add(masks.weights[name])
            .abs()
            .gt(1e-6)
            .any()
        ), "the update moves the weight itself to zero, and no other"


@pytest.mark.parametrize("passes", [2, 3, 7, 50])
def test_parts_give_the_same_bits_as_all_at_once(monkeypatch, passes):
    monkeypatch.setattr(fisher, "tile", lambda width, device: 2)
    masks, sample = network(correlated(40, 73))
    calls = []

    def counted():
        calls.append(1)
        return sample()

    once, often = (InverseFisher(masks, counted, 40, 5, 1e-7, p) for p in (1, passes))
    assert len(once.parts) == 1 < len(often.parts) <= passes
    covered = {name: [] for name in masks.weights}
    for pieces in often.parts:
        for name, first, last in pieces:
            covered[name] += range(first, last)
    assert all(covered[name] == list(range(w.numel())) for name, w in masks.weights.items())
    assert training.equal(once.diagonal(), often.diagonal())
    new = {name: torch.rand(bits.shape) > 0.4 for name, bits in masks.bits.items()}
    for update in ("single", "joint"):
        assert training.equal(once.correction(new, update), often.correction(new, update))
    assert len(calls) == 1 + (2 * len(often.parts) - 1) + len(often.parts), "a part in memory is not computed again"
    assert once.correction(new, "none") == {}
    assert InverseFisher.memory(masks.weights, 5, passes) < InverseFisher.memory(masks.weights, 5, 1)


def test_pruned_weights_have_no_part_in_it():
    """As if they were not there: the living ones have the inverse of their own rows and columns."""
    gradients = correlated(50, 45)
    masks, sample = network(gradients, ((5, 9),))
    alive = torch.rand(5, 9, generator=torch.Generator().manual_seed(1)) > 0.5
    masks.update({"w0": alive})
    inverse = InverseFisher(masks, sample, 50, 45, 1e-7)
    flat = alive.view(-1)
    expected = torch.linalg.inv(exact(gradients[:, flat])).diagonal()
    found = inverse.diagonal()["w0"].view(-1)
    assert torch.allclose(found[flat].double(), expected, rtol=1e-3)
    assert torch.allclose(found[~flat], torch.tensor(1e7))
    fewer = alive.clone()
    fewer.view(-1)[flat.nonzero()[:3, 0]] = False
    for update in ("single", "joint"):
        assert not inverse.correction({"w0": fewer}, update)["w0"].view(-1)[~flat].any(), "what is gone stays zero"


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 1e4])
def test_gradients_that_no_inverse_can_hold_are_an_error(wrong):
    gradients = correlated(200, 20, 1.0)
    gradients[7] *= wrong
    gradients[9] *= wrong
    with pytest.raises(ValueError, match=r"raise method\.damping"):
        blocks = filled(gradients * (1 if math.isnan(wrong) or math.isinf(wrong) else wrong), 20)
        blocks.finish()


def test_a_missing_gradient_is_an_error():
    blocks = InverseBlocks(5, 5, 3, 1e-7)
    blocks.add(torch.ones(5))
    with pytest.raises(ValueError, match="of 3 gradients, 1 came"):
        blocks.finish()
    with pytest.raises(ValueError, match="at least one gradient"):
        sp.fisher_diagonal([], 1e-7)


# --- the surgeon on a quadratic ---------------------------------------------------------------------------------------


class Quadratic:
    """Linear regression at its minimum. Per-example gradients of a loss whose Hessian is their Fisher matrix.

    With residuals of variance 1 the empirical Fisher matrix of x (x'w - y) is near the Hessian X'X / m; here residuals
    are exactly +-1, so that both are the same. ``loss`` is the quadratic's, without its constant.
    """

    def __init__(self, n: int = 40, m: int = 400, seed: int = 0):
        noise = torch.Generator().manual_seed(seed)
        self.inputs = correlated(m, n, 1.0, seed)
        self.weights = torch.randn(n, generator=noise)
        signs = torch.randint(0, 2, (m,), generator=noise) * 2.0 - 1
        self.gradients = self.inputs * signs[:, None]
        self.hessian = exact(self.gradients, 1e-4)

    def blocks(self) -> InverseBlocks:
        return filled(self.gradients, len(self.weights), 1e-4)

    def increase(self, weights: torch.Tensor) -> float:
        change = (weights - self.weights).double()
        return 0.5 * float(change @ self.hessian @ change)

    def least(self, dropped: torch.Tensor) -> float:
        """The lowest increase that any weights with zeros at ``dropped`` can have, by solving for the others."""
        h, kept, w = self.hessian, ~dropped, self.weights.double()
        living = w[kept] + torch.linalg.solve(h[kept][:, kept], h[kept][:, dropped] @ w[dropped])
        whole = torch.zeros_like(w)
        whole[kept] = living
        return self.increase(whole)


@pytest.mark.parametrize("seed", range(3))
def test_removing_one_weight_costs_what_the_score_says_and_nothing_can_cost_less(seed):
    problem = Quadratic(seed=seed)
    blocks = problem.blocks()
    score = sp.surgeon({"w": problem.weights}, {"w": blocks.diagonal()}).chunk("w", 0, 40)
    for i in range(40):
        dropped = torch.arange(40) == i
        for update in ("single", "joint"):
            corrected = problem.weights + blocks.correction(problem.weights, dropped, update)
            assert abs(corrected[i]) < 1e-4
            corrected[i] = 0
            assert problem.increase(corrected) == pytest.approx(float(score[i]), rel=1e-3)
            assert problem.increase(corrected) == pytest.approx(problem.least(dropped), rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_joint_is_the_best_for_several_weights_and_single_is_not(seed, share):
    problem = Quadratic(seed=seed)
    blocks = problem.blocks()
    score = sp.surgeon({"w": problem.weights}, {"w": blocks.diagonal()})
    kept = sp.select(score, sp.global_pool({"w": problem.weights}, share))["w"]
    found = {"none": problem.increase(problem.weights * kept)}
    for update in ("single", "joint"):
        found[update] = problem.increase((problem.weights + blocks.correction(problem.weights, ~kept, update)) * kept)
    assert found["joint"] == pytest.approx(problem.least(~kept), rel=1e-2)
    assert found["joint"] < found["single"] and found["joint"] < found["none"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_surgeon_costs_less_than_damage_and_damage_less_than_magnitude(seed, share):
    problem = Quadratic(seed=seed)
    scaled = torch.logspace(-1, 1, 40)[torch.randperm(40, generator=torch.Generator().manual_seed(seed))]
    problem.gradients, problem.weights = problem.gradients * scaled, problem.weights / scaled.sqrt()
    problem.hessian = exact(problem.gradients, 1e-4)
    blocks, weights = problem.blocks(), {"w": problem.weights}
    diagonal = sp.fisher_diagonal([{"w": g} for g in problem.gradients], 1e-4)
    pools = sp.global_pool(weights, share)
    surgeon = sp.select(sp.surgeon(weights, {"w": blocks.diagonal()}), pools)["w"]
    damage, size = (sp.select(s, pools)["w"] for s in (sp.damage(weights, diagonal), sp.magnitude(weights)))
    corrected = problem.weights + blocks.correction(problem.weights, ~surgeon, "joint")
    costs = [problem.increase(w) for w in (corrected * surgeon, problem.weights * damage, problem.weights * size)]
    assert costs == sorted(costs) and costs[0] < costs[2] / 2


def test_scores():
    weights, values = {"w": torch.tensor([1.0, -2.0, 0.0])}, {"w": torch.tensor([4.0, 0.5, 8.0])}
    assert sp.damage(weights, values).chunk("w", 0, 3).tolist() == [2.0, 1.0, 0.0]
    assert sp.surgeon(weights, values).chunk("w", 0, 3).tolist() == [0.125, 4.0, 0.0]


# --- the methods ------------------------------------------------------------------------------------------------------


def gradients_by_hand(worker, state, positions, model) -> list[dict]:
    order = optimization.Order(state.stream("gradients", state.step), worker.examples(), 20)
    found = []
    for position in positions:
        loss = worker.loss(model, worker.batch(order(position), position))
        found.append(
            dict(
                zip(
                    state.weights, torch.autograd.grad(loss, [dict(model.named_parameters())[n] for n in state.weights])
                )
            )
        )
    return found


def dense_model(worker):
    model = worker.build_seeded("initialisation")
    model.load_state_dict(training.weights(trained("dense")))
    return model.eval()


@pytest.mark.parametrize("update", ["single", "joint", "none"])
def test_obert_by_hand(update):
    """Two blocks of the digits' network by explicit inverses; the mask of all, by the score's definition."""
    worker, state = begun("obert", {"method.update": update}, 0.5)
    model = dense_model(worker)
    rows = gradients_by_hand(worker, state, range(6), model)
    dense = training.weights(trained("dense"))
    masks, _ = network(torch.zeros(1, 1), ((1, 1),))
    masks = sp.Masks({name: nn.Parameter(dense[name].clone()) for name in state.weights})
    inverse = InverseFisher(masks, lambda: iter(rows), 6, 20, 1e-7)
    expected = sp.select(sp.surgeon(masks.weights, inverse.diagonal()), sp.global_pool(masks.weights, 0.5))
    assert training.equal(state.masks.bits, expected)
    compared = 0
    for name in state.weights:
        for first in (0, 20 * (state.weights[name].numel() // 40)):
            part = slice(first, first + 20)
            here = torch.linalg.inv(exact(torch.stack([row[name].reshape(-1)[part] for row in rows])))
            w, kept = dense[name].view(-1)[part].double(), state.masks[name].view(-1)[part]
            if update == "none":
                change = torch.zeros(20)
            elif update == "single":
                change = -sum(w[i] / here[i, i] * here[:, i] for i in (~kept).nonzero()[:, 0].tolist())
            else:
                change = -here[:, ~kept] @ torch.linalg.solve(here[~kept][:, ~kept], w[~kept])
            found = state.weights[name].detach().view(-1)[part].double()
            assert torch.allclose(found, (w + change) * kept, rtol=1e-3, atol=1e-5)
            compared += int((change.abs() > 1e-4).sum())
    assert (compared > 0) == (update != "none")
    for name, value in state.model.state_dict().items():
        if name not in state.weights:
            assert torch.equal(value, dense[name]), "biases stay"


def test_with_blocks_of_one_obert_is_obd():
    diagonal = begun("obd", {}, 0.7)[1]
    surgeon = begun("obert", {"method.block": 1}, 0.7)[1]
    assert diagonal.masks.checksum() == surgeon.masks.checksum()
    assert training.equal(sp.snapshot(diagonal.model), sp.snapshot(surgeon.model))


def test_obd_is_the_diagonal_of_the_fisher_matrix():
    worker, state = begun("obd", {}, 0.7)
    model = dense_model(worker)
    rows = gradients_by_hand(worker, state, range(6), model)
    scores = {
        name: dict(model.named_parameters())[name].detach() ** 2 * (1e-7 + sum(r[name] ** 2 for r in rows) / 6) / 2
        for name in state.weights
    }
    assert training.equal(state.masks.bits, sp.select(scores, sp.global_pool(scores, 0.7)))


def test_recomputations_prune_in_equal_parts_each_with_new_batches(monkeypatch):
    worker, state = begun("obert", {"method.recomputations": 3}, 0.9, start=False)
    kept, asked = [], []
    set_masks, gradients_of = type(state).set_masks, type(state).gradients_of
    monkeypatch.setattr(
        type(state),
        "set_masks",
        lambda self, new, *a, **k: (set_masks(self, new, *a, **k), kept.append(training.copy(self.masks.bits)))[0],
    )
    monkeypatch.setattr(
        type(state), "gradients_of", lambda self, batches: asked.append(batches) or gradients_of(self, batches)
    )
    worker.method.start(state)
    counts = [sum(int(bits.sum()) for bits in masks.values()) for masks in kept]
    assert counts[:3] == [sp.kept_count(50200, share) for share in (0.3, 0.6, 0.9)]
    assert asked == [range(6), range(6, 12), range(12, 18)]
    for before, after in pairwise(kept):
        assert not any((after[name] & ~before[name]).any() for name in after), "what is gone stays gone"


def test_pruned_weights_do_not_come_back_where_living_ones_are_zero():
    """Both score 0, and fc1 comes first."""
    worker, state = begun("obert", {}, 0.3)
    before = training.copy(state.masks.bits)
    with torch.no_grad():
        for name in ("fc2.weight", "output.weight"):
            state.weights[name].zero_()
    worker.method.prune(state, 0.6)
    assert state.masks.kept == sp.kept_count(50200, 0.6)
    assert not any((state.masks[name] & ~bits).any() for name, bits in before.items())


@pytest.mark.parametrize("recomputations", [1, 2])
def test_gradual_pruning_follows_the_cubic_to_the_target(recomputations):
    values = {"method.prunings": 4, "method.initial": 0.4, "method.recomputations": recomputations}
    worker, state = begun("obert", values, 0.9)
    dense = training.weights(trained("dense"))
    assert state.masks.sparsity == 0 and training.equal(sp.snapshot(state.model), dense), "it starts from dense weights"
    begin, end, every = worker.method.window(60)
    assert (begin, end, every) == (4, 52, 16)
    history = {}
    while state.step < 60:
        before = training.copy(state.masks.bits)
        worker.step(state)
        assert not any((state.masks[name] & ~bits).any() for name, bits in before.items())
        history[state.step] = state.masks.kept
        assert worker.method.settled(state.step, 60) == (state.step >= 52)
    expected = {step: sp.kept_count(50200, sp.cubic(step, 4, 52, 0.9, 0.4)) for step in (4, 20, 36, 52)}
    assert {s: k for s, k in history.items() if s in expected} == expected
    assert [s for s in history if s > 1 and history[s] != history[s - 1]] == list(expected)
    lower = begun("obert", {**values, "method.initial": 0.7}, 0.5)
    while lower[1].step < 60:
        lower[0].step(lower[1])
    assert lower[1].masks.kept == sp.kept_count(50200, 0.5), "a target below the first step's sparsity"


@pytest.mark.parametrize("allocation", ["global", "uniform", "erk", "rows"])
@pytest.mark.parametrize("method", ["obd", "obert"])
def test_allocations_are_exact(method, allocation):
    values = {"method.allocation": allocation, "run.steps": 12}
    if method == "obert":
        values["method.recomputations"] = 2
    summary = training.summary(trained(method, values, 0.777))
    assert sum(layer["kept"] for layer in summary["layers"].values()) == sp.kept_count(50200, 0.777)


def test_what_is_pruned_comes_last_whatever_its_score():
    """-inf: below every score of a living weight, zeros among them."""
    masks, sample = network(correlated(30, 73))
    masks.update({name: torch.rand(bits.shape) > 0.5 for name, bits in masks.bits.items()})
    with torch.no_grad():
        for weight in masks.weights.values():
            weight.view(-1)[:9] = 0  # living or not: all of these score 0
    inverse = InverseFisher(masks, sample, 30, 8, 1e-7).diagonal()
    score = sp.surgeon(masks.weights, inverse)
    lowest = {
        name: torch.where(masks[name], score.chunk(name, 0, w.numel()).view(w.shape), -math.inf)
        for name, w in masks.weights.items()
    }
    pools = [sp.Pool(tuple(masks.weights), masks.kept - 2)]
    chosen = sp.select(score, pools, within=masks)
    assert training.equal(chosen, sp.select(lowest, pools))
    assert not any((chosen[name] & ~masks[name]).any() for name in chosen)


def test_obert_loses_less_than_magnitude_before_any_retraining():
    """On the digits at 80%, two thirds of magnitude's loss or less: what the paper's one-shot figures show."""
    found = {}
    for method, update in (("omp_after", None), ("obert", "none"), ("obert", "single"), ("obert", "joint")):
        values = {"method.gradients": 48, "method.block": 50, "method.recomputations": 2, "method.update": update}
        worker, state = begun(method, {"run.steps": 200, "run.batch_size": 60, **(values if update else {})}, 0.8)
        state.model.eval()
        found[method, update] = worker.evaluate(state.model, "validation")["loss"]
    assert found["obert", "single"] < found["omp_after", None] / 1.5, found
    assert found["obert", "joint"] < found["omp_after", None] / 1.5, found
    assert found["obert", "single"] < found["obert", "none"] < found["omp_after", None], "the correction helps"


# --- memory, settings and what may go wrong ---------------------------------------------------------------------------


def test_memory_is_stated_before_anything_is_computed(monkeypatch):
    """50,200 weights in blocks of 50: 66 numbers a weight, in four bytes each, and what the arithmetic takes."""
    monkeypatch.setattr(memory, "available", lambda device: 2**20)
    worker, state = begun("obert", {"method.block": 50}, start=False)
    monkeypatch.setattr(type(state), "gradients_of", lambda self, batches: pytest.fail("too late"))
    monkeypatch.setattr(Parent, "weights", lambda self: pytest.fail("too late"))
    needed = InverseFisher.memory(state.weights, 50)
    message = (
        f"oBERT needs {needed / 2**30:.3g} GiB for 50,200 weights with method.block=50 (4 bytes x (block + 16) each, "
        "method.passes=1), 0.000977 GiB are free on cpu; give a smaller method.block, more method.passes, or METHOD=obd"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        worker.method.start(state)
    assert 4 * 66 * 50200 < needed < 1.3 * 4 * 66 * 50200 + 12 * 2**20


def test_memory_of_large_networks():
    """RoBERTa-large's 355 million weights, on paper (no memory is needed for meta tensors): what the paper's figure

    gives, 4 bytes x block a weight, is most of it.
    """
    weights = {str(i): torch.empty(1024, 1024, device="meta") for i in range(339)}
    total = 339 * 2**20
    for block, passes in ((50, 1), (50, 4), (16, 1), (1, 1)):
        needed = InverseFisher.memory(weights, block, passes)
        assert needed == pytest.approx(total * (4 * (block + 16) / passes + 20), rel=0.02)
    assert InverseFisher.memory(weights, 50, 8) < InverseFisher.memory(weights, 50, 4)


def test_the_blocks_really_take_what_was_said():
    weights = {"a": nn.Parameter(torch.randn(300, 77)), "b": nn.Parameter(torch.randn(13))}
    inverse = InverseFisher(sp.Masks(weights), lambda: iter([]), 5, 50, 1e-7)
    blocks = [InverseBlocks(w.numel(), 50, 100, 1e-7) for w in weights.values()]
    held = sum(4 * (b.inverse.numel() + b.waiting.numel()) for b in blocks)
    assert held <= inverse.memory(weights, 50) < held + 20 * 23113 + 20 * 2**20


def test_available_memory_is_a_number_of_this_machine(tmp_path, monkeypatch):
    found = memory.available("cpu")
    assert 2**20 < found < 2**50
    files = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 4000 kB\n", "/proc/self/cgroup": "1:x:/y\n0::/job/step\n"}
    for folder, limit in (("", None), ("job", "3000000"), ("job/step", "max")):
        base = f"/sys/fs/cgroup/{folder}".rstrip("/")
        files |= {f"{base}/memory.current": "1000000", f"{base}/memory.stat": "anon 1\ninactive_file 500000\n"}
        if limit:
            files[f"{base}/memory.max"] = limit

    def read(self, *arguments, **named):
        if str(self) not in files:
            raise FileNotFoundError(self)
        return files[str(self)]

    with monkeypatch.context() as context:
        context.setattr(Path, "read_text", read)
        assert memory.available("cpu") == 2500000, "the job's limit, less what it uses and cannot give back"
        files["/sys/fs/cgroup/job/memory.max"] = "max"
        assert memory.available("cpu") == 4000 * 1024
        files.clear()
        assert memory.available("cpu") == 1 << 62, "unknown: nothing is refused"


@pytest.mark.parametrize(
    "method, values, message",
    [
        ("obert", {"method.block": 0}, "method.block must be at least 1"),
        ("obert", {"method.gradients": 0}, "method.gradients must be at least 1"),
        ("obert", {"method.recomputations": 0}, "method.recomputations must be at least 1"),
        ("obert", {"method.passes": 0}, "method.passes must be at least 1"),
        ("obert", {"method.prunings": 0}, "method.prunings must be at least 1"),
        ("obert", {"method.damping": 0}, "method.damping must be above 0"),
        ("obert", {"method.update": "double"}, "must be one of single, joint, none; found 'double'"),
        ("obert", {"method.initial": 1}, r"method.initial must be in \[0, 1\)"),
        ("obert", {"method.begin": 0.9}, "method.begin must be below method.end, found 0.9 and 0.8"),
        ("obert", {"method.prunings": 3, "method.retrain": "weights"}, "it needs method.prunings=1"),
        ("obert", {"method.prunings": 100}, "method.prunings=100 do not fit between steps 4 and 52"),
        ("obd", {"method.gradients": 0}, "method.gradients must be at least 1"),
        ("obd", {"method.damping": -1}, "method.damping must not be negative"),
    ],
)
def test_what_cannot_work_is_said_before_training(method, values, message):
    with pytest.raises(UserError, match=message):
        training.line(method, values)


def test_prunings_that_do_not_fit_are_said_at_the_start_where_only_the_data_know_the_steps():
    folders = training.line("obert", {"run.steps": 0, "run.epochs": 0.5, "method.prunings": 80})
    training.train(folders[:-1])
    assert run.execute(folders[-1]) == "failed"
    assert "do not fit" in record.read_json(paths.status(folders[-1]))["reason"]


def test_weight_rewinding_takes_the_masks_alone():
    values = {"method.retrain": "weights", "method.retrain_share": 0.5}
    state, plain = begun("obert", values, 0.8)[1], begun("obert", {}, 0.8)[1]
    early_worker, early = begun("dense")
    while early.step < 30:
        early_worker.step(early)
    assert state.masks.checksum() == plain.masks.checksum()
    for name, weight in state.weights.items():
        assert torch.equal(weight, early.weights[name] * state.masks[name])


# --- gradients of single batches, and corrections ---------------------------------------------------------------------


def test_gradients_of_batches_leave_the_run_untouched():
    """With dropout, batch normalisation and gradients under way; who asks may stop early."""
    worker, state = toy(Noisy)
    state.model.train()
    worker.loss(state.model, worker.batch(worker.order(0), 0)).backward()
    before = training.copy(sp.snapshot(state.model)), training.copy(state.gradients()), torch.get_rng_state()
    modes = [module.training for module in state.model.modules()]
    state.model[0][1].eval()
    modes = [module.training for module in state.model.modules()]
    for _ in state.gradients_of(range(5)):
        torch.rand(3)
        break
    torch.set_rng_state(before[2])
    found = [training.copy(g) for g in state.gradients_of(range(4))]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert training.equal(sp.snapshot(state.model), before[0]) and training.equal(state.gradients(), before[1])
    assert [module.training for module in state.model.modules()] == modes
    state.model.eval()
    for position, gradients in enumerate(found):
        order = optimization.Order(state.stream("gradients", 0), 64, 20)
        loss = worker.loss(state.model, worker.batch(order(position), position))
        expected = torch.autograd.grad(loss, list(state.weights.values()))
        assert all(torch.equal(gradients[n], e) for n, e in zip(state.weights, expected))
    assert not training.equal(found[0], found[1])
    assert training.equal(next(iter(state.gradients_of([3]))), found[3]), "a batch's number is its name"
    state.step = 7
    assert not training.equal(next(iter(state.gradients_of([3]))), found[3]), "another step, other batches"


def test_gradients_of_a_recurrent_network_and_of_what_the_loss_does_not_reach():
    class Recurrent(training.Toy):
        def build(self):
            return nn.ModuleDict({"lstm": nn.LSTM(12, 3, batch_first=True), "idle": nn.Linear(2, 2)})

        def loss(self, model, batch):
            return (model["lstm"](batch[0].unsqueeze(1))[0][:, 0] - batch[1]).square().mean()

    state = toy(Recurrent)[1]
    found = next(iter(state.gradients_of([0])))
    assert not found["idle.weight"].any() and found["lstm.weight_ih_l0"].any()


def test_a_loss_that_is_not_finite_is_said():
    worker, state = toy(training.Toy)
    worker.inputs[:] = math.inf
    with pytest.raises(ValueError, match="the loss of a training batch is not finite"):
        list(state.gradients_of([0]))
    assert all(parameter.grad is None for parameter in state.model.parameters())


def test_a_correction_moves_survivors_only_and_is_checked_first():
    state = toy(training.Toy)[1]
    before = training.copy(state.weights)
    masks = {name: torch.rand(w.shape) > 0.5 for name, w in state.weights.items()}
    name = next(iter(masks))
    for wrong, message in (
        ({"nobody": torch.ones(2)}, "no prunable weight of that name"),
        ({name: torch.ones(2)}, "no prunable weight of that name and shape"),
        ({name: torch.full_like(before[name], math.nan)}, "is not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            state.set_masks(masks, correction=wrong)
        assert training.equal(training.copy(state.weights), before) and state.masks.sparsity == 0
    state.set_masks(masks, correction={name: torch.full_like(before[name], 0.5)})
    for key, weight in state.weights.items():
        assert torch.equal(weight, (before[key] + 0.5 * (key == name)) * masks[key])


# --- interruptions and several processes ------------------------------------------------------------------------------


def test_gradual_pruning_is_resumed_bit_for_bit():
    values = {"method.prunings": 4, "method.initial": 0.3, "method.recomputations": 2, "run.checkpoint_every": 5}
    folder = training.line("obert", {**values, "run.seed": 4}, 0.9)
    training.train(folder[:-1])
    for call in (7, 12, 16, 9):  # each attempt counts from the last resume point
        assert training.attempt(folder[-1], Death("step", call=call)) == -signal.SIGKILL
    assert training.attempt(folder[-1]) == 0
    killed = training.result(folder[-1])
    for path in folder[-1].iterdir():
        if path.name != "config.yaml":
            path.unlink()
    training.train(folder[-1:])
    assert training.result(folder[-1]) == killed


def test_processes_of_a_stage_share_the_batches_and_agree(tmp_path, monkeypatch):
    """Each takes half of every batch; weights are compared bit for bit at the start and at the end."""
    from tasks.classic.trainer import Trainer

    batch = Trainer.batch

    def told(self, indices, position):
        with open(tmp_path / f"sizes-{self.team.rank}-of-{self.team.size}", "a") as file:
            file.write(f"{len(indices)} ")
        return batch(self, indices, position)

    values = {"run.processes": 2, "run.steps": 12, "method.recomputations": 2}
    folders = training.line("obert", values, 0.8)
    training.train(folders[:-1])
    monkeypatch.setattr(Trainer, "batch", told)
    assert ranks.together(folders[-1]) == ["done", "done"]
    for rank in (0, 1):
        assert (tmp_path / f"sizes-{rank}-of-2").read_text().split() == ["10"] * (12 + 12)
    two = training.masks(folders[-1])
    worker = run.trainer(record.read_config(folders[-1]))
    state = worker.begin(Parent(folders[-2], worker))
    worker.method.start(state)
    agreeing = sum(int((two[name] == state.masks[name]).sum()) for name in two)
    assert agreeing > 0.999 * 50200, "the same masks as one process alone, but for rounding"
