"""What the loop and its masks cost: one sparse step of ``Trainer.step`` against a bare dense PyTorch step.

    python -m benchmarks.step                 LeNet-300-100 at 80% on inputs of MNIST's size, under a minute

Three contestants take turns in blocks of steps, on the same random data with the same fused optimizer and batch size:
a bare loop (indexing a batch, forward, backward, optimizer, nothing else), the loop with dense masks, the loop at 80%.
A figure is the median over rounds of the ratio to the bare loop in the same round. One thread, processor time.
"""

import argparse
import statistics
import time
from dataclasses import asdict

import torch
from torch.nn.functional import cross_entropy

from common import sparsity as sp
from common.settings import groups
from common.training import optimization
from tasks.classic.data import Data, Split
from tasks.classic.trainer import Trainer

SPARSITY = 0.8
EXAMPLES = 6000


class RandomTrainer(Trainer):
    """The classic task's trainer on random images."""

    def load(self) -> Data:
        noise = torch.Generator().manual_seed(0)
        images = torch.randn(EXAMPLES, 1, 28, 28, generator=noise)
        split = Split(images, torch.randint(0, 10, (EXAMPLES,), generator=noise), torch.arange(EXAMPLES))
        return Data(split, split, split, checksum="", warnings=[], weights=None)


def trainer(optimizer: str) -> Trainer:
    kinds = groups.classes("classic", "dense")
    run = kinds["run"](optimizer=optimizer, learning_rate=1e-4, steps=10**6, device="cpu")
    settings = {"run": asdict(run), "task": asdict(kinds["task"](dataset="mnist")), "method": {}}
    return RandomTrainer(settings, "dense", "classic")


def loop(optimizer: str, sparsity: float):
    """One step of the project's loop, as a function."""
    runner = trainer(optimizer)
    state = runner.begin(None)
    state.set_masks(sp.select(sp.magnitude(state.weights), sp.global_pool(state.weights, sparsity)))
    return lambda: runner.step(state)


def bare(optimizer: str):
    """One dense step as a tutorial writes it."""
    runner = trainer(optimizer)
    model = runner.build_seeded("initialisation")
    update = optimization.optimizer(runner.run, [{"params": list(model.parameters())}])
    images, labels = runner.data.train.images, runner.data.train.labels
    order, size, position = torch.randperm(EXAMPLES), runner.run.batch_size, 0

    def step() -> None:
        nonlocal position
        chosen = order[position : position + size]
        position = (position + size) % EXAMPLES
        cross_entropy(model(images[chosen]), labels[chosen]).backward()
        update.step()
        update.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--block", type=int, default=20, help="steps a contestant takes before the next one's turn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| optimizer | loop, dense / bare | loop, 80% / bare | loop, 80% / loop, dense |\n|---|---|---|---|")
    for optimizer in ("sgd", "adam"):
        contestants = {"bare": bare(optimizer), "dense": loop(optimizer, 0.0), "sparse": loop(optimizer, SPARSITY)}
        times = {name: [] for name in contestants}
        for round_ in range(options.rounds + 2):  # two rounds warm up
            for name, step in contestants.items():
                begun = time.process_time()
                for _ in range(options.block):
                    step()
                if round_ > 1:
                    times[name].append(time.process_time() - begun)

        def ratio(one: str, other: str, times=times) -> float:
            return statistics.median(a / b for a, b in zip(times[one], times[other]))

        figures = (ratio("dense", "bare"), ratio("sparse", "bare"), ratio("sparse", "dense"))
        print(f"| {optimizer} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |", flush=True)


if __name__ == "__main__":
    main()
