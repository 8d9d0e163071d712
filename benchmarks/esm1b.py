"""Memory and time of ESM-1b's shape, 650 million random weights, on a CPU: pruned to 80%, then steps of the loop.

    python -m benchmarks.esm1b                     one sequence of 1,022 residues, the longest that ESM-1b takes
    python -m benchmarks.esm1b --batch 2 --residues 256 --precision bfloat16
    python -m benchmarks.esm1b --layers 8          a smaller one first, where memory is scarce

All of a step is the project's: the loop of ``common.training``, global magnitude pruning of self-attention and
feed-forward matrices, AdamW, a head for five classes. Activations are computed again in the backward pass unless
``--keep`` is given. Seconds are processor time; peaks are resident memory of the process so far (ru_maxrss), so each
line includes those above it.
"""

import argparse
import resource
import sys
import time
from dataclasses import asdict

import torch
from torch.nn.functional import cross_entropy

from common import sparsity as sp
from common.settings import groups
from common.training.trainer import Trainer
from tasks.protein.config import Config
from tasks.protein.encoders import esm
from tasks.protein.model import Network

SPARSITY = 0.8
UNIT = 2**30 if sys.platform == "darwin" else 2**20  # what ru_maxrss counts in a GiB: bytes, elsewhere kilobytes


class Random(Trainer):
    """One batch of random sequences and classes, the same at every step."""

    def __init__(self, options: argparse.Namespace):
        kinds = groups.classes("protein", "dense")
        run = kinds["run"](
            optimizer="adamw",
            learning_rate=1e-5,
            clip_norm=1.0,
            batch_size=options.batch,
            steps=options.steps,
            precision=options.precision,
            exclude=["head.*"],
            device="cpu",
        )
        settings = {"run": asdict(run), "task": asdict(Config(dataset="hp-s2c5")), "method": {}}
        super().__init__(settings, "dense", "protein")
        self.options = options
        noise = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(4, 24, (options.batch, options.residues + 2), generator=noise)  # the twenty letters
        self.tokens[:, 0], self.tokens[:, -1] = 0, 2
        self.classes = torch.randint(5, (options.batch,), generator=noise)

    def build(self):
        encoder = esm.create(**{**esm.esm1b, "num_hidden_layers": self.options.layers})
        if not self.options.keep:
            encoder.recompute()
        return Network(encoder, self.task)

    def examples(self):
        return self.options.batch

    def batch(self, indices, position):
        return self.tokens[indices], self.classes[indices]

    def loss(self, model, batch):
        tokens, classes = batch
        return cross_entropy(model(tokens, tokens >= 0, tokens >= 4), classes)


def report(what: str, begun: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT
    print(f"| {what:36} | {time.process_time() - begun:8.1f} | {peak:9.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=33)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--residues", type=int, default=1022)
    parser.add_argument("--steps", type=int, default=2, help="from the second on AdamW has its memory")
    parser.add_argument("--precision", default="float32", help="float32 or bfloat16 (autocast)")
    parser.add_argument("--keep", action="store_true", help="keep activations for the backward pass")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    begun = time.process_time()
    trainer = Random(options)
    state = trainer.begin(None)
    total, all_of_it = sum(weight.numel() for weight in state.weights.values()), sp.count(state.model)
    print(f"{options.layers} layers, {all_of_it:,} parameters, {total:,} prunable")
    print(f"| {'':36} | {'seconds':>8} | {'GiB, peak':>9} |\n|---|---|---|")
    report("built", begun)
    begun = time.process_time()
    state.set_masks(sp.select(sp.magnitude(state.weights), sp.global_pool(state.weights, SPARSITY)))
    zeros = total - sum(int(torch.count_nonzero(weight)) for weight in state.weights.values())
    report(f"pruned: {zeros / total:.4%} are zero", begun)
    for step in range(options.steps):
        begun = time.process_time()
        loss = trainer.step(state)
        report(f"step {step + 1}, loss {loss:.3f}", begun)
    still = total - sum(int(torch.count_nonzero(weight)) for weight in state.weights.values())
    print(f"zeros asked {total - sp.kept_count(total, SPARSITY):,}, after pruning {zeros:,}, after training {still:,}")


if __name__ == "__main__":
    main()
