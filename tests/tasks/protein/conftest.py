"""For tests of the protein trainer on structures."""

import pytest

from tasks.protein.encoders import esm_if1
from tests.support.protein_files import csv_files, made, write
from tests.support.protein_training import Atoms, line_of_atoms, real_values


@pytest.fixture
def structured(folders, monkeypatch):
    """Settings of a stage whose model reads structures, all of them there."""
    pytest.importorskip("Bio", reason="needs: pip install biopython")
    rows = made(80)
    files = {f"structures/{name}.pdb": line_of_atoms(sequence) for name, sequence, _ in rows}
    write(folders / "data", {**csv_files(rows), **files, "weights.pt": "any"})
    monkeypatch.setattr(esm_if1, "build", lambda config: Atoms())
    chosen = {"task.dataset": "hp-s2c2", "task.model": "esm-if1", "task.length": 15, "task.crop": "ends"}
    return real_values(folders / "data", **chosen, **{"task.pretrained": str(folders / "data" / "weights.pt")})
