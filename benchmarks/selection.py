"""Global magnitude pruning, ours against what a PyTorch user would otherwise write: time and exactness.

    python -m benchmarks.selection            LeNet-300-100 and ResNet-50 shapes, about two minutes
    python -m benchmarks.selection --large    RoBERTa-large shapes too (355 M weights, 12 GiB, minutes a round;
                                              without torch.nn.utils.prune, which would need 20 GiB more)

Every round times each contestant once, in turn, on the same weights; a figure is the median over rounds of the ratio to
ours in the same round. One thread, processor time. A pass is the time of reading every weight once.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune

from common import sparsity as sp

SPARSITY = 0.8
LENET = [(300, 784), (100, 300), (10, 100)]
RESNET50 = [(64, 3, 7, 7)]
for width, blocks, entering in ((64, 3, 64), (128, 4, 256), (256, 6, 512), (512, 3, 1024)):
    for block in range(blocks):
        inside = entering if block == 0 else 4 * width
        RESNET50 += [(width, inside, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
        RESNET50 += [(4 * width, inside, 1, 1)] if block == 0 else []
RESNET50 += [(1000, 2048)]
ROBERTA = [(50265, 1024), (514, 1024), *[(1024, 1024)] * 96, *[(4096, 1024), (1024, 4096)] * 24, (1024, 1024)]


class Weights(nn.Module):
    """A tensor to prune; no layer is needed for that."""

    def __init__(self, values: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(values)


def ours(layers: list[Weights]) -> None:
    masks = sp.Masks({str(i): layer.weight for i, layer in enumerate(layers)})
    masks.update(sp.select(sp.magnitude(masks.weights), sp.global_pool(masks.weights, SPARSITY)))


def torch_prune(layers: list[Weights]) -> None:
    chosen = [(layer, "weight") for layer in layers]
    prune.global_unstructured(chosen, pruning_method=prune.L1Unstructured, amount=SPARSITY)
    for layer in layers:
        prune.remove(layer, "weight")


@torch.no_grad()
def by_threshold(layers: list[Weights], threshold: Callable[[torch.Tensor, int], float]) -> None:
    """The usual recipe: one long vector of magnitudes, a threshold, masks by comparison."""
    magnitudes = torch.cat([layer.weight.abs().view(-1) for layer in layers])
    limit = threshold(magnitudes, sp.kept_count(len(magnitudes), SPARSITY))
    for layer in layers:
        layer.weight.mul_(layer.weight.abs() >= limit)


CONTESTANTS = {
    "ours": ours,
    "torch.nn.utils.prune": torch_prune,
    "torch.topk": lambda w: by_threshold(w, lambda m, k: torch.topk(m, k, sorted=False).values.min().item()),
    "torch.kthvalue": lambda w: by_threshold(w, lambda m, k: torch.kthvalue(m, len(m) - k + 1).values.item()),
    "numpy.partition": lambda w: by_threshold(w, lambda m, k: float(np.partition(m.numpy(), len(m) - k)[len(m) - k])),
    "torch.sort": lambda w: by_threshold(w, lambda m, k: torch.sort(m).values[len(m) - k].item()),
}


def measure(shapes: list[tuple], rounds: int) -> list[dict]:
    contestants = CONTESTANTS.copy()
    if shapes is ROBERTA:
        del contestants["torch.nn.utils.prune"]
    noise = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=noise) for shape in shapes]
    layers = [Weights(torch.full_like(values, float("nan"))) for values in start]
    total = sum(values.numel() for values in start)
    repeats = max(1, 2_000_000 // total)  # small networks are timed several times over
    times = {name: [] for name in ("reading", *contestants)}
    zeros = {}
    for round_ in range(rounds + 1):  # the first round warms up
        for name, contestant in {"reading": None, **contestants}.items():
            spent = 0.0
            for _ in range(repeats):
                for layer, values in zip(layers, start):
                    layer.weight.data.copy_(values)
                begun = time.process_time()
                if contestant is None:
                    for values in start:
                        values.sum()
                else:
                    contestant(layers)
                spent += time.process_time() - begun
            if round_:
                times[name].append(spent)
            zeros[name] = total - sum(int(torch.count_nonzero(layer.weight)) for layer in layers)
    asked = total - sp.kept_count(total, SPARSITY)
    return [
        {
            "name": name,
            "ratio": statistics.median(t / o for t, o in zip(times[name], times["ours"])),
            "passes": statistics.median(t / r for t, r in zip(times[name], times["reading"])),
            "surplus": zeros[name] - asked,
        }
        for name in contestants
    ]


def reached(name: str, values: torch.Tensor) -> float:
    """The sparsity a contestant leaves where many magnitudes are equal."""
    layers = [Weights(values.clone())]
    CONTESTANTS[name](layers)
    return 1 - int(torch.count_nonzero(layers[0].weight)) / values.numel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="355 M weights too")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"LeNet-300-100": LENET, "ResNet-50": RESNET50} | ({"RoBERTa-large": ROBERTA} if options.large else {})
    for label, shapes in sizes.items():
        print(f"\n{label}, {sum(int(np.prod(s)) for s in shapes):,} weights, to {SPARSITY:.0%}")
        print(f"| {'':22} | time / ours | passes | zeros too many |\n|---|---|---|---|")
        for row in measure(shapes, options.rounds):
            print("| {name:22} | {ratio:11.1f} | {passes:6.0f} | {surplus:14} |".format(**row), flush=True)
    noise = torch.Generator().manual_seed(1)
    coarse = torch.randn(500, 500, generator=noise).round()
    coarse[coarse == 0] = 1  # no weight is zero, half of them tie
    print(f"\nReached where {SPARSITY:.0%} was asked and magnitudes are 1, 2, 3 or 4")
    for name in CONTESTANTS:
        print(f"| {name:22} | {reached(name, coarse):.2%} |")


if __name__ == "__main__":
    main()
