"""Words become a grid: layers and their precedence, axes, several methods, and what a result is told apart by."""

import pytest

from common import paths
from common.settings import groups
from common.settings.run import Run
from launch.request import arguments, compose, grid, variants

OWN, PRESET = "tasks/classic/config.yaml", "launch/presets/default.yaml"


def cells(*asked: str) -> list[grid.Cell]:
    return grid.cells(arguments.parse(list(asked)))[1]


def settings(*asked: str) -> dict:
    """The settings of the only cell of the last method asked for."""
    found = cells(*asked)
    assert len({cell.method for cell in found}) == len(found)
    return found[-1].settings


@pytest.fixture
def files(monkeypatch):
    """Replaces the content of the project's YAML files."""
    content, real = {}, compose.read_yaml

    def read(path):
        return content.get(path.relative_to(paths.root()).as_posix()) or real(path)

    monkeypatch.setattr(compose, "read_yaml", read)
    return content


@pytest.mark.parametrize(
    "text, pieces",
    [
        ("0.8", ["0.8"]),
        ("0.8,0.9", ["0.8", "0.9"]),
        ("0.8, 0.9 ", ["0.8", "0.9"]),
        ("[1,2]", ["[1,2]"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("{a:1,b:2},{a:[1,2]}", ["{a:1,b:2}", "{a:[1,2]}"]),
        ("0,", ["0", ""]),
        ("/of/me\\,and/you,/other", ["/of/me,and/you", "/other"]),
    ],
)
def test_values_are_split_at_commas_outside_brackets(text, pieces):
    assert arguments.split(text) == pieces


def test_later_layers_win(files):
    files[OWN] = {
        "run": {"epochs": 2, "batch_size": 7, "clip_norm": 1},
        "presets": {"small": {"run": {"batch_size": 8}}},
    }
    files[OWN]["methods"] = {"imp": {"rate": 0.3, "allocation": "layers", "rewind": 4}}
    files[OWN]["presets"]["small"] |= {"methods": {"imp": {"rate": 0.4}}, "compare": ["imp"]}
    files[OWN]["presets"]["small"] |= {"sweep": {"run.seed": [5], "method.rounds": [1]}}
    found = settings("preset=small", "run.clip_norm=3")
    assert found["run"]["momentum"] == 0.9  # the dataclass
    assert found["run"]["epochs"] == 2.0 and found["method"]["allocation"] == "layers"  # the task, the task's methods
    assert found["run"]["batch_size"] == 8 and found["method"]["rate"] == 0.4  # the preset
    assert found["run"]["clip_norm"] == 3.0  # the command line
    assert found["method"]["rewind"] == "4" and isinstance(found["run"]["epochs"], float)  # every value has its type
    assert found["run"]["seed"] == 5 and found["method"]["rounds"] == 1  # the preset's axes
    assert settings("preset=small", "method.rate=0.1")["method"]["rate"] == 0.1
    assert settings("method=imp", "run.seed=0", "method.rounds=1")["run"]["batch_size"] == 7  # no preset


def test_a_text_of_a_file_is_what_is_written(tmp_path):
    """YAML 1.1 takes these for numbers and truths; every field converts by its own type."""
    path = tmp_path / "config.yaml"
    path.write_text("{optimizer: no, exclude: [0755, 1_0], seed: 7, epochs: 3, nesterov: true, milestones: [.5, 1e-1]}")
    found = groups.merge(Run, "run", [("file", compose.read_yaml(path))])
    assert (found["optimizer"], found["exclude"]) == ("no", ["0755", "1_0"])
    assert (found["seed"], found["epochs"], found["nesterov"], found["milestones"]) == (7, 3.0, True, [0.5, 0.1])
    assert isinstance(found["epochs"], float) and isinstance(found["seed"], int)


def test_axes_multiply_and_stay_with_the_methods_that_know_them():
    found = cells(
        "method=imp,rigl,dense", "run.seed=3,4", "method.sparsity=0.5,0.8", "method.rate=0.2,0.5", "run.steps=90"
    )
    count = {name: sum(cell.method == name for cell in found) for name in ("imp", "rigl", "dense")}
    assert count == {"imp": 8, "rigl": 4, "dense": 2}
    assert all("rate" not in cell.settings["method"] for cell in found if cell.method == "rigl")
    assert {cell.settings["run"]["steps"] for cell in found} == {90}
    assert len(cells("method=dense", "run.seed=1,1,1")) == 1


def test_lists_and_mappings_are_single_values():
    found = settings(
        "method=dense", "run.seed=0", "run.milestones=[0.1,0.2]", "run.schedule=steps", "run.exclude=[a:b,c]"
    )
    assert found["run"]["milestones"] == [0.1, 0.2] and found["run"]["exclude"] == ["a:b", "c"]
    found = cells("method=dense", "run.seed=0", "run.milestones=[0.1,0.2],[1]")
    assert [cell.settings["run"]["milestones"] for cell in found] == [[0.1, 0.2], [1.0]]


@pytest.mark.parametrize(
    "text", ["{output.weight:0.1,hidden.0.weight:1e-1}", "{output.weight: 0.1, hidden.0.weight: 0.1}"]
)
def test_a_mapping_needs_no_space(text):
    """make splits SET at spaces."""
    found = settings("method=imp", "run.seed=0", "method.rounds=1", "method.allocation=layers", f"method.rates={text}")
    assert found["method"]["rates"] == {"output.weight": 0.1, "hidden.0.weight": 0.1}


def test_one_level_replaces_the_presets_list_of_another():
    found = [cell for cell in cells("method=imp", "run.seed=0", "method.rounds=2,3") if cell.method == "imp"]
    assert [(c.settings["method"]["rounds"], c.settings["method"]["sparsity"]) for c in found] == [(2, None), (3, None)]
    found = cells("method=imp,rigl", "run.seed=0", "method.rounds=2")  # which rigl does not have
    assert sum(cell.method == "rigl" for cell in found) == 10
    assert len(cells("method=rigl", "run.seed=0", "method.sparsity=0.7")) == 2


def test_the_dense_line_is_there_without_being_asked_for():
    found = cells("method=rigl", "run.seed=0,1", "method.sparsity=0.5")
    assert [(cell.method, cell.reference) for cell in found[:2]] == [("dense", True)] * 2
    found = cells("method=rigl,dense", "run.seed=0", "method.sparsity=0.5")
    assert [(cell.method, cell.reference) for cell in found] == [("rigl", False), ("dense", False)]


def test_data_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["method=dense", "run.seed=0", "task.dataset=mnist"]
    for word in ("data=some/place", "task.data=some/place"):
        assert settings(*common, word)["task"]["data"] == str(tmp_path / "some" / "place")
    monkeypatch.setenv("HOME", "/home/me")
    assert settings(*common, "data=~/mnist")["task"]["data"] == "/home/me/mnist"
    assert settings(*common, "task.pretrained=a.pt")["task"]["pretrained"] == str(tmp_path / "a.pt")
    assert settings(*common)["task"]["data"] == "" and settings(*common)["task"]["pretrained"] == ""


def told(*asked: str, data: str = "", published: bool = False) -> str:
    composer, found = grid.cells(arguments.parse(list(asked)))
    data = data or composer.embedded_data
    return variants.variant(composer, found[-1].method, found[-1].settings, data, published)


def test_variant_names_what_differs_from_the_embedded_default():
    common = ["method=imp", "run.seed=7", "method.sparsity=0.5"]
    assert told(*common) == ""
    assert told(*common, "run.log_every=5", "run.device=cpu") == ""  # these change no result
    assert told(*common, "run.epochs=5", "method.rewind=100") == "run.epochs=5.0, method.rewind=100"
    assert told(*common, "method.structure=2:4") == "method.structure=2:4"
    assert told("method=reshuffle", *common[1:], "method.settings={batches:20}") == "method.settings={batches: '20'}"
    assert told(*common, "run.milestones=[0.1]") == "run.milestones=[0.1]"
    assert told("preset=laptop", *common).startswith("run.epochs=10.0, run.evaluate_every=250")
    assert told(*common, data="0123456789abcdef") == "data.checksum=01234567"  # part of a data set is not the whole
    assert told(*common, data="0123456789abcdef", published=True) == "", "the data set's name says all"
    assert "task.dataset" not in told("preset=laptop", *common)  # which has a column of its own


@pytest.mark.parametrize(
    "value, shown",
    [
        *(
            ("2:4", "2:4"),
            ("100", "100"),
            ("0x10", "0x10"),
            ("erk_plus", "erk_plus"),
            ("true", "true"),
            ("a/b.pt", "a/b.pt"),
        ),
        *(("", "''"), ("null", "'null'"), ("[a]", "'[a]'"), ("{a: b}", "'{a: b}'"), (None, "null"), (True, "true")),
        *((2.0, "2.0"), ([1, 2], "[1, 2]"), ({"a": 0.1}, "{a: 0.1}")),
    ],
)
def test_a_text_is_shown_without_quotes_where_it_can_be_nothing_else(value, shown):
    assert variants.text(value) == shown


def test_presets():
    assert compose.presets() == ["default", "laptop", "paper"]
    assert compose.presets("classic") == ["default", "laptop", "paper", "resnet20", "resnet20-renda"]
    default = cells()
    assert len(default) == 6 * 10 * 3 + 3 and {cell.settings["task"]["dataset"] for cell in default} == {"digits"}
    laptop = cells("preset=laptop")
    assert {cell.settings["task"]["dataset"] for cell in laptop} == {"mnist"} and len(laptop) == 8 * 10 * 3 + 3
    paper = [cell for cell in cells("preset=paper") if cell.method == "imp"]
    assert [cell.settings["method"]["rounds"] for cell in paper[:4]] == [3, 7, 9, 15]
    assert all(cell.settings["method"]["rates"] == {"output.weight": 0.1} for cell in paper)
    assert all(cell.settings["run"]["steps"] == 50_000 and cell.settings["method"]["rate"] == 0.2 for cell in paper)
    own = cells("preset=resnet20", "method=dense", "run.seed=0")[0].settings
    assert own["task"] | {"model": "resnet-20", "dataset": "cifar10", "augment": True} == own["task"]
    assert own["run"]["optimizer"] == "sgd" and own["run"]["learning_rate"] == 0.1 and own["run"]["select"] == "last"


def test_data_sets_of_a_request():
    found = grid.data_sets(arguments.parse(["preset=laptop"]))
    assert [(config.dataset, config.validation) for config in found] == [("mnist", 5000)]
    found = grid.data_sets(arguments.parse(["task.dataset=mnist,cifar10", "data=/somewhere", "run.steps=3"]))
    assert [(config.dataset, config.data) for config in found] == [("mnist", "/somewhere"), ("cifar10", "/somewhere")]
