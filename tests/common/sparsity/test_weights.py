"""The prunable set: declared once, tied tensors once, embeddings on request; rewinding puts back every bit."""

import io
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import utils
from torch.nn.utils import parametrizations, parametrize

from common import sparsity as sp
from tests.support.places import ROOT


class Language(nn.Module):
    """An embedding tied to the output, normalisation with a two-dimensional scale, a kernel and a matrix."""

    def __init__(self, tie: bool = True):
        super().__init__()
        self.output = nn.Linear(6, 10, bias=False)
        self.words = nn.Embedding(10, 6)
        self.places = nn.Embedding(4, 6)
        self.convolution = nn.Conv1d(6, 6, 3)
        self.normalisation = nn.LayerNorm((4, 6))
        self.middle = nn.Linear(6, 6)
        if tie:
            self.output.weight = self.words.weight


def test_matrices_and_kernels_in_definition_order():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3), nn.LayerNorm(3))
    weights = sp.prunable(model)
    assert list(weights) == ["0.weight", "2.weight"]
    assert weights["2.weight"] is model[2].weight


def test_embeddings_are_in_only_on_request_and_tied_tensors_once():
    model = Language()
    assert list(sp.prunable(model)) == ["convolution.weight", "middle.weight"]
    weights = sp.prunable(model, embeddings=True)
    assert list(weights) == ["output.weight", "places.weight", "convolution.weight", "middle.weight"]
    assert weights["output.weight"] is model.words.weight
    masks = sp.Masks(weights)
    assert masks.total == 60 + 24 + 108 + 36
    assert sp.count(model) == 60 + 24 + (108 + 6) + 48 + (36 + 6)
    untied = sp.prunable(Language(tie=False))
    assert list(untied) == ["output.weight", "convolution.weight", "middle.weight"]


def test_exclude_takes_patterns_and_any_name_of_a_tied_tensor():
    model = Language()
    assert list(sp.prunable(model, exclude=("conv*",))) == ["middle.weight"]
    for name in ("output.*", "words.weight"):
        left = sp.prunable(model, embeddings=True, exclude=(name, "m?ddle.weight"))
        assert list(left) == ["places.weight", "convolution.weight"]
    assert list(sp.prunable(model, exclude=("places.*",))) == ["convolution.weight", "middle.weight"]


@pytest.mark.parametrize("pattern", ["mddle.*", "middle.bias", "middle"])
def test_a_pattern_that_matches_no_weight_is_an_error(pattern):
    with pytest.raises(ValueError, match="matches no weight"):
        sp.prunable(Language(), exclude=("conv*", pattern))


def test_two_parameters_that_share_memory_are_an_error():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = nn.Parameter(model[0].weight.data.t())
    with pytest.raises(ValueError, match=r"0\.weight and 1\.weight share memory"):
        sp.prunable(model)
    # also where one of them is not in the set: pruning the output would prune the embedding
    tables = Language(tie=False)
    tables.output.weight = nn.Parameter(tables.words.weight.data)
    with pytest.raises(ValueError, match=r"output\.weight and words\.weight share memory"):
        sp.prunable(tables)


def test_nothing_to_prune_is_an_error():
    for model in (nn.BatchNorm1d(3), nn.Embedding(3, 3), nn.LayerNorm((3, 3))):
        with pytest.raises(ValueError, match="no prunable weights"):
            sp.prunable(model)


def test_models_without_memory_can_be_asked():
    with torch.device("meta"):
        assert list(sp.prunable(Language())) == ["convolution.weight", "middle.weight"]


def test_rewinding_puts_back_every_parameter_and_buffer():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    state = sp.snapshot(model)
    kept, total = {n: v.clone() for n, v in state.items()}, sp.checksum(state)
    pointer = model[0].weight.data_ptr()
    model(torch.randn(8, 4)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert sp.checksum(sp.snapshot(model)) != total
    assert all(torch.equal(state[n], v) for n, v in kept.items()), "a snapshot is a copy"
    sp.restore(model, state)
    assert all(torch.equal(v, kept[n]) for n, v in model.state_dict().items())
    assert sp.checksum(sp.snapshot(model)) == total
    assert model[0].weight.data_ptr() == pointer, "in place: optimizer and masks hold on to the tensors"


def test_a_ticket_s_survivors_are_the_snapshot_bit_for_bit():
    model = nn.Linear(30, 20)
    start, weights = sp.snapshot(model), sp.prunable(model)
    with torch.no_grad():
        model.weight += torch.randn_like(model.weight)
    mask = sp.select(sp.magnitude(weights), sp.global_pool(weights, 0.7))
    masks = sp.Masks(weights)
    sp.restore(model, start)
    masks.update(mask)
    assert torch.equal(model.weight[masks["weight"]], start["weight"][masks["weight"]])
    assert torch.count_nonzero(model.weight) == masks.kept == 180


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape"])
def test_weights_of_another_model_are_an_error_and_change_nothing(fault):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = sp.snapshot(model)
    state = {n: torch.zeros_like(v) for n, v in before.items()}
    if fault == "missing":
        del state["1.bias"]
    elif fault == "unknown":
        state["2.bias"] = torch.zeros(1)
    else:
        state["1.bias"] = torch.zeros(1)  # would broadcast
    with pytest.raises(ValueError, match=r"1\.bias|2\.bias"):
        sp.restore(model, state)
    assert sp.checksum(sp.snapshot(model)) == sp.checksum(before)


def test_importing_the_core_and_the_methods_needs_no_torch():
    methods = sorted(p.stem for p in (ROOT / "common" / "methods").glob("[a-z]*.py"))
    assert "imp" in methods
    modules = ["common.sparsity", "common.sparsity.allocation", *(f"common.methods.{name}" for name in methods)]
    code = (
        "import importlib, sys; [importlib.import_module(m) for m in sys.argv[1:]]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, *modules], cwd=ROOT, check=True)


def test_every_public_name_is_there_and_a_wrong_one_is_said_to_be():
    assert all(callable(getattr(sp, name)) for name in sp.__all__)
    with pytest.raises(AttributeError, match="has no 'selct'"):
        _ = sp.selct


def layers(**named) -> nn.Module:
    """A module with these parts: layers as they are, tensors as its own parameters."""
    model = nn.Module()
    for name, part in named.items():
        setattr(model, name, nn.Parameter(part) if torch.is_tensor(part) else part)
    return model


def test_zeros_that_do_not_last_are_refused_by_name():
    model = nn.Sequential(nn.Linear(4, 4), parametrizations.orthogonal(nn.Linear(16, 16, bias=False)))
    with pytest.raises(ValueError, match=r"1\.parametrizations\.weight\.original is parametrised by _Orthogonal"):
        sp.prunable(model)
    assert list(sp.prunable(model, exclude=("1.*",))) == ["0.weight"]

    class Halved(nn.Module):
        keeps_zeros = True

        def forward(self, weight):
            return weight / 2

    own = nn.Linear(3, 3)
    parametrize.register_parametrization(own, "weight", Halved())
    assert list(sp.prunable(own)) == ["parametrizations.weight.original"]


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(
    "wrap, name",
    [
        (parametrizations.spectral_norm, "parametrizations.weight.original"),
        (parametrizations.weight_norm, "parametrizations.weight.original1"),
        (utils.spectral_norm, "weight_orig"),
        (utils.weight_norm, "weight_v"),
    ],
)
def test_normalised_weights_are_zero_where_their_masks_say_so_and_scales_are_never_pruned(wrap, name):
    torch.manual_seed(0)
    model = wrap(nn.Linear(12, 6))
    masks = sp.Masks(sp.prunable(model))
    assert list(masks.weights) == [name]
    masks.update(sp.choose(sp.magnitude(masks.weights), 0.5, "rows"))
    model(torch.ones(1, 12))  # the old interface computes the weight before each use
    assert torch.equal(model.weight == 0, ~masks[name]) and masks.sparsity == 0.5
    assert sp.emptied_norms(model, masks.weights, masks) == []


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, utils.weight_norm])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_an_output_that_weight_normalisation_would_divide_by_nothing_is_found(wrap, dim):
    model = wrap(nn.Linear(4, 3), dim=dim)
    weights = sp.prunable(model)
    (name,) = weights
    masks = {name: torch.ones(3, 4, dtype=torch.bool)}
    masks[name][1] = False
    assert sp.emptied_norms(model, weights, masks) == ([name] if dim == 0 else [])
    masks[name][:] = False
    assert sp.emptied_norms(model, weights, masks) == [name]


def test_biases_and_tokens_are_not_in_the_set_whatever_their_shape():
    attention = nn.MultiheadAttention(8, 2, add_bias_kv=True)
    assert list(sp.prunable(attention)) == ["in_proj_weight", "out_proj.weight"]
    model = layers(
        token=torch.zeros(1, 1, 8), places=torch.zeros(1, 5, 8), shift=torch.zeros(1, 8, 1, 1), out=nn.Linear(3, 1)
    )
    assert list(sp.prunable(model)) == ["places", "out.weight"]
    assert sp.bare(model) == {"token": False, "places": True, "shift": False}
    # a layer's own weight is one even where a side is 1, and containers say nothing of what they hold
    held = layers(head=nn.Linear(5, 1), several=nn.ParameterList([torch.zeros(1, 4), torch.zeros(2, 4)]))
    assert list(sp.prunable(held)) == ["head.weight", "several.1"]
    assert sp.bare(held) == {"several.0": False, "several.1": True}


def test_frozen_weights_are_not_in_the_set():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    assert list(sp.prunable(model)) == ["1.weight"]
    assert sp.reasons(model) == {"0.weight": "frozen", "1.weight": ""}


def test_what_is_dense_has_a_reason_and_the_rest_is_the_set():
    model = layers(
        table=nn.Embedding(5, 4), attention=nn.MultiheadAttention(4, 2, add_bias_kv=True), norm=nn.LayerNorm((3, 4)),
        scaled=parametrizations.weight_norm(nn.Linear(4, 4)), token=torch.zeros(1, 1, 8), head=nn.Linear(4, 2),
    )  # fmt: skip
    told = sp.reasons(model, exclude=["head.*"])
    assert [name for name, why in told.items() if not why] == list(sp.prunable(model, exclude=["head.*"]))
    assert {name: why for name, why in told.items() if why} == {
        "token": "Module holds it itself, and one dimension alone is larger than 1",
        "table.weight": "an embedding table (run.prune_embeddings)",
        "attention.bias_k": "a bias",
        "attention.bias_v": "a bias",
        "norm.weight": "normalisation",
        "norm.bias": "normalisation",
        "scaled.parametrizations.weight.original0": "normalisation",
        "head.weight": "excluded by head.*",
    }


@pytest.mark.parametrize(
    "model, options, message",
    [
        (lambda: nn.LazyLinear(3), {}, "has no shape yet"),
        (lambda: nn.Linear(3, 3, dtype=torch.complex64), {}, "is complex"),
        (lambda: nn.Embedding(3, 3, sparse=True), {"embeddings": True}, "has sparse gradients"),
        (lambda: nn.ConvTranspose1d(3, 4, 2), {"oriented": True}, "of a transposed convolution"),
        (lambda: layers(weight=torch.eye(3).to_sparse()), {}, "is a torch.sparse_coo, which does not hold all"),
    ],
)
def test_what_cannot_be_pruned_is_refused_by_name(model, options, message):
    with pytest.raises(ValueError, match=f"weight .*{message}|weight {message}"):
        sp.prunable(layers(layer=model()), **options)


def test_sharded_models_are_refused_before_and_after_masks_are_made():
    """Elsewhere masks went on referring to tensors that were gone, and a sparsity of 0 was reported."""
    distributed = torch.distributed
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        masks = sp.Masks(sp.prunable(model))
        fully_shard(model[0], mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(ValueError, match=r"0\.weight was replaced in the model"):
            masks.apply()
        with pytest.raises(ValueError, match=r"0\.weight is a DTensor, .*neither sharded"):
            sp.prunable(model)
        assert list(sp.prunable(model, exclude=("0.*",))) == ["1.weight"]
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda model: torch.compile(nn.DataParallel(model))])
def test_a_wrapped_model_goes_by_its_own_names(wrap):
    """Else the masks and snapshots of a compiled model fit no other, and random masks differ with and without."""
    model = Language()
    wrapped = wrap(model)
    assert list(sp.prunable(wrapped, embeddings=True)) == list(sp.prunable(model, embeddings=True))
    assert sp.reasons(wrapped) == sp.reasons(model) and sp.bare(wrapped) == sp.bare(model)
    masks = sp.Masks(sp.prunable(wrapped, exclude=("middle.*",)))
    masks.update(sp.choose(sp.random_score(masks.weights, 0), 0.5))
    other = Language()
    sp.restore(other, sp.snapshot(wrapped))
    assert sp.checksum(sp.snapshot(other)) == sp.checksum(sp.snapshot(model))
    sp.restore(wrapped, sp.snapshot(other))
    sp.Masks(sp.prunable(other, exclude=("middle.*",))).load_state_dict(masks.state_dict())


def test_tied_weights_are_kept_once_in_memory_and_in_files():
    model, file = Language(), io.BytesIO()
    kept = sp.snapshot(model)
    assert kept["output.weight"] is kept["words.weight"] is not model.words.weight
    torch.save(kept, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert loaded["output.weight"].data_ptr() == loaded["words.weight"].data_ptr()
    other = Language()
    sp.restore(other, loaded)
    assert other.output.weight is other.words.weight and torch.equal(other.words.weight, model.words.weight)


def test_parameters_that_overlap_in_one_storage_share_memory():
    storage, model = torch.zeros(40), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].weight = nn.Parameter(storage[:16].view(4, 4))
    model[1].weight = nn.Parameter(storage[16:32].view(4, 4))  # as flattened recurrent weights are: side by side
    assert list(sp.prunable(model)) == ["0.weight", "1.weight"]
    model[1].weight = nn.Parameter(storage[8:24].view(4, 4))
    with pytest.raises(ValueError, match=r"0\.weight and 1\.weight share memory"):
        sp.prunable(model)


def test_masks_of_tensors_that_the_model_no_longer_has_are_refused():
    model = nn.Sequential(nn.Linear(3, 3))
    masks = sp.Masks(sp.prunable(model))
    masks.apply()
    model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, assign=True)
    with pytest.raises(ValueError, match=r"0\.weight was replaced in the model"):
        masks.apply()


# --- layers whose parameters are held by something else, or that hold more --------------------------------------------


@pytest.mark.parametrize("wrap", [parametrizations.spectral_norm, parametrizations.weight_norm])
def test_a_parametrised_layer_is_what_it_was(wrap):
    table = nn.Sequential(wrap(nn.Embedding(10, 4)), nn.Linear(4, 4))
    assert list(sp.prunable(table)) == ["1.weight"] and len(sp.prunable(table, embeddings=True)) == 2
    transposed = wrap(nn.ConvTranspose2d(8, 4, 3))
    with pytest.raises(ValueError, match="transposed convolution"):
        sp.prunable(transposed, oriented=True)
    with pytest.raises(ValueError, match="sparse gradients"):
        sp.prunable(wrap(nn.Embedding(10, 4, sparse=True)), embeddings=True)


def test_a_parametrised_normalisation_stays_one():
    model = nn.Sequential(parametrizations.spectral_norm(nn.LayerNorm((4, 4))), nn.Linear(4, 4))
    assert list(sp.prunable(model)) == ["1.weight"]


def test_what_a_subclass_of_a_layer_adds_is_bare():
    class Shifted(nn.Conv2d):
        def __init__(self):
            super().__init__(3, 4, 3)
            self.shift, self.places = nn.Parameter(torch.zeros(1, 4, 1, 1)), nn.Parameter(torch.zeros(5, 4))

    model = Shifted()
    assert list(sp.prunable(model)) == ["weight", "places"] and sp.bare(model) == {"shift": False, "places": True}


def test_every_layer_of_torch_tells_its_parameters():
    layers_of_torch = [
        nn.Bilinear(2, 3, 4), nn.LSTM(2, 3, 2, bidirectional=True, proj_size=2), nn.GRUCell(2, 3), nn.Embedding(3, 2),
        nn.MultiheadAttention(4, 2, kdim=3, vdim=5, add_bias_kv=True), nn.TransformerEncoderLayer(4, 2, 8),
        nn.Conv3d(2, 3, 1), nn.ConvTranspose1d(2, 3, 2), nn.LayerNorm((2, 2)), nn.Linear(2, 3),
    ]  # fmt: skip
    assert [sp.bare(layer) for layer in layers_of_torch] == [{}] * len(layers_of_torch)


def test_structures_along_inputs_are_refused_where_inputs_come_first():
    weights = sp.prunable(nn.ConvTranspose2d(8, 4, 3))
    for asked in ({"structure": "2:4"}, {"structure": "2x2"}, {"allocation": "rows"}):
        for score in (sp.magnitude(weights), sp.random_score(weights, 1)):
            with pytest.raises(ValueError, match="transposed convolution"):
                sp.choose(score, 0.5, **asked)
    assert sp.choose(sp.magnitude(weights), 0.5)["weight"].float().mean() == 0.5


def test_a_layer_that_was_replaced_is_noticed():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    masks = sp.Masks(sp.prunable(model))
    model[0] = nn.Linear(4, 4)
    with pytest.raises(ValueError, match=r"0\.weight was replaced in the model"):
        masks.apply()
