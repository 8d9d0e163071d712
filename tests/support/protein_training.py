"""For tests of the protein trainer: small stages, and what they read."""

import torch
from hypothesis import strategies as st

from common import record
from common.stage import run
from tasks.protein import data
from tasks.protein.alphabet import RESIDUES, Alphabet
from tests.support import training

THREE = "ALA CYS ASP GLU PHE GLY HIS ILE LYS LEU MET ASN PRO GLN ARG SER THR VAL TRP TYR"


NAMES = dict(zip(RESIDUES, THREE.split()))


FAST = {"run.steps": 30, "run.evaluate_every": 15, "task.width": 16, "task.layers": 1, "task.heads": 2}


def stage(method="dense", **values):
    """The folder of a small stage, untrained, its parents trained."""
    own = values.get("task.model", "transformer") == "transformer"
    fast = {key: value for key, value in FAST.items() if own or not key.startswith("task.")}  # others have their sizes
    folders = training.line(method, {**fast, **values}, task="protein")
    training.train(folders[:-1])
    return folders[-1]


def begun(method="dense", **values):
    """(trainer, state) at the beginning of a stage without a parent."""
    worker = run.trainer(record.read_config(stage(method, **values)))
    state = worker.begin(None)
    worker.method.start(state)
    return worker, state


def finished(folder):
    training.train([folder])
    return training.summary(folder)


def real_values(folder, **values):
    return {"task.data": str(folder), "task.validation": 10, "run.batch_size": 8, **values}


def outputs(built, sequences):
    split = data.Split(sequences, sequences, sequences, torch.zeros(len(sequences)))
    return built(*data.Tokens(split, built.backbone.alphabet).batch(torch.arange(len(sequences))))


class Echo(torch.nn.Module):
    """An encoder with special tokens around the sequence, that says of each token its number."""

    width, limit = 2, None
    alphabet = Alphabet({letter: 5 + i for i, letter in enumerate(RESIDUES)}, padding=1, first=0, last=2)

    def forward(self, tokens, mask):
        return torch.stack([tokens.float(), mask.float()], dim=2)


values = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.5, -1.0, 7.0]), min_size=2, max_size=30)


class Atoms(torch.nn.Module):
    """A model of structures: of each residue, where its CA is."""

    width, limit, alphabet = 3, None, Echo.alphabet

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.eye(3))

    def forward(self, tokens, mask, coordinates, numbers):
        return coordinates[:, :, 1].nan_to_num(0.0) @ self.scale


def line_of_atoms(sequence):
    """A PDB file whose residue i has its atoms around (i, 0, 0)."""
    found = []
    for place, letter in enumerate(sequence):
        for atom, offset in (("N", -0.3), ("CA", 0.0), ("C", 0.3)):
            words = f"ATOM  {len(found) + 1:>5}  {atom:<3} {NAMES[letter]} A{place + 1:>4}    "
            found.append(f"{words}{place + offset:8.3f}{0:8.3f}{0:8.3f}{1:6.2f}{0:6.2f}          {atom[0]:>2}\n")
    return "".join(found) + "END\n"
