"""Pretrained encoders of proteins: published layouts load, and what comes out is what the published code computes."""

import json
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from common import sparsity as sp
from common.data import hub
from common.errors import UserError
from tasks.protein import alphabet
from tasks.protein.config import Config
from tasks.protein.encoders import antiberty, checkpoint, esm, esm_if1, proteinmpnn, tape
from tasks.protein.files import fingerprint, weights
from tasks.protein.model import build

transformers = pytest.importorskip("transformers", reason="needs: pip install transformers")

tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
styles = {
    "esm-1b": {**esm.esm1b, **tiny, "max_position_embeddings": 40},
    "esm-2": {
        **esm.esm1b,
        **tiny,
        "position_embedding_type": "rotary",
        "emb_layer_norm_before": False,
    },
}
sequences = ["MKVLAAGIVGLCAKAYW", "GWYXBZUO", "A"]


def randomise(network: nn.Module) -> None:
    """Every parameter differs from what it starts from, norms and biases too."""
    noise = torch.Generator().manual_seed(7)
    for parameter in network.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=noise)


def saved(folder, style="esm-1b", kind=None):
    """A small published-looking ESM in ``folder``: config.json, vocab.txt, model.safetensors; the model itself."""
    network = (kind or transformers.EsmForMaskedLM)(transformers.EsmConfig(**styles[style]))
    randomise(network)
    network.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(esm.tokens))
    return network.eval()


def batch(encoder, sequences=sequences):
    """Tokens and mask of ``sequences``, padded."""
    rows = [encoder.alphabet.encode(sequence) for sequence in sequences]
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [encoder.alphabet.padding] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[place < len(row) for place in range(longest)] for row in rows])
    return tokens, mask


def complaint(function, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


# --- ESM -------------------------------------------------------------------------------------------------------------


def fair_esm(network, style):
    """The same weights in the authors' own implementation."""
    esm = pytest.importorskip("esm", reason="needs: pip install fair-esm")
    from esm.model.esm1 import ProteinBertModel
    from esm.model.esm2 import ESM2

    alphabet, config = esm.Alphabet.from_architecture("ESM-1b"), network.config
    assert tuple(alphabet.all_toks) == esm.tokens
    if style == "esm-2":
        other = ESM2(config.num_hidden_layers, config.hidden_size, config.num_attention_heads, alphabet)
        other.layers = nn.ModuleList(type(layer)(32, 48, 4, False, True, True) for layer in other.layers)
    else:
        arguments = SimpleNamespace(
            arch="roberta_large",
            layers=config.num_hidden_layers,
            embed_dim=config.hidden_size,
            ffn_embed_dim=config.intermediate_size,
            attention_heads=config.num_attention_heads,
            max_positions=config.max_position_embeddings - 2,
            emb_layer_norm_before=True,
            token_dropout=True,
            logit_bias=False,
        )
        other = ProteinBertModel(arguments, alphabet)
    parts = {
        "embeddings.word_embeddings": "embed_tokens",
        "embeddings.position_embeddings": "embed_positions",
        "embeddings.layer_norm": "emb_layer_norm_before",
        "encoder.emb_layer_norm_after": "emb_layer_norm_after",
        "encoder.layer": "layers",
        "attention.self.query": "self_attn.q_proj",
        "attention.self.key": "self_attn.k_proj",
        "attention.self.value": "self_attn.v_proj",
        "attention.output.dense": "self_attn.out_proj",
        "attention.LayerNorm": "self_attn_layer_norm",
        "intermediate.dense": "fc1",
        "output.dense": "fc2",
        "LayerNorm": "final_layer_norm",
    }
    state = {}
    for name, value in network.esm.state_dict().items():
        for old, new in parts.items():
            name = name.replace(old, new)
        state[name] = value
    result = other.load_state_dict(state, strict=False)
    absent = [name for name in result.missing_keys if "lm_head" not in name and "inv_freq" not in name]
    assert not absent and not [name for name in result.unexpected_keys if "inv_freq" not in name], result
    return other.eval()


@pytest.mark.parametrize("style", styles)
def test_an_esm_gives_what_the_authors_code_gives(tmp_path, style):
    network = saved(tmp_path, style)
    encoder = esm.build(Config(model="esm", pretrained=str(tmp_path))).eval()
    tokens, mask = batch(encoder)
    with torch.no_grad():
        found = encoder(tokens, mask)
        expected = fair_esm(network, style)(tokens, repr_layers=[2])["representations"][2]
    assert found.dtype == torch.float32 and found.shape == (*tokens.shape, encoder.width)
    assert torch.allclose(found[mask], expected[mask], atol=1e-5)
    assert expected[mask].std() > 0.1


@pytest.mark.parametrize("style", styles)
def test_an_esm_loads_as_its_masked_language_model_was_saved(tmp_path, style):
    network = saved(tmp_path, style)
    encoder = esm.build(Config(model="esm", pretrained=str(tmp_path)))
    loaded = dict(encoder.network.named_parameters())
    original = {name: value for name, value in network.esm.named_parameters() if "contact_head" not in name}
    assert loaded.keys() == original.keys()
    assert all(torch.equal(value, original[name]) for name, value in loaded.items())


def test_tokens_are_those_of_the_published_tokenizer_and_limits_those_of_the_positions(tmp_path):
    saved(tmp_path)
    encoder = esm.build(Config(model="esm", pretrained=str(tmp_path)))
    tokenizer = transformers.EsmTokenizer.from_pretrained(tmp_path)
    for sequence in (*sequences, "ACDEFGHIKLMNPQRSTVWYXBZUOJ"):
        assert encoder.alphabet.encode(sequence) == tokenizer(sequence)["input_ids"]
    assert encoder.limit == 36
    longest = torch.full((1, 38), 5)
    assert encoder(longest, longest > 0).shape == (1, 38, 32)
    with pytest.raises(IndexError):
        encoder(torch.full((1, 39), 5), torch.full((1, 39), 5) > 0)
    assert esm.create(**styles["esm-2"]).limit is None


def test_the_shape_of_esm1b_is_the_published_one():
    with torch.device("meta"):
        encoder = esm.create(**esm.esm1b)
    assert encoder.limit == 1022
    weights_of = {name: weight.numel() for name, weight in sp.prunable(encoder).items()}
    assert sum(weights_of.values()) == 33 * 12 * 1280**2
    assert len(weights_of) == 33 * 6 and all(".layer." in name for name in weights_of)
    # what its authors call 650 million, without the heads: matrices, their biases, norms, letters and positions
    assert sp.count(encoder) == 33 * (12 * 1280**2 + 13 * 1280) + 4 * 1280 + (33 + 1026) * 1280


def test_recomputing_changes_memory_and_nothing_else(tmp_path):
    saved(tmp_path)
    gradients = []
    for again in (False, True):
        chosen = Config(model="esm", pretrained=str(tmp_path), recompute=again)
        encoder = build(chosen).backbone.train()
        assert encoder.network.is_activation_checkpointing == again
        encoder(*batch(encoder)).square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients))


@pytest.mark.parametrize("style", [*styles, "tape"])
def test_every_weight_learns_and_the_prunable_ones_are_the_declared(style):
    encoder = tape.create({**tape.base, **tiny}) if style == "tape" else esm.create(**styles[style])
    randomise(encoder)
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder.train()(*batch(encoder))
    assert found.dtype == torch.float32
    found.square().sum().backward()
    assert not [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    names = list(sp.prunable(encoder, exclude=encoder.exclude))
    inside = [f"attention.self.{part}" for part in ("query", "key", "value")] + ["output.dense", "intermediate.dense"]
    assert len(names) == 2 * 6 and all(any(part in name for part in inside) for name in names)


@pytest.mark.parametrize("style", [*styles, "tape"])
@torch.no_grad()
def test_double_precision(style):
    """Some methods score a copy of the model in double precision."""
    encoder = tape.create({**tape.base, **tiny}) if style == "tape" else esm.create(**styles[style])
    tokens, mask = batch(encoder.eval())
    expected = encoder(tokens, mask)
    torch.set_default_dtype(torch.float64)
    try:
        found = encoder.double()(tokens, mask)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float64 and (found - expected)[mask].abs().max() < 1e-4


@pytest.mark.parametrize("style", ["esm-2", "tape"])
def test_second_derivatives_exist(style):
    encoder = tape.create({**tape.base, **tiny}) if style == "tape" else esm.create(**styles[style])
    encoder.eval()  # with dropout, attention is computed step by step in any case
    weight = next(iter(sp.prunable(encoder).values()))
    (gradient,) = torch.autograd.grad(encoder(*batch(encoder)).square().sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), weight)
    assert second.isfinite().all() and second.any()


kinds = ("EsmForMaskedLM", "EsmModel", "EsmForSequenceClassification")


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("kind", kinds)
def test_weights_that_config_json_leaves_out_are_refused(tmp_path, kind, form):
    """Not dropped: the network would be another than the one that was saved."""
    saved(tmp_path, kind=getattr(transformers, kind))
    rewrite(tmp_path, form)
    chosen = Config(model="esm", pretrained=str(tmp_path))
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "num_hidden_layers": 1}))
    message = complaint(esm.build, chosen)
    assert "encoder.layer.1.attention.LayerNorm.bias is in the file and not in the network" in message
    assert "(16 in all)" in message and str(tmp_path) in message
    (tmp_path / "config.json").write_text(json.dumps({**content, "emb_layer_norm_before": False}))
    message = complaint(esm.build, chosen)
    assert "embeddings.layer_norm.weight is in the file and not in the network (2 in all)" in message
    rewrite(tmp_path, form, {"encoder.surplus.weight": torch.ones(2)})
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert "surplus.weight is in the file and not in the network (1 in all)" in complaint(esm.build, chosen)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("kind", kinds)
@pytest.mark.parametrize("style", styles)
def test_heads_and_what_is_computed_may_be_in_the_file(tmp_path, monkeypatch, style, kind, form):
    # what the installed version keeps silent of itself is no promise of others
    monkeypatch.setattr(transformers.EsmModel, "_keys_to_ignore_on_load_unexpected", None)
    network = saved(tmp_path, style, getattr(transformers, kind))
    own = "" if kind == "EsmModel" else "esm."
    more = {
        "lm_head.decoder.bias": torch.ones(33),
        f"{own}pooler.dense.bias": torch.ones(32),
        f"{own}embeddings.position_ids": torch.arange(40)[None],
        f"{own}encoder.layer.0.attention.self.rotary_embeddings.inv_freq": torch.ones(4),
    }
    if style == "esm-2":  # as its published files have, although positions are rotations
        more[f"{own}embeddings.position_embeddings.weight"] = torch.ones(1026, 32)
    rewrite(tmp_path, form, more)
    loaded = esm.build(Config(model="esm", pretrained=str(tmp_path))).network
    assert torch.equal(loaded.get_input_embeddings().weight, network.get_input_embeddings().weight)
    ours, theirs = loaded.encoder.state_dict(), network.base_model.encoder.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items() if "inv_freq" not in name)


@pytest.mark.parametrize(
    "words, expected",
    [
        ([token.lower() for token in esm.tokens], "capitals), found none for A C D E F G H I K L M N P Q R S T"),
        ([token for token in esm.tokens if token != "W"], "found none for W:"),
        ([token for token in esm.tokens if token != "<eos>"], "found none for <eos>:"),
        ([*esm.tokens, "more"], "numbers its tokens up to 33, expected 32 at most"),
        ([], "found none for <pad> <unk> <cls> <eos> A"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused_before_anything_is_queued(tmp_path, words, expected):
    saved(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    chosen = Config(model="esm", pretrained=str(tmp_path))
    for refused in (esm.build, lambda config: fingerprint.whole(config, {})):
        message = complaint(refused, chosen)
        assert str(tmp_path / "vocab.txt") in message and expected in message, message


def test_every_token_has_a_number_of_its_own_and_only_rare_letters_may_be_unknown():
    special = ("<pad>", "<unk>", "<cls>", "<eos>")
    plain = {token: number for number, token in enumerate([*special, *alphabet.RESIDUES])}
    found = alphabet.of_vocabulary(plain, special, 24, "vocab.txt")
    assert {letter for letter, number in found.tokens.items() if number == 1} == set("XBZJUO")
    assert (found.padding, found.first, found.last) == (0, 2, 3)
    assert "vocab.txt: expected a number for each token, found 4 for A, Y" in complaint(
        alphabet.of_vocabulary, {**plain, "Y": 4}, special, 24, "vocab.txt"
    )
    assert "23, expected 22 at most" in complaint(alphabet.of_vocabulary, plain, special, 23, "vocab.txt")


def test_a_tape_with_too_few_embeddings_is_refused(tmp_path):
    sizes = {**small, "vocab_size": 29}
    message = complaint(tape.build, write_tape(tmp_path, published(sizes), sizes))
    assert str(tmp_path / "config.json") in message and "up to 29, expected 28 at most" in message


def test_what_a_model_reads_where_nothing_is_asked_for():
    """Of every model that takes more than AntiBERTy a stated number of residues, whatever it could take."""
    esm2, base = esm.create(**styles["esm-2"]), tape.create({**small, "max_position_embeddings": 8192})
    assert (esm2.limit, esm2.usual) == (None, 1022) and (base.limit, base.usual) == (8190, 1022)
    for encoder in (esm_if1.Encoder, proteinmpnn.Encoder):
        assert (encoder.limit, encoder.usual) == (None, 1022)


def rewrite(folder, form, more=None) -> None:
    """The weights in ``folder`` with those in ``more``, as ``form`` has them."""
    place, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    safe = pytest.importorskip("safetensors.torch")
    state = torch.load(pickled, weights_only=True) if pickled.exists() else safe.load_file(place)
    state |= more or {}
    if form == "bin":
        place.unlink(missing_ok=True)
        torch.save(state, pickled)
    else:
        safe.save_file(state, place, metadata={"format": "pt"})


def test_an_incomplete_or_foreign_esm_is_refused(tmp_path):
    saved(tmp_path)
    chosen = Config(model="esm", pretrained=str(tmp_path))
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "num_hidden_layers": 3}))
    assert "encoder.layer.2.attention.LayerNorm.bias is missing" in complaint(esm.build, chosen)
    (tmp_path / "config.json").write_text(json.dumps({**content, "intermediate_size": 47}))
    assert "is [48], not [47]" in complaint(esm.build, chosen)
    (tmp_path / "config.json").write_text(json.dumps({**content, "model_type": "bert"}))
    assert "expected a model of type esm, found bert" in complaint(esm.build, chosen)
    (tmp_path / "config.json").write_text("{")
    assert "expected a JSON file" in complaint(esm.build, chosen)
    (tmp_path / "config.json").write_text(json.dumps(content))
    (tmp_path / "model.safetensors").unlink()
    message = complaint(weights.files, chosen)
    assert "model.safetensors or pytorch_model.bin is missing" in message and "make prepare" in message


# --- TAPE ------------------------------------------------------------------------------------------------------------

small = {**tape.base, **tiny, "max_position_embeddings": 64}


def published(sizes, old_names=True):
    """A state as TAPE's masked language model saves it: key -> random tensor."""
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    linear = {"attention.self.query": (width, width), "attention.self.key": (width, width)}
    linear |= {"attention.self.value": (width, width), "attention.output.dense": (width, width)}
    linear |= {"intermediate.dense": (inner, width), "output.dense": (width, inner)}
    norms = ["bert.embeddings.LayerNorm"]
    shapes = {
        "bert.embeddings.word_embeddings.weight": (sizes["vocab_size"], width),
        "bert.embeddings.position_embeddings.weight": (sizes["max_position_embeddings"], width),
        "bert.embeddings.token_type_embeddings.weight": (sizes["type_vocab_size"], width),
        "bert.pooler.dense.weight": (width, width),
        "bert.pooler.dense.bias": (width,),
        "mlm.bias": (sizes["vocab_size"],),
        "mlm.transform.dense.weight": (width, width),
    }
    for layer in range(sizes["num_hidden_layers"]):
        before = f"bert.encoder.layer.{layer}"
        for name, shape in linear.items():
            shapes |= {f"{before}.{name}.weight": shape, f"{before}.{name}.bias": shape[:1]}
        norms += [f"{before}.attention.output.LayerNorm", f"{before}.output.LayerNorm"]
    one, other = ("gamma", "beta") if old_names else ("weight", "bias")
    for name in norms:
        shapes |= {f"{name}.{one}": (width,), f"{name}.{other}": (width,)}
    noise = torch.Generator().manual_seed(3)
    return {name: 0.3 * torch.randn(shape, generator=noise) for name, shape in shapes.items()}


def write_tape(folder, state, sizes=small):
    folder.mkdir(exist_ok=True)
    content = {**sizes, "hidden_act": "gelu", "num_labels": -1, "pruned_heads": {}}
    (folder / "config.json").write_text(json.dumps(content))
    torch.save(state, folder / "pytorch_model.bin")
    return Config(model="tape", pretrained=str(folder))


def reference(state, sizes, tokens, mask):
    """BERT written out (Devlin et al., 2019; Vaswani et al., 2017) on TAPE's keys, with TAPE's -10,000 on padding."""
    state = {name.removeprefix("bert."): value for name, value in state.items()}
    heads = sizes["num_attention_heads"]

    def linear(values, name):
        return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(values, name):
        values = values - values.mean(-1, keepdim=True)
        values = values / (values.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return values * state[f"{name}.LayerNorm.gamma"] + state[f"{name}.LayerNorm.beta"]

    table = {name: state[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")}
    hidden = norm(table["word"][tokens] + table["position"][: tokens.shape[1]] + table["token_type"][0], "embeddings")
    for layer in range(sizes["num_hidden_layers"]):
        before = f"encoder.layer.{layer}"
        query, key, value = (
            linear(hidden, f"{before}.attention.self.{part}").unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 - 10_000.0 * (~mask[:, None, None]).float()
        context = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        hidden = norm(linear(context, f"{before}.attention.output.dense") + hidden, f"{before}.attention.output")
        inner = linear(hidden, f"{before}.intermediate.dense")
        inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
        hidden = norm(linear(inner, f"{before}.output.dense") + hidden, f"{before}.output")
    return hidden


def test_tape_gives_what_its_formulas_give(tmp_path):
    state = published(small)
    encoder = tape.build(write_tape(tmp_path, state)).eval()
    tokens, mask = batch(encoder)
    with torch.no_grad():
        found, expected = encoder(tokens, mask), reference(state, small, tokens, mask)
    assert torch.allclose(found[mask], expected[mask], atol=1e-5)
    assert encoder.limit == 62 and encoder.width == 32


@pytest.mark.parametrize("layout", ["new names of norms", "without bert."])
def test_tape_loads_in_every_published_layout(tmp_path, layout):
    first = tape.build(write_tape(tmp_path / "first", published(small))).network.state_dict()
    state = published(small, old_names=layout != "new names of norms")
    if layout == "without bert.":
        state = {name.removeprefix("bert."): value for name, value in state.items() if name.startswith("bert.")}
    second = tape.build(write_tape(tmp_path / "second", state)).network.state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_tape_has_the_published_vocabulary_and_size():
    with torch.device("meta"):
        encoder = tape.create()
    # its tokenizer: <pad> 0, <mask> 1, <cls> 2, <sep> 3, <unk> 4, A 5, ... Z 29, without J
    assert encoder.alphabet.encode("ABCZOUJ") == [2, 5, 6, 7, 29, 18, 24, 4, 3]
    assert encoder.alphabet.padding == 0 and encoder.limit == 8190
    assert sum(weight.numel() for weight in sp.prunable(encoder).values()) == 12 * 12 * 768**2
    assert 91e6 < sp.count(encoder) < 92e6


def test_a_tape_file_that_does_not_fit_is_refused_with_its_keys(tmp_path):
    state = published(small)
    removed = {**state}
    del removed["bert.encoder.layer.1.output.dense.bias"]
    message = complaint(tape.build, write_tape(tmp_path, removed))
    assert "encoder.layer.1.output.dense.bias is missing" in message and "pytorch_model.bin" in message
    message = complaint(tape.build, write_tape(tmp_path, {**state, "bert.encoder.more": torch.ones(2)}))
    assert "encoder.more is not expected" in message
    message = complaint(tape.build, write_tape(tmp_path, state, {**small, "intermediate_size": 47}))
    assert "is [48, 32] where [47, 32] is expected" in message and "and 1 more" in message
    wrong = {name: value for name, value in small.items() if name != "hidden_size"}
    assert "hidden_size is missing" in complaint(tape.build, write_tape(tmp_path, state, wrong))


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


def test_a_file_that_would_run_something_is_refused(tmp_path):
    trap = tmp_path / "trap"
    chosen = write_tape(tmp_path / "tape", {"bert.x": Trap(str(trap))})
    assert "expected a file of weights" in complaint(tape.build, chosen) and not trap.exists()
    (tmp_path / "tape" / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(str(trap)), protocol=2))
    assert "expected a file of weights" in complaint(tape.build, chosen) and not trap.exists()
    torch.save([1], tmp_path / "list.pt")
    assert "found list" in complaint(checkpoint.read, tmp_path / "list.pt")


# --- AntiBERTy -------------------------------------------------------------------------------------------------------

heavy = (  # the variable heavy domain of trastuzumab (PDB 1N8Z, chain B, residues 1-120)
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSRWGGDGFYAMDYW"
    "GQGTLVTVSS"
)


def test_antiberty_knows_an_antibody():
    try:
        files = weights.files(Config(model="antiberty"))
    except UserError as problem:
        pytest.skip(str(problem))
    encoder = antiberty.build(Config(model="antiberty")).eval()
    assert (encoder.width, encoder.limit) == (512, 510)
    assert sum(weight.numel() for weight in sp.prunable(encoder).values()) == 8 * 12 * 512**2
    # Every fifth residue is hidden at a time, and the published head guesses it from what the encoder says there.
    head = {name: value for name, value in checkpoint.read(files[2]).items() if name.startswith("cls.predictions.")}
    head = {name.removeprefix("cls.predictions."): value for name, value in head.items()}
    tokens = torch.tensor(encoder.alphabet.encode(heavy))
    hidden = (torch.arange(len(tokens)) % 5 == torch.arange(5)[:, None]) & (tokens > 4)
    with torch.no_grad():
        out = encoder(torch.where(hidden, 4, tokens), torch.ones_like(hidden))  # 4 is [MASK]
        out = functional.gelu(functional.linear(out, head["transform.dense.weight"], head["transform.dense.bias"]))
        out = functional.layer_norm(
            out, (512,), head["transform.LayerNorm.weight"], head["transform.LayerNorm.bias"], 1e-12
        )
        guess = functional.linear(out, head["decoder.weight"], head["decoder.bias"]).argmax(-1)
    right = (guess == tokens)[hidden].double().mean()
    assert hidden.sum() == len(heavy) and right > 0.8, right


# --- where weights lie -----------------------------------------------------------------------------------------------


def test_missing_weights_are_named_with_what_helps(tmp_path, monkeypatch):
    absent = str(tmp_path / "absent")
    for model in ("esm", "tape", "antiberty", "esm-if1"):
        message = complaint(weights.files, Config(model=model, pretrained=absent))
        assert absent in message and "expected" in message, model
    for model in ("esm", "tape", "esm-if1"):
        assert "needs pretrained weights" in complaint(weights.files, Config(model=model))
    assert weights.files(Config()) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install --no-deps antiberty==0.1.3" in complaint(weights.files, Config(model="antiberty"))


def test_a_model_of_a_hub_comes_from_the_cache(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="needs: pip install transformers")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    chosen = Config(model="esm", hub="somebody/tiny")
    message = complaint(weights.files, chosen)
    assert "somebody/tiny is not in the hub's cache" in message
    assert 'make prepare TASK=protein SET="task.model=esm task.hub=somebody/tiny"' in message
    assert "not in the hub's cache" in complaint(weights.files, Config(model="esm", hub="no such name/at all/x"))
    place = tmp_path / "models--somebody--tiny"
    folder = place / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True), (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)
    network = saved(folder)
    assert [path.name for path in weights.files(chosen)] == ["config.json", "vocab.txt", "model.safetensors"]
    loaded = esm.build(chosen).network.embeddings.word_embeddings.weight
    assert torch.equal(loaded, network.esm.embeddings.word_embeddings.weight)


def test_fetching_says_why_it_failed(monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="needs: pip install transformers")

    def refuse(*arguments, **options):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    message = complaint(weights.fetch, Config(model="esm", hub="somebody/tiny"))
    assert "could not be fetched (ConnectionError: no route to host)" in message


def test_without_transformers_the_command_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    assert "pip install transformers" in complaint(hub.library)
