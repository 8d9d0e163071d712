"""GTS and Graph2Tree: batches say what one problem at a time says, by the equations and without any batch."""

import copy
import functools
import json
import math
from dataclasses import asdict

import pytest
import torch
from torch import nn

from common import sparsity as sp
from common.errors import UserError
from common.settings import groups
from tasks.arithmetic import model
from tasks.arithmetic.config import Config
from tasks.arithmetic.network.beam_search import search
from tasks.arithmetic.network.recurrent import KINDS, Encoder
from tasks.arithmetic.trainer import Trainer
from tasks.arithmetic.vocabulary import NUMBER, PADDING, UNKNOWN, Vocabulary
from tests.support import arithmetic_files

words = ["tom", "has", NUMBER, "red", "apples", "and", "gives", "some", "to", "ann", "how", "many", "are", "left"]
vocabulary = Vocabulary([PADDING, UNKNOWN, NUMBER, *sorted(set(words) - {NUMBER})], list("*+-/"), ["1", "2.5"], 3)
small = {"width": 8, "embedding_width": 6, "dropout": 0.0}
models = ("gts", "graph2tree", "gts lstm")  # and its cell, where it is not the default
trees = [
    [6],
    [1, 6, 7],
    [0, 2, 6, 1, 4, 7, 5],
    [2, 0, 1, 6, 7, 6, 3, 4, 6],
    [3, 6, 2, 4, 7],
]  # the last two: 2 quantities
deepest = max(map(len, trees))


def built(name="gts", seed=0, precision=torch.float64, settings=vocabulary, **others) -> model.Solver:
    torch.manual_seed(seed)
    name, cell = name.split() if " " in name else (name, "gru")
    network = model.build(Config(model=name, cell=cell, **{**small, **others}), settings).to(precision).eval()
    with torch.no_grad():  # choices that are far from even, and all of them possible
        for parameter in network.parameters():
            parameter += (0.3 if cell == "gru" else 0.6) * torch.randn_like(parameter)
    return network


def problems(count=5, seed=1, graphs=True):
    """Tokens, word_of, lengths, places, graphs: mixed lengths and numbers of quantities."""
    noise = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([9, 4, 12, 7, 5, 11, 3, 8][:count])
    longest = int(lengths.max())
    inside = torch.arange(longest) < lengths[:, None]
    tokens = torch.randint(3, len(vocabulary.words), (count, longest), generator=noise).where(inside, 0)
    word_of = torch.arange(longest).where(inside, -1)
    places = torch.full((count, 3), -1)
    for row, length in enumerate(lengths.tolist()):
        some = [3, 2, 2, 2, 3, 1, 2, 3][row]
        places[row, :some] = torch.randperm(length, generator=noise)[:some].sort().values
    links = torch.rand(count, 2, longest, longest, generator=noise) < 0.3
    links &= (inside[:, :, None] & inside[:, None])[:, None]
    return tokens, word_of, lengths, places, (links | torch.eye(longest, dtype=torch.bool)) if graphs else None


def equations(rows=trees):
    return torch.tensor([row + [-1] * (max(map(len, rows)) - len(row)) for row in rows])


def alone(batch, row):
    """One problem of a batch, without padding."""
    tokens, word_of, lengths, places, links = batch
    length, some = int(lengths[row]), int((places[row] >= 0).sum())
    one = (tokens[row, None, :length], word_of[row, None, :length], lengths[row, None], places[row, None, :some])
    return (*one, None if links is None else links[row, None, :, :length, :length])


def told(outputs, trees):
    """Of logits, log p of each token of ``trees``: [batch, nodes], zero on padding."""
    found = outputs.log_softmax(-1).gather(2, trees.clamp(min=0)[..., None]).squeeze(-1)
    return found.where(trees >= 0, 0)


@functools.cache
def taught(name, steps):
    """A network after some steps on ``trees``: its answers are trees of several sizes, not all of them right."""
    network, batch = built(name), problems()
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(steps):
        (-told(network(*batch, equations()), equations()).sum(1).mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return network


# --- one problem at a time, by the equations -------------------------------------------------------------------------


def cell(cells, inputs, hidden, memory):
    """A gated recurrent unit (Cho et al., 2014) or an LSTM (Gers et al., 2000) as torch writes it: state and memory."""
    parts = [getattr(cells, f"{kind}_l0") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    a, b = parts[0] @ inputs + parts[2], parts[1] @ hidden + parts[3]
    if isinstance(cells, nn.LSTM):
        admit, forget, new, out = (a + b).chunk(4)
        memory = torch.sigmoid(forget) * memory + torch.sigmoid(admit) * torch.tanh(new)
        return torch.sigmoid(out) * torch.tanh(memory), memory
    (reset, update, new), (r, z, n) = a.chunk(3), b.chunk(3)
    update = torch.sigmoid(update + z)
    return (1 - update) * torch.tanh(new + torch.sigmoid(reset + r) * n) + update * hidden, memory


def encoded(network, batch):
    """States of the words, a list, and the vector of one problem."""
    tokens, _, _, _, links = batch
    states = list(network.embedding.table.weight[tokens[0]])
    for layer in network.encoder.layers:
        directions = []
        for cells, order in ((layer.onward, 1), (layer.back, -1)):
            hidden, found = torch.zeros(cells.hidden_size, dtype=states[0].dtype), []
            memory = hidden
            for state in states[::order]:
                hidden, memory = cell(cells, state, hidden, memory)
                found.append(hidden)
            directions.append(found[::order])
        states = [torch.cat(pair) for pair in zip(*directions)]
    forward, backward = directions
    found = [f + b for f, b in zip(forward, backward)]
    if network.graph is not None:
        for layer in network.graph.layers:
            found = linked(layer, found, links[0])
    return found, forward[-1] + backward[0]


def linked(layer, states, links):
    """Neighbours' mean, twice, in each head; normalised and added; a layer by itself."""
    heads, count = [], len(layer.heads)
    for number, head in enumerate(layer.heads):
        graph = links[number // (count // 2)]

        def around(values, linear, graph=graph):
            return [linear(sum(v for v, one in zip(values, row) if one) / row.sum()) for row in graph]

        heads.append(around([torch.relu(v) for v in around(states, head.first)], head.second))
    joined = [state + layer.norm(torch.cat(parts)) for state, parts in zip(states, zip(*heads))]
    return [value + layer.narrow(torch.relu(layer.wide(value))) for value in joined]


def gated(module, *parts):
    joined = torch.cat(parts)
    return torch.tanh(module.candidate(joined)) * torch.sigmoid(module.gate(joined))


def compared(module, query, key):
    return (module.score.weight @ torch.tanh(module.query(query) + module.key(key))).squeeze()


class Plain:
    """The decoder of GTS for one problem, by recursion; ``choose(log probabilities)`` says each node's token."""

    def __init__(self, network, batch, choose, most=math.inf):
        self.decoder, self.choose, self.most = network.decoder, choose, most
        self.states, vector = encoded(network, batch)
        places = [place for place in batch[3][0].tolist() if place >= 0]
        self.leaves = [*self.decoder.constants.weight, *(self.states[place] for place in places)]
        self.tokens, self.found = [], []
        self.node(gated(self.decoder.left_goal, vector))

    def node(self, goal):
        """Writes the subtree of ``goal``; its embedding."""
        if len(self.tokens) >= self.most:
            raise OverflowError
        d = self.decoder
        energy = torch.stack([compared(d.attention, goal, state) for state in self.states])
        context = sum(weight * state for weight, state in zip(energy.softmax(0), self.states))
        both = torch.cat([goal, context])
        leaves = [compared(d.leaf_score, both, leaf) for leaf in self.leaves]
        scores = torch.cat([d.operator_score(both), *(leaf[None] for leaf in leaves)]).log_softmax(0)
        token = self.choose(len(self.tokens), scores)
        self.tokens.append(token)
        self.found.append(scores[token])
        if token >= len(vocabulary.operators):
            return self.leaves[token - len(vocabulary.operators)]
        label = d.operators.weight[token]
        left = self.node(gated(d.left_goal, gated(d.left_half, goal, context, label)))
        right = self.node(gated(d.right_goal, left, gated(d.right_half, goal, context, label)))
        return gated(d.subtree, label, left, right)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_the_encoder_is_the_bidirectional_network_over_packed_words(kind):
    torch.manual_seed(3)
    encoder = Encoder(kind, 5, 7, 3, 0.0).double()
    torch.manual_seed(3)
    whole = KINDS[kind](5, 7, 3, bidirectional=True, batch_first=True).double()
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), whole.parameters(), strict=True))
    words, lengths = torch.randn(4, 9, 5).double(), torch.tensor([2, 9, 1, 6])
    packed = nn.utils.rnn.pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
    found, _ = nn.utils.rnn.pad_packed_sequence(whole(packed)[0], batch_first=True)
    onward, back = found.chunk(2, dim=-1)
    states, vector = encoder(words, lengths)
    assert torch.allclose(states, onward + back, atol=1e-12) and not states[0, 2:].any()
    assert torch.allclose(vector, onward[range(4), lengths - 1] + back[:, 0], atol=1e-12)


@pytest.mark.parametrize("name", models)
def test_the_probabilities_of_a_batch_of_trees_are_those_of_the_equations(name):
    network, batch = built(name), problems()
    logits = network(*batch, equations())
    assert logits.dtype == torch.float64 and logits.shape == (len(trees), deepest, 9)
    found = told(logits, equations())
    absent = nn.functional.pad(batch[3] < 0, (6, 0))
    for row, tree in enumerate(trees):
        plain = Plain(network, alone(batch, row), lambda place, _, tree=tree: tree[place])
        assert plain.tokens == tree
        assert torch.allclose(found[row, : len(tree)], torch.stack(plain.found), atol=1e-10)
        assert not logits[row, len(tree) :].any()
        assert torch.equal(logits[row, : len(tree)] == -1e9, absent[row].expand(len(tree), -1))
    assert found[found != 0].std() > 0.5


@pytest.mark.parametrize("name", models)
def test_gradients_of_a_batch_are_those_of_the_equations(name):
    network, batch = built(name), problems()
    weights = dict(network.named_parameters())
    found = torch.autograd.grad(told(network(*batch, equations()), equations()).sum(), weights.values())
    total = sum(
        torch.stack(Plain(network, alone(batch, row), lambda place, _, tree=tree: tree[place]).found).sum()
        for row, tree in enumerate(trees)
    )
    for (which, _), one, other in zip(weights.items(), found, torch.autograd.grad(total, weights.values())):
        assert one.any() and torch.allclose(one, other, atol=1e-9), which


@pytest.mark.parametrize("name", models)
def test_a_search_of_width_one_takes_the_most_probable_token_at_each_node(name):
    batch, ended = problems(8), 0
    for steps in (0, 20, 60):
        network = taught(name, steps)
        with torch.no_grad():
            found = network.solve(network.read(*batch), 1, 9)
            for row in range(8):
                try:
                    tree = Plain(network, alone(batch, row), lambda _, scores: int(scores.argmax()), 9).tokens
                    ended += len(tree) > 1
                except OverflowError:
                    tree = []
                assert found[row].tolist() == tree + [-1] * (9 - len(tree))
    assert ended > 8


def exhaustive(network, batch, most):
    """The most probable of all trees of at most ``most`` nodes, by trying them."""
    best, stack = (-math.inf, None), [[]]
    while stack:
        start = stack.pop()

        def choose(place, scores, start=start):
            if place < len(start):
                return start[place]
            stack.extend([*start, token] for token in range(len(scores)))
            raise OverflowError

        try:
            plain = Plain(network, batch, choose, most)
        except OverflowError:
            continue
        best = max(best, (float(sum(plain.found)), plain.tokens))
    return best


def test_a_search_wide_enough_finds_the_most_probable_tree_of_all():
    batch = problems(2)
    network = taught("gts", 20)
    with torch.no_grad():
        found, values = search(network.decoder, network.read(*batch), 2000, 3)
        for row in range(2):
            value, tree = exhaustive(network, alone(batch, row), 3)
            assert found[row].tolist() == tree + [-1] * (3 - len(tree))
            assert values[row].item() == pytest.approx(value)
    assert {len(tree[tree >= 0]) for tree in found} == {1, 3}


@pytest.mark.parametrize("name", models)
def test_the_score_of_an_answer_is_its_log_probability_and_a_wide_search_is_as_good(name):
    batch, several = problems(8), 0
    for steps in (0, 20, 60):
        network = taught(name, steps)
        with torch.no_grad():
            read, last = network.read(*batch), None
            for beam in (1, 3, 400):
                found, values = search(network.decoder, read, beam, 9)
                ended = found[:, 0] >= 0
                forced = told(network(*batch, found), found).sum(1)
                assert torch.allclose(forced[ended], values[ended], atol=1e-10)
                assert (values[~ended] == -math.inf).all()
                last = values if last is None else last
            assert (values >= last - 1e-10).all()
            several += int((found >= 0).sum(1).gt(1).sum())
    assert several > 8


@pytest.mark.parametrize("name", models)
def test_neighbours_and_padding_change_nothing(name):
    network, batch = taught(name, 60), problems()
    forced, solved = network(*batch, equations()), network.solve(network.read(*batch), 4, 9)
    for row, tree in enumerate(trees):
        one = alone(batch, row)
        found = network(*one, torch.tensor([tree]))
        assert torch.allclose(forced[row, : len(tree), : found.shape[-1]], found[0], atol=1e-10)
        assert torch.equal(solved[row], network.solve(network.read(*one), 4, 9)[0])
    assert len(set((solved >= 0).sum(1).tolist())) > 2
    tokens, word_of, lengths, places, links = batch
    wider = [nn.functional.pad(tokens, (0, 3)), nn.functional.pad(word_of, (0, 3), value=-1), lengths]
    wider += [nn.functional.pad(places, (0, 2), value=-1), nn.functional.pad(links, (0, 3, 0, 3))]
    more = nn.functional.pad(equations(), (0, 2), value=-1)
    assert torch.allclose(network(*wider, more)[:, :deepest, :9], forced, atol=1e-10)
    assert torch.equal(network.solve(network.read(*wider), 4, 9), solved)


def test_a_quantity_that_the_problem_lacks_is_never_answered():
    batch, first = problems(8), len(vocabulary.operators) + len(vocabulary.constants)
    given = (batch[3] >= 0).sum(1)
    for steps in (0, 20, 60):
        network = taught("gts", steps)
        found = network.solve(network.read(*batch), 60, 9)
        assert (found < first + given[:, None]).all() and (found >= first).any()
    tokens, word_of, lengths, places, _ = batch
    none, network = torch.full_like(places, -1), built()
    assert (network.solve(network.read(tokens, word_of, lengths, none, None), 60, 9) < first).all()


def test_a_tree_that_does_not_end_is_no_answer():
    network = built()
    with torch.no_grad():
        network.decoder.operator_score.bias += 1000
    assert (network.solve(network.read(*problems()), 3, 6) == -1).all()


@pytest.mark.parametrize("name", models)
def test_weights_in_other_places_than_the_stored_ones_are_used_and_get_gradients(name):
    network, batch = built(name), problems()
    plain = network(*batch, equations())
    learned = {which: value.detach().clone().requires_grad_() for which, value in network.named_parameters()}
    halves = {which: value / 2 for which, value in learned.items()}
    found = torch.func.functional_call(network, halves, (*batch, equations()))
    found.sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in learned.values())
    assert all(value.grad is None for value in network.parameters())
    assert torch.equal(network(*batch, equations()), plain)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for value in copied.parameters():
            value /= 2
    assert torch.equal(copied(*batch, equations()), found)
    for which in sp.prunable(network):  # each of them is used where it lies
        with torch.no_grad():
            network.get_parameter(which).zero_()
        assert not torch.equal(network(*batch, equations()), plain), which
        with torch.no_grad():
            network.get_parameter(which).copy_(learned[which])


@pytest.mark.parametrize("name", models)
def test_the_gradient_can_be_differentiated(name):
    network, batch = built(name), problems()
    weights = dict(network.named_parameters())
    direction = {which: torch.randn_like(value) for which, value in weights.items()}

    def gradients(step):
        moved = {which: (value + step * direction[which]).detach().requires_grad_() for which, value in weights.items()}
        outputs = torch.func.functional_call(network, moved, (*batch, equations()))
        loss = -told(outputs, equations()).sum(1).mean()
        found = torch.autograd.grad(loss, moved.values(), create_graph=not step)
        return (moved, found) if not step else found

    moved, found = gradients(0)
    product = torch.autograd.grad(sum((g * direction[which]).sum() for which, g in zip(moved, found)), moved.values())
    apart = [(a - b) / 2e-6 for a, b in zip(gradients(1e-6), gradients(-1e-6))]
    for which, one, other in zip(moved, product, apart):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-4), which


@pytest.mark.parametrize("name", models)
def test_matrices_are_prunable_and_embeddings_and_biases_are_not(name):
    network = built(name, precision=torch.float32)
    found = set(sp.prunable(network))
    tables = {"embedding.table.weight", "decoder.operators.weight", "decoder.constants.weight"}
    assert found == {which for which, value in network.named_parameters() if value.ndim > 1} - tables
    assert {
        f"encoder.layers.{n}.{way}.weight_{kind}_l0"
        for kind in ("ih", "hh")
        for n in "01"
        for way in ("onward", "back")
    } < found
    assert tables <= set(sp.prunable(network, embeddings=True))


@pytest.mark.parametrize("name", models)
def test_half_precision_stays_close_and_its_scores_are_float32(name):
    network, batch = built(name, precision=torch.float32), problems()
    exact = told(network(*batch, equations()), equations())
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(*batch, equations())
        found = told(logits, equations())
        found.sum().backward()
        _, values = search(network.decoder, network.read(*batch), 3, 9)
    assert logits.dtype == values.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 0.3
    assert all(value.grad is not None and value.grad.isfinite().all() for value in network.parameters())


def test_dropout_is_torchs_own_and_off_when_evaluating():
    network, batch = built(dropout=0.5, precision=torch.float32), problems()
    still = [network(*batch, equations()) for _ in range(2)]
    network.train()
    torch.manual_seed(5)
    first, second = (network(*batch, equations()) for _ in range(2))
    torch.manual_seed(5)
    assert torch.equal(*still) and torch.equal(network(*batch, equations()), first) and not torch.equal(first, second)


def test_a_vocabulary_without_constants_and_problems_without_quantities_are_possible():
    few = Vocabulary(vocabulary.words, list("*+-/"), [], 2)
    tokens, word_of, lengths, places, _ = problems()
    network = built(settings=few)
    found = network(tokens, word_of, lengths, places, None, torch.tensor([[1, 4, 5]] * 5))
    assert found.shape == (5, 3, 7) and found.isfinite().all() and found.all()
    nothing = torch.full((5, 1), -1)
    assert (network.solve(network.read(tokens, word_of, lengths, nothing, None), 60, 2) == -1).all()


# --- a pretrained embedding -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """A folder with a small RoBERTa and its tokenizer, as published ones look; the network."""
    transformers = pytest.importorskip("transformers", reason="needs: pip install transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("roberta")
    trained = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator([" tom has apples and gives ann some"] * 4, vocab_size=290, special_tokens=special)
    trained.save_model(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.RobertaConfig(
        vocab_size=trained.get_vocab_size(), max_position_embeddings=42, type_vocab_size=1, **sizes
    )
    torch.manual_seed(3)
    network = transformers.RobertaForMaskedLM(config)
    for parameter in network.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    network.save_pretrained(folder)
    return folder, network.roberta.eval()


def pretrained(folder, **settings):
    return model.build(Config(embedding="pretrained", pretrained=str(folder), **{**small, **settings}), vocabulary)


def encoded_batch(embedding, texts):
    """Tokens, word_of and lengths, padded as ``data`` pads them."""
    rows = [embedding.encode(text.split()) for text in texts]
    longest = max(len(ids) for ids, _ in rows)
    tokens = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rows])
    word_of = torch.tensor([of + [-1] * (longest - len(of)) for _, of in rows])
    return tokens, word_of, torch.tensor([len(text.split()) for text in texts])


def test_a_word_is_the_mean_of_its_pieces_in_the_published_network(roberta):
    folder, network = roberta
    embedding = pretrained(folder).eval().embedding
    texts = ["tom has NUM xylophones and gives ann NUM", "ann has NUM", "tom gives apples ."]
    tokens, word_of, lengths = encoded_batch(embedding, texts)
    found = embedding(tokens, word_of, lengths)
    assert found.shape == (3, 8, 16) and embedding.width == 16 and embedding.pretrained is not None
    several = 0
    for row, text in enumerate(texts):
        ids = embedding.tokenizer(" " + text)["input_ids"]
        assert tokens[row, : len(ids)].tolist() == ids
        states = network(torch.tensor([ids])).last_hidden_state[0]
        for number in range(len(text.split())):
            pieces = [place for place, of in enumerate(word_of[row].tolist()) if of == number]
            several += len(pieces) > 1
            assert torch.allclose(found[row, number], states[pieces].mean(0), atol=1e-5)
    assert several


@pytest.mark.parametrize("name", models)
def test_a_pretrained_embedding_trains_with_the_rest(roberta, name):
    folder, published = roberta
    network = pretrained(folder, model=name).train()
    own = dict(network.embedding.pretrained.named_parameters())
    state = dict(published.named_parameters())
    assert own.keys() == state.keys() and all(torch.equal(value, state[which]) for which, value in own.items())
    tokens, word_of, lengths = encoded_batch(network.embedding, ["tom has NUM apples and NUM", "ann gives NUM NUM"])
    links = torch.eye(6, dtype=torch.bool).expand(2, 2, 6, 6)
    batch = (tokens, word_of, lengths, torch.tensor([[2, 5], [2, 3]]), links, torch.tensor([[1, 6, 7], [2, 7, 6]]))
    network(*batch).sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in own.values())
    assert network.embedding.pretrained.embeddings.word_embeddings.weight.grad[tokens[0, 1]].any()
    assert network.eval().solve(network.read(*batch[:-1]), 3, 9).shape == (2, 9)


def test_what_does_not_fit_the_pretrained_network_is_named(roberta):
    folder, _ = roberta
    embedding = pretrained(folder).embedding
    assert embedding.limit == 40
    longest = ["tom"] * 38
    tokens, word_of, lengths = encoded_batch(embedding, [" ".join(longest)])
    assert tokens.shape == (1, 40) and embedding(tokens, word_of, lengths).shape == (1, 38, 16)
    with pytest.raises(UserError, match=r"the problem 'tom tom.* 39 words is 41 pieces long.* 40 at most"):
        embedding.encode([*longest, "tom"])


def test_a_test_problem_that_does_not_fit_is_refused_before_training(roberta, tmp_path):
    rows = [
        arithmetic_files.row(f"tom has number0 {word}", "5.0", "* number0 number0", 25)
        for word in ("apples", "some", "and", "ann")
    ]
    last = arithmetic_files.row("number0 and " + "tom " * 60, "5.0", "* number0 number0", 25)
    arithmetic_files.write(tmp_path, arithmetic_files.files(rows, [*rows, last]))
    values = {"dataset": "mawps", "data": str(tmp_path), "embedding": "pretrained", "pretrained": str(roberta[0])}
    kinds = groups.classes("arithmetic", "dense")
    settings = {"run": asdict(kinds["run"]()), "task": asdict(Config(**values, **small)), "method": {}}
    with pytest.raises(UserError, match=r"dev\.csv:6: the problem 'NUM and tom.*at most"):
        Trainer(settings, "dense", "arithmetic").begin(None)


def test_layers_that_config_json_leaves_out_are_refused(roberta, tmp_path):
    folder, _ = roberta
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "num_hidden_layers": 1}))
    with pytest.raises(UserError, match=r"layer\.1\.attention.* is in the file and not in the network.*16 in all"):
        pretrained(tmp_path)


def test_a_tokenizer_of_another_network_is_refused(roberta, tmp_path):
    import transformers

    folder, _ = roberta
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = transformers.AutoConfig.from_pretrained(folder)
    config.vocab_size = 40
    transformers.RobertaModel(config).save_pretrained(tmp_path)
    embedding = pretrained(tmp_path).embedding
    with pytest.raises(UserError, match=r"gives 'tom' piece \d+, and the network has 40.*fetch both again"):
        embedding.encode(["tom"])
    beside = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**beside, "pad_token": None}))
    with pytest.raises(UserError, match="expected a tokenizer with a pad_token_id, found none"):
        pretrained(tmp_path)


def test_a_damaged_pretrained_network_is_refused(roberta, tmp_path):
    from safetensors.torch import load_file, save_file

    folder, _ = roberta
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    gone = next(which for which in state if "layer.1.attention.self.query.weight" in which)
    del state[gone]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"does not hold the weights.*layer.1.attention.self.query.weight is missing"):
        pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="expected a model and a tokenizer"):
        pretrained(tmp_path)
