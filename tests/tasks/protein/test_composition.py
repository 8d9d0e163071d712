"""What composition alone would score on the protein task."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from tasks.protein import composition, data
from tasks.protein.alphabet import RESIDUES
from tasks.protein.config import Config
from tests.support.protein_files import csv_files, made, write


def problem(classes=3):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(120, 5, dtype=torch.float64, generator=generator)
    labels = (inputs @ torch.randn(5, classes, dtype=torch.float64, generator=generator)).argmax(1)
    flip = torch.rand(120, generator=generator) < 0.2
    return inputs, torch.where(flip, (labels + 1) % classes, labels)


@pytest.mark.parametrize("classes, penalty", [(2, 0.1), (3, 0.01)])
def test_logistic_regression_is_the_convex_optimum(classes, penalty):
    inputs, labels = problem(classes)
    weights, bias = composition.logistic(inputs, labels, classes, penalty)
    # scikit-learn minimises the sum of losses plus |w|^2 / (2 C); with two classes it has one vector, ours two halves
    strength = 1 / (2 * penalty * len(inputs)) * (2 if classes == 2 else 1)
    other = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(inputs, labels)
    expected = torch.tensor(other.predict_proba(inputs))
    assert torch.allclose((inputs @ weights + bias).softmax(1), expected, atol=1e-4)


def test_ridge_regression_is_the_convex_optimum():
    inputs, labels = problem()
    targets = labels.double() * 10 + 40
    weights, bias = composition.ridge(inputs, targets, 0.3)
    other = Ridge(alpha=0.3 * len(inputs)).fit(inputs, targets)
    assert torch.allclose(inputs @ weights + bias, torch.tensor(other.predict(inputs)), atol=1e-8)


def test_composition_of_what_an_encoder_reads(capsys):
    """With ``length`` the letters beyond it are not counted: the score is another."""
    told = []
    for words in ([], ["length=10"], ["length=10", "crop=ends"]):
        assert composition.main(["dataset=generated", *words]) == 0
        told.append(capsys.readouterr().out)
    assert len(set(told)) == 3


def test_composition_counts_the_twenty():
    split = data.Split(["a"], ["AACX"], ["x:1"], torch.zeros(1))
    found = composition.shares(split)[0]
    assert found.shape == (20,) and found[RESIDUES.index("A")] == 0.5 and found.sum() == 0.75


def test_the_baseline_command_prints_folds_and_their_mean(folders, capsys):
    write(folders / "data", csv_files(made(200)))
    words = ["dataset=hp-s2c2", f"data={folders / 'data'}", "fold=0,1"]
    assert composition.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    scores = [float(line.split("accuracy ")[1].split(",")[0]) for line in lines[:2]]
    assert lines[0].startswith("hp-s2c2 fold 0: accuracy ") and "of a constant" in lines[1]
    mean = f"score: {sum(scores) / 2:.1f}"
    assert any(line.startswith(mean[:-1]) for line in lines[2:])
    assert composition.main(["dataset=hp-s2c2", f"data={folders / 'data'}", "target=temperature"]) == 0
    assert "spearman" in capsys.readouterr().out
    for wrong in (["datset=x"], ["fold=a"], ["fold=11"], ["dataset=hp-s2c2", "data=nowhere"]):
        assert composition.main(wrong) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_composition_alone_does_not_solve_the_embedded_data():
    found = composition.measure(data.load(Config(), 0), True)
    assert found.constant + 10 < found.score < 65
