"""The protein trainer where structures are read beside sequences."""

import sys

import pytest
import torch

from common import record
from launch.plan import fits_the_model
from tasks.protein import data, model
from tasks.protein.config import Config
from tasks.protein.encoders import esm_if1, geometry, proteinmpnn
from tasks.protein.files import structures
from tests.support import training
from tests.support.protein_files import complaint, made
from tests.support.protein_training import begun, line_of_atoms, stage


def test_structures_reach_the_model_cropped_as_the_letters_are(structured):
    worker, state = begun(**structured)
    longest = max(range(60), key=lambda i: len(worker.data.train.sequences[i]))
    size = len(worker.data.train.sequences[longest])
    (tokens, _, residues, atoms, numbers), _ = worker.batch(torch.tensor([longest, 0]), 0)
    assert atoms.shape == (*tokens.shape, 3, 3) and atoms.dtype == torch.float32
    assert atoms[0, residues[0], 1, 0].tolist() == [*range(8), *range(size - 7, size)]
    assert (numbers[0, residues[0]] - numbers[0, residues[0]][0]).tolist() == [*range(8), *range(size - 7, size)]
    assert atoms[~residues].isnan().all() and not atoms[residues].isnan().any()
    before = training.copy(dict(state.model.named_parameters()))
    worker.step(state)
    assert all(not torch.equal(p, before[n]) for n, p in state.model.named_parameters())


def test_residues_without_coordinates_are_counted(structured, folders):
    worker, state = begun(**structured)
    assert worker.evaluate(state.model.eval(), "test")["measurements"]["unresolved"] == 0.0
    places = folders / "data" / "structures"
    test = dict(zip(worker.data.test.names, worker.data.test.sequences))
    for number, (name, sequence) in enumerate(test.items()):
        if number < 3:  # the last two residues, of those that cropping keeps
            lines = line_of_atoms(sequence).splitlines(keepends=True)
            (places / f"{name}.pdb").write_text("".join([*lines[:-7], "END\n"]))
    worker, state = begun(**structured)
    found = worker.evaluate(state.model.eval(), "test")["measurements"]["unresolved"]
    assert abs(found - 100 * 6 / sum(min(15, len(s)) for s in test.values())) < 1e-9


def test_a_structure_that_training_could_not_read_is_refused_before_anything_is_queued(structured, folders):
    """Cut, empty, of another protein: of whichever part, with its line, and with that of its sequence."""
    names, sequences, _ = zip(*made(80))
    places = [folders / "data" / "structures" / f"{name}.pdb" for name in names]
    line = f"{folders / 'data' / 's2c2_0_test.csv'}:2"  # of the first sequence
    whole, own = places[0].read_text(), sequences[0][0]
    stage(**structured)
    cases = {
        "".join(whole.splitlines(keepends=True)[:12]) + "END\n": "residue 4; expected those of two thirds at least",
        "".join(whole.splitlines(keepends=True)[:-5]): "the file ends within its atoms",
        whole[: whole.index("0.000")]: ".pdb:1: expected a PDB or mmCIF file, whole",
        "": ".pdb: expected a PDB or mmCIF file, whole (ValueError: Empty file.)",
        line_of_atoms("W" + sequences[0][1:]): f".pdb:1: residue 1 is W, where residue 1 of the sequence is {own}",
    }
    for content, expected in cases.items():
        places[0].write_text(content)
        message = complaint(lambda: stage(**structured))
        assert str(places[0]) in message and expected in message and f"(its sequence: {line})" in message
    places[7].write_text("")
    assert "; 1 more of 80 structures cannot be used either" in complaint(lambda: stage(**structured))
    for place, sequence in ((places[0], sequences[0]), (places[7], sequences[7])):
        place.write_text(line_of_atoms(sequence))
    stage(**structured)


def test_a_structure_is_parsed_once_whoever_asks_until_its_file_changes(structured, folders, monkeypatch):
    asked, read = [], structures.read
    monkeypatch.setattr(structures, "read", lambda path, sequence: asked.append(path.name) or read(path, sequence))
    stage(**structured)
    assert len(asked) == 80
    worker = begun(**{**structured, "run.seed": 3})[0]
    assert len(asked) == 80 and worker.atoms["test"]
    place = folders / "data" / "structures" / "P00003.pdb"
    place.write_text(place.read_text() + "REMARK\n")
    stage(**structured)
    assert asked[80:] == ["P00003.pdb"]


def test_without_biopython_the_plan_names_the_command(structured, monkeypatch):
    monkeypatch.setitem(sys.modules, "Bio", None)
    assert complaint(lambda: stage(**structured)).endswith("-m pip install biopython")


def test_a_sequence_without_a_name_has_no_structure(structured, folders):
    path = folders / "data" / "s2c2_0_train.csv"
    path.write_text(path.read_text().replace("P00003,", ",", 1))
    at = next(at for at, line in enumerate(path.read_text().split("\n"), 1) if line.startswith(","))
    assert f"{path}:{at}: has no name" in complaint(lambda: stage(**structured))


@torch.no_grad()
def test_residues_of_which_nothing_is_said_are_not_in_the_mean():
    torch.manual_seed(0)
    built = model.Network(proteinmpnn.Encoder(4), Config(model="proteinmpnn")).eval()
    built.head = torch.nn.Identity()
    tokens, atoms = torch.ones(3, 9, dtype=torch.long), 3 * torch.randn(3, 9, 3, 3)
    mask = torch.arange(9) < torch.tensor([[9], [7], [9]])
    atoms[0, 2:6], atoms[1, 4, 1], atoms[2], atoms[1, 7:] = torch.nan, torch.nan, torch.nan, torch.nan
    found, hidden = built(tokens, mask, mask, atoms), built.backbone(tokens, mask, atoms)
    assert torch.allclose(found[0], hidden[0, [0, 1, 6, 7, 8]].mean(0), atol=1e-6)
    assert torch.allclose(found[1], hidden[1, [0, 1, 2, 3, 5, 6]].mean(0), atol=1e-6)
    assert not found[2].any() and hidden[0, 0].std() > 0.1, "a part that is nowhere resolved is 0, not 0 / 0"


@torch.no_grad()
def test_the_first_messages_lack_only_columns_that_multiply_zeros(tmp_path):
    """The published layer, with all of its columns, says the same."""
    torch.manual_seed(0)
    encoder, atoms = proteinmpnn.Encoder(6).eval(), 4 * torch.randn(2, 12, 3, 3)
    whole = proteinmpnn.Layer(0.1, False, False).eval()
    assert whole.W1.weight.shape == (128, 384) and encoder.encoder_layers[0].W1.weight.shape == (128, 128)
    before = "encoder_layers.0."
    state = {**encoder.state_dict(), **{before + name: value for name, value in whole.state_dict().items()}}
    torch.save({"num_edges": 6, "model_state_dict": state}, tmp_path / "v.pt")
    loaded = proteinmpnn.load(tmp_path / "v.pt").eval()
    encoder.encoder_layers[0] = whole
    encoder.load_state_dict(state)
    inputs = torch.ones(2, 12, dtype=torch.long), torch.ones(2, 12, dtype=torch.bool), atoms
    assert torch.allclose(loaded(*inputs), encoder(*inputs), atol=1e-5)


def cut_chain(length=24, kept=11):
    """Coordinates of a chain and the places that task.crop=ends keeps of it: [1, n, 3, 3], int64[1, kept]."""
    generator = torch.Generator().manual_seed(0)
    chain = torch.cumsum(2 * torch.randn(1, length, 3, 3, generator=generator), 1)
    full = data.Split(["P"], ["A" * length], [""], torch.zeros(1))
    numbers = data.numbers(full, torch.tensor([0]), kept, kept, "ends", proteinmpnn.Encoder(4).alphabet)
    assert numbers.tolist() == [[*range(6), *range(length - 5, length)]]
    start = data.numbers(full, torch.tensor([0]), kept, kept, "start", proteinmpnn.Encoder(4).alphabet)
    assert start.tolist() == [[*range(kept)]]
    return chain, numbers


def test_a_cut_is_no_bond_to_proteinmpnn():
    """Oxygens and pairs are those of the whole chain; only the residue before the cut is an end, as any last one."""
    chain, numbers = cut_chain()
    cropped, known = chain[:, numbers[0]], torch.ones(1, 24, dtype=torch.bool)
    found = proteinmpnn.atoms_of(cropped, known[:, :11], numbers)
    expected = proteinmpnn.atoms_of(chain, known)
    others = torch.arange(11) != 5
    for atom, values in found.items():
        assert torch.allclose(values[:, others], expected[atom][:, numbers[0, others]], atol=1e-5), atom
    last = proteinmpnn.atoms_of(chain[:, :6], known[:, :6])["O"][:, 5]
    assert torch.allclose(found["O"][:, 5], last, atol=1e-5)
    features = proteinmpnn.Features(24)
    ours, at = features(found, known[:, :11], numbers)
    theirs, there = features(expected, known)
    ours = torch.zeros(11, 11, 128).scatter(1, at[0, :, :, None].expand(-1, -1, 128), ours[0])
    theirs = torch.zeros(24, 24, 128).scatter(1, there[0, :, :, None].expand(-1, -1, 128), theirs[0])
    theirs = theirs[numbers[0]][:, numbers[0]]
    assert torch.allclose(ours[others][:, others], theirs[others][:, others], atol=1e-4) and theirs.std() > 0.1


def test_a_cut_is_no_bond_to_esm_if1():
    """Angles and directions are those of the whole chain, or of an end where they would reach over the cut."""
    chain, numbers = cut_chain()
    cropped = chain[:, numbers[0]]
    bonded = geometry.followed(torch.ones(1, 11, dtype=torch.bool), numbers)
    assert bonded.logical_not().nonzero().tolist() == [[0, 5]]
    found = geometry.torsions(cropped, bonded=bonded).view(11, 2, 3)
    expected = geometry.torsions(chain).view(24, 2, 3)[numbers[0]].clone()
    for place, angle in ((5, 1), (5, 2), (6, 0)):
        expected[place, :, angle] = torch.tensor([1.0, 0.0])
    assert torch.allclose(found, expected, atol=1e-5)
    found = geometry.directions(cropped, bonded)[0]
    expected = geometry.directions(chain)[0, numbers[0]].clone()
    expected[5, 0], expected[6, 1] = 0.0, 0.0
    assert torch.allclose(found, expected, atol=1e-5)
    ends, distance = torch.tensor([[5, 6], [6, 7]]), torch.ones(2)
    waves, _ = geometry.edge_features(cropped[:, :, 1], ends, distance, numbers)
    over = [(numbers[0, one] - numbers[0, other]).item() for one, other in ((5, 6), (6, 7))]
    assert torch.allclose(waves[:, 16], torch.tensor(over).float().cos(), atol=1e-6) and over == [-14, -1]
    torch.manual_seed(0)
    encoder = esm_if1.Encoder(esm_if1.Shape(16, 24, 2, 2, 0.1, 0.1, 4, 8, 4, 4, 1, 1, 0.1)).eval()
    whole = torch.full((1, 11), True)
    seen = []
    for part in (encoder.embed_dihedrals.node_embedding, encoder.embed_gvp_input_features):
        part.register_forward_hook(lambda part, inputs, output: seen.append(inputs[0][0, :, :6].view(11, 2, 3)))
    with torch.no_grad():
        here, there = (encoder(torch.ones(1, 11).long(), whole, cropped, given) for given in (numbers, None))
        plain = encoder(torch.ones(1, 11).long(), whole, cropped, torch.arange(11)[None])
    for number, angles in enumerate(seen):  # two of each pass; the first pass knows of the cut
        ends = [torch.equal(angles[5, :, 1], torch.tensor([1.0, 0.0])), torch.equal(angles[6, :, 0], angles[5, :, 2])]
        assert all(ends) if number < 2 else not any(ends)
    assert (here - there).abs().max() > 1e-3 and torch.equal(plain, there)


@pytest.mark.parametrize("excluded", ["[]", "[head.*]"])
@pytest.mark.parametrize("name", ["proteinmpnn", "esm-if1"])
def test_geometry_and_embeddings_stay_dense_whatever_is_excluded(structured, monkeypatch, name, excluded):
    """In training and in the plan's look at the model alike."""
    shape = esm_if1.Shape(16, 24, 2, 2, 0.1, 0.1, 4, 8, 4, 4, 1, 1, 0.1)
    monkeypatch.setattr(proteinmpnn, "build", lambda config: proteinmpnn.Encoder(4))
    monkeypatch.setattr(esm_if1, "build", lambda config: esm_if1.Encoder(shape))
    values = {**structured, "task.model": name, "run.exclude": excluded}
    _, state = begun(**values)
    chosen = set(state.weights)
    assert ("head.1.weight" in chosen) == (excluded == "[]")
    layers = "backbone.encoder_layers." if name == "proteinmpnn" else "backbone.layers."
    assert all(weight.startswith((layers, "head.")) for weight in chosen)
    assert len(chosen - {"head.1.weight"}) == (3 * 5 + 2 * 3 if name == "proteinmpnn" else 2 * 6)
    settings = record.read_config(stage(**values))["settings"]
    answer = fits_the_model._answer({"task": "protein", "method": "dense", "settings": settings}, {})
    assert {weight for weight, _, word in answer["layers"] if word == "pruned"} == chosen


def test_a_missing_or_changed_structure_is_noticed_before_anything_is_queued(structured, folders):
    first = stage(**structured).name
    place = folders / "data" / "structures" / "P00003.pdb"
    place.write_text(place.read_text() + "REMARK\n")
    assert stage(**structured).name != first
    place.unlink()
    assert "1 of 80 structures are missing: P00003" in complaint(lambda: stage(**structured))
