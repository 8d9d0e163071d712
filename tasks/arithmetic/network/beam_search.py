"""Beam search over trees, many problems and hypotheses at once."""

import math

import torch
from torch import Tensor

from tasks.arithmetic.network.tree import ABSENT, Decoder, Encoded


def search(decoder: Decoder, problem: Encoded, beam: int, most: int) -> tuple[Tensor, Tensor]:
    """The best tree found for each problem, int64 [batch, most] in prefix order padded with -1, and its score.

    As in GTS: a hypothesis's score is the sum of its tokens' log-probabilities, not divided by their number; at each
    node the ``beam`` best stay of all continuations of all open hypotheses and of the complete ones, whose scores do
    not change. A problem is done when its best is complete: scores only fall, so none of the others can win. After
    ``most`` nodes the best complete one is the answer (GTS's code: the best, which is wrong where it is open); where
    there is none it is padding alone and the score -infinity.
    """
    device, precision = problem.words.device, torch.promote_types(problem.words.dtype, torch.float32)
    best = torch.full((len(problem.words), most), -1, device=device)
    values = torch.full((len(best),), -math.inf, dtype=precision, device=device)
    state, trees, scores = decoder.start(problem), best[:, None, :0], values.new_zeros(len(best), 1)
    rows = torch.arange(len(best), device=device)  # of ``best``: the problems that are not done
    for node in range(most):
        logits, context = decoder.predict(problem, state)
        found = logits.log_softmax(-1).masked_fill(logits == ABSENT, -math.inf)
        tokens = found.shape[-1]
        stay = torch.full_like(found, -math.inf)
        stay[..., 0] = scores
        total = torch.where(state.ended[..., None], stay, scores[..., None] + found).flatten(1)
        scores, chosen = total.topk(min(beam, total.shape[1]))
        kept = (torch.arange(len(rows), device=device)[:, None], chosen // tokens)
        state = state.at(kept)
        written = torch.where(state.ended, -1, chosen % tokens)
        trees = torch.cat([trees[kept], written[..., None]], dim=2)
        state = decoder.advance(problem, state, context[kept], written)
        done = state.ended[:, 0]
        if node + 1 == most:  # the best of the complete ones, if any
            complete = scores.masked_fill(~state.ended, -math.inf)
            scores, first = complete.max(1, keepdim=True)
            trees, done = trees.take_along_dim(first[..., None], dim=1), scores[:, 0] > -math.inf
        best[rows[done], : node + 1], values[rows[done]] = trees[done, 0], scores[done, 0]
        if done.all():
            break
        if done.any():
            rows, problem, state = rows[~done], problem.at(~done), state.at(~done)
            scores, trees = scores[~done], trees[~done]
    return best, values
