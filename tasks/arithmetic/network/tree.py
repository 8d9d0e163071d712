"""The goal-driven tree decoder of GTS (Xie and Sun, IJCAI 2019), for many trees at once.

A tree is written in prefix order. Each node has a goal q, a vector that says what its subtree is to compute; its token
y is predicted from q and from a context c, the words that q attends to. An operator's goal is split: the left operand
gets its goal from (q, c, y), the right one from these and from t, the embedding of the left subtree, once that is
complete.

With [.] concatenation, e(y) an operator's embedding and g(x) = tanh(C x + b) * sigmoid(G x + d), each g its own:

    context          c = sum of a_s h_s, a = softmax over words of v tanh(W [q, h_s])
    probabilities    softmax over operators U [q, c] + u, and over constants and quantities v tanh(W [q, c, t])
    left operand     q_l = g(h_l), h_l = g([q, c, e(y)]);  the root's goal is the g of left operands of its vector
    right operand    q_r = g([h_r, t_l]), h_r = g([q, c, e(y)])
    subtree          t = g([e(y), t_l, t_r]); of a leaf, a constant's embedding or the state of the quantity's word

Where the paper says otherwise we follow the authors' code, from which the published figures are: in it operators are
scored by a linear layer, not like constants and quantities by their embeddings, and the problem's vector passes a gate
before it is the root's goal. One difference from that code: the dropout mask of the leaves that are scored is drawn
once per tree, not once per node, so that their part of the score is computed once.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

ABSENT = -1e9  # the logit of a quantity that the problem does not have: finite, so that losses of whole rows are


class Encoded(NamedTuple):
    """Encoded problems, as the decoder sees them. c counts constants and quantities, in the vocabulary's order."""

    words: Tensor  # float [batch, words, width]
    hidden: Tensor  # bool [batch, words]: padding
    keys: Tensor  # float [batch, words, width]: what attention compares goals to
    vector: Tensor  # float [batch, width]
    leaves: Tensor  # float [batch, c, width]: embeddings of constants, and states of the quantities' words
    leaf_keys: Tensor  # float [batch, c, width]: what the score compares goal and context to
    absent: Tensor  # bool [batch, c]: quantities that the problem does not have

    def at(self, rows: Any) -> "Encoded":
        """The problems ``rows``: a slice, numbers or a mask."""
        return Encoded(*(values[rows] for values in self))


class State(NamedTuple):
    """Trees under construction, ``trees`` of each problem: the goal of the next node, and a stack of open operators.

    The stack is padded to the depth of the deepest. An operator's ``vector`` is its h_r, of which the right goal is
    made, until the left subtree is ``complete``; from then on it is that subtree's embedding.
    """

    goal: Tensor  # float [batch, trees, width]
    ended: Tensor  # bool [batch, trees]
    depth: Tensor  # int64 [batch, trees]: operators on the stack
    operators: Tensor  # int64 [batch, trees, depth]
    vectors: Tensor  # float [batch, trees, depth, width]
    complete: Tensor  # bool [batch, trees, depth]

    def at(self, rows: Any) -> "State":
        return State(*(values[rows] for values in self))

    def deeper(self) -> "State":
        """The same with room for one operator more."""
        room = (nn.functional.pad(self.operators, (0, 1)), nn.functional.pad(self.vectors, (0, 0, 0, 1)))
        return State(self.goal, self.ended, self.depth, *room, nn.functional.pad(self.complete, (0, 1)))

    def slots(self) -> Tensor:
        """int64 [depth]."""
        return torch.arange(self.operators.shape[-1], device=self.depth.device)

    def top(self, values: Tensor) -> Tensor:
        """The uppermost of ``values`` (those of the stack) of each tree; where there is none, anything."""
        place = (self.depth - 1).clamp(min=0)[(...,) + (None,) * (values.ndim - 2)]
        return values.take_along_dim(place, dim=2).squeeze(2)


class Gated(nn.Module):
    """tanh(C x) * sigmoid(G x), x the concatenation of what is given, some of it dropped."""

    def __init__(self, inputs: int, width: int, dropout: float):
        super().__init__()
        self.candidate, self.gate = nn.Linear(inputs, width), nn.Linear(inputs, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, *parts: Tensor) -> Tensor:
        joined = self.dropout(torch.cat(parts, dim=-1))
        return torch.tanh(self.candidate(joined)) * torch.sigmoid(self.gate(joined))


class Comparison(nn.Module):
    """v tanh(W [query, key]), W in its two parts, so that keys are multiplied once and not once a query."""

    def __init__(self, query: int, key: int, width: int):
        super().__init__()
        self.query, self.key = nn.Linear(query, width), nn.Linear(key, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)
        bound = 1 / math.sqrt(query + key)  # torch's own for the whole of W
        for parameter in (self.query.weight, self.query.bias, self.key.weight):
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """float [batch, queries, keys] of ``queries`` [batch, queries, query] and what ``self.key`` made of keys."""
        return self.score(torch.tanh(self.query(queries)[:, :, None] + keys[:, None])).squeeze(-1)


class Decoder(nn.Module):
    """Tokens are numbered as in the vocabulary: operators, constants, quantities of the problem; negative: padding."""

    def __init__(self, operators: int, constants: int, width: int, embedding_width: int, dropout: float):
        super().__init__()
        self.operators = nn.Embedding(operators, embedding_width)
        self.constants = nn.Embedding(constants, width)
        self.attention = Comparison(width, width, width)
        self.operator_score = nn.Linear(2 * width, operators)
        self.leaf_score = Comparison(2 * width, width, width)
        split = 2 * width + embedding_width
        self.left_half, self.right_half = Gated(split, width, 0.0), Gated(split, width, 0.0)
        self.left_goal, self.right_goal = Gated(width, width, dropout), Gated(2 * width, width, dropout)
        self.subtree = Gated(split, width, dropout)
        self.dropout = nn.Dropout(dropout)

    def read(self, words: Tensor, vector: Tensor, lengths: Tensor, places: Tensor) -> Encoded:
        """``words`` float [batch, words, width] and ``vector`` [batch, width] as encoded; ``lengths`` int64 [batch].

        ``places`` int64 [batch, quantities]: the word of each quantity, negative where there is none.
        """
        hidden = torch.arange(words.shape[1], device=words.device) >= lengths[:, None]
        quantities = words.take_along_dim(places.clamp(min=0)[:, :, None], dim=1)
        constants = self.constants.weight.shape[0]
        known = self.constants(torch.arange(constants, device=words.device))
        leaves = torch.cat([known.expand(len(words), -1, -1), quantities], dim=1)
        absent = nn.functional.pad(places < 0, (constants, 0))
        keys = self.leaf_score.key(self.dropout(leaves))
        return Encoded(words, hidden, self.attention.key(words), vector, leaves, keys, absent)

    def start(self, problem: Encoded) -> State:
        """One tree per problem, of which nothing is known but its root's goal."""
        goal = self.left_goal(problem.vector)[:, None]
        batch, _, width = goal.shape
        depth = torch.zeros(batch, 1, dtype=torch.int64, device=goal.device)
        room = depth[:, :, None]  # for one operator
        return State(goal, depth > 0, depth, room, goal.new_zeros(batch, 1, 1, width), room > 0)

    def predict(self, problem: Encoded, state: State) -> tuple[Tensor, Tensor]:
        """The next token's logits, [batch, trees, tokens] in float32 at least, and the contexts c."""
        energies = self.attention(self.dropout(state.goal), problem.keys)
        energies = _precise(energies).masked_fill(problem.hidden[:, None], -math.inf)
        context = energies.softmax(-1).to(problem.words.dtype) @ problem.words
        joined = self.dropout(torch.cat([state.goal, context], dim=-1))
        leaves = _precise(self.leaf_score(joined, problem.leaf_keys)).masked_fill(problem.absent[:, None], ABSENT)
        return torch.cat([_precise(self.operator_score(joined)), leaves], dim=-1), context

    def advance(self, problem: Encoded, state: State, context: Tensor, tokens: Tensor) -> State:
        """After ``tokens`` int64 [batch, trees] were written; trees that have ended, and negative ones, stay."""
        count = self.operators.weight.shape[0]
        operator, leaf = (tokens >= 0) & (tokens < count) & ~state.ended, (tokens >= count) & ~state.ended
        goal = state.goal
        if operator.any():
            label = self.operators(tokens.clamp(0, count - 1))
            joined = self.dropout(torch.cat([state.goal, context, label], dim=-1))
            goal = torch.where(operator[..., None], self.left_goal(self.left_half(joined)), goal)
            pushed = self._push(state, operator, tokens, self.right_half(joined))
        else:
            pushed = state
        if leaf.any():
            place = (tokens - count).clamp(min=0)[..., None]
            return self._close(pushed._replace(goal=goal), leaf, problem.leaves.take_along_dim(place, dim=1))
        return pushed._replace(goal=goal)

    def _push(self, state: State, operator: Tensor, tokens: Tensor, right: Tensor) -> State:
        """``operator``: the trees where ``tokens`` are put on the stack, with ``right``, their h_r."""
        if int(state.depth.max()) == state.operators.shape[-1]:
            state = state.deeper()
        here = (state.slots() == state.depth[..., None]) & operator[..., None]
        return state._replace(
            depth=state.depth + operator,
            operators=torch.where(here, tokens[..., None], state.operators),
            vectors=torch.where(here[..., None], right[:, :, None], state.vectors),
            complete=state.complete & ~here,
        )

    def _close(self, state: State, leaf: Tensor, subtree: Tensor) -> State:
        """``leaf``: the trees where a ``subtree`` (float [batch, trees, width]) is complete, of a single leaf so far.

        While it is some operator's right one, operator and both subtrees become one. It is then the left
        one of the uppermost operator, whose right operand is next; or it is the whole tree, whose embedding nobody
        asks for.
        """
        waiting = (~state.complete & (state.slots() < state.depth[..., None])).any(-1)
        closing = going = leaf & waiting
        while (closing := closing & state.top(state.complete)).any():
            label = self.operators(state.top(state.operators))
            merged = self.subtree(label, state.top(state.vectors), subtree)
            subtree = torch.where(closing[..., None], merged, subtree)
            state = state._replace(depth=state.depth - closing.long())
        if not going.any():
            return state._replace(ended=state.ended | leaf)
        goal = self.right_goal(subtree, state.top(state.vectors))
        here = (state.slots() == state.depth[..., None] - 1) & going[..., None]
        return state._replace(
            goal=torch.where(going[..., None], goal, state.goal),
            ended=state.ended | (leaf & ~waiting),
            vectors=torch.where(here[..., None], subtree[:, :, None], state.vectors),
            complete=state.complete | here,
        )

    def forward(self, problem: Encoded, equations: Tensor) -> Tensor:
        """Logits of each node of ``equations`` (int64 [batch, nodes], prefix order), given the nodes before it.

        float [batch, nodes, tokens], zero on padding. Trees that are complete drop out of the batch.
        """
        sizes = (equations >= 0).sum(1)
        order = sizes.argsort(descending=True, stable=True)
        problem, equations = problem.at(order), equations[order]
        alive = (sizes[:, None] > torch.arange(equations.shape[1], device=sizes.device)).sum(0).tolist()
        state, found = self.start(problem), []
        for node, (count, following) in enumerate(zip(alive, [*alive[1:], 0])):
            logits, context = self.predict(problem, state)
            found.append(nn.functional.pad(logits[:count, 0], (0, 0, 0, len(order) - count)))
            if not following:
                break
            problem, state = problem.at(slice(following)), state.at(slice(following))
            state = self.advance(problem, state, context[:following], equations[:following, node, None])
        found += [torch.zeros_like(found[0])] * (len(alive) - len(found))
        return torch.stack(found, dim=1)[order.argsort()]


def _precise(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
