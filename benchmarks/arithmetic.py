"""How many math word problems a second GTS and Graph2Tree train on and answer, and where the time goes.

    python -m benchmarks.arithmetic                                    generated problems, two minutes
    python -m benchmarks.arithmetic --dataset mawps --data <folder>    real ones
    python -m benchmarks.arithmetic --profile                          and the operations that took the time

The papers' size (width 512, two layers, words embedded in 128 numbers, batches of 64), one thread. Contestants take
turns in blocks of steps: the loop's step (forward, backward, Adam, masks) of each model in float32 and under bfloat16
autocast, beside torch's bidirectional GRU (--cell lstm: LSTM) of that size alone over the same words, packed, forward
and backward. Figures are medians over rounds; ratios are taken within a round.
"""

import argparse
import statistics
import time
from dataclasses import asdict

import torch
from torch.nn.utils.rnn import pack_padded_sequence

from common.settings import groups
from tasks.arithmetic.network.recurrent import KINDS
from tasks.arithmetic.trainer import Trainer

PAPERS = {"width": 512, "layers": 2, "embedding_width": 128, "dropout": 0.5, "beam": 5, "longest": 45, "pools": 16}


def trainer(model: str, precision: str, options: argparse.Namespace) -> Trainer:
    kinds = groups.classes("arithmetic", "dense")
    run = kinds["run"](
        learning_rate=1e-3,
        batch_size=options.batch,
        steps=10**6,
        precision=precision,
        device="cpu",
        evaluate_every=10**6,
    )
    task = kinds["task"](dataset=options.dataset, data=options.data, model=model, cell=options.cell, **PAPERS)
    return Trainer({"run": asdict(run), "task": asdict(task), "method": {}}, "dense", "arithmetic")


def alone(runner: Trainer):
    """Forward and backward of a recurrent network alone over the words of each batch, as a function."""
    size = PAPERS["width"]
    kind = KINDS[runner.task.cell]
    cells = kind(PAPERS["embedding_width"], size, PAPERS["layers"], bidirectional=True, batch_first=True)
    order, position = runner.data_order(0), 0

    def step() -> None:
        nonlocal position
        batch = runner.batch(order(position), position)
        position += 1
        words = torch.randn(*batch.tokens.shape, PAPERS["embedding_width"], requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=runner.run.precision == "bfloat16"):
            found, _ = cells(pack_padded_sequence(words, batch.lengths, batch_first=True, enforce_sorted=False))
        found.data.float().sum().backward()

    return step


def contestants(options: argparse.Namespace) -> dict:
    found = {}
    for precision in ("float32", "bfloat16"):
        for model in ("gts", "graph2tree"):
            runner = trainer(model, precision, options)
            state = runner.begin(None)
            found[model, precision] = (lambda runner=runner, state=state: runner.step(state)), runner, state
            if model == "gts":
                found["cells alone", precision] = alone(runner), runner, None
    return found


def answering(runner: Trainer, state, options: argparse.Namespace) -> float:
    """Problems a second by beam search, of models that know nothing yet and so write long trees."""
    state.model.eval()
    batch = runner.inputs("test", torch.arange(min(128, len(runner.data.test))))
    begun = time.process_time()
    with torch.no_grad():
        problem = state.model.read(*batch[:-1])
        state.model.decoder(problem, batch.equations)
        state.model.solve(problem, PAPERS["beam"], options.nodes)
    state.model.train()
    return len(batch.lengths) / (time.process_time() - begun)


def profile(step, rows: int = 12) -> str:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watch

    with watch(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(3):
            step()
    return seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="generated")
    parser.add_argument("--data", default="")
    parser.add_argument("--cell", default="gru", choices=["gru", "lstm"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--block", type=int, default=2, help="steps a contestant takes before the next one's turn")
    parser.add_argument("--nodes", type=int, default=15, help="the most nodes of an answered tree")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    racing = contestants(options)
    times = {name: [] for name in racing}
    for round_ in range(options.rounds + 1):  # one warms up
        for name, (step, _, _) in racing.items():
            begun = time.process_time()
            for _ in range(options.block):
                step()
            if round_:
                times[name].append((time.process_time() - begun) / options.block)
    print("| model | precision | problems a second, training | step / cells alone | problems a second, answering |")
    print("|---|---|---:|---:|---:|")
    for (model, precision), (_, runner, state) in racing.items():
        speed = options.batch / statistics.median(times[model, precision])
        ratio = statistics.median(a / b for a, b in zip(times[model, precision], times["cells alone", precision]))
        answers = f"{answering(runner, state, options):.0f}" if state else ""
        print(f"| {model} | {precision} | {speed:.0f} | {ratio:.2f} | {answers} |", flush=True)
    if options.profile:
        for name, (step, _, state) in racing.items():
            if state:
                print(f"\n{' · '.join(name)}\n{profile(step)}")


if __name__ == "__main__":
    main()
