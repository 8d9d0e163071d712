"""Plans: what is shared, what is done, why something is new, at what cost; and that planning changes nothing."""

import fcntl
import json
import subprocess
import sys
import time

import pytest
import yaml

from common import paths, record, registry
from common.errors import UserError
from common.stage import identity
from launch.__main__ import main
from launch.plan import outline, planner
from launch.request import arguments
from tests.support.arithmetic_files import files, made, row, write
from tests.support.cli import ROOT, quick
from tests.support.stages import stage

LEVELS = "0.2,0.36,0.488,0.5904,0.67232,0.737856,0.7902848,0.83222784,0.865782272,0.8926258176"


def make(*asked: str) -> planner.Plan:
    return planner.make(arguments.parse(list(asked)))


def mark(folder, **status) -> None:
    """What a stage leaves; without a status it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    if status:
        record.write_json(paths.status(folder), status)
    else:
        record.write_json(paths.summary(folder), {})
        paths.config(folder).touch()
        paths.weights(folder).touch()
        record.write_text(paths.done(folder), folder.name)


def methods(made: planner.Plan, name: str) -> list[planner.Stage]:
    return [stage for stage in made.stages.values() if stage.method == name]


def test_parents_are_trained_once():
    made = make("method=omp_after,imp,random_after", "run.seed=0,1")
    assert len(methods(made, "dense")) == 2 and len(made.stages) == 2 + 3 * 10 * 2
    assert "  2 dense shared by 30 each\n" in outline.text(made)
    roots = {s.digest for s in methods(made, "dense")}
    assert {s.parent for s in made.stages.values() if s.method.endswith("after")} == roots
    order = list(made.stages)
    assert all(s.parent is None or order.index(s.parent) < order.index(s.digest) for s in made.stages.values())


def test_separate_requests_meet_in_the_same_stages():
    together = make("method=omp_after,imp", "run.seed=0")
    apart = [make(f"method={name}", "run.seed=0") for name in ("imp", "omp_after", "dense")]
    assert set(together.stages) == {digest for made in apart for digest in made.stages}
    narrow = make("method=imp", "run.seed=0", "method.sparsity=0.488")
    assert set(narrow.stages) <= set(together.stages) and len(narrow.stages) == 4


def test_the_plan_says_what_is_shared_and_what_is_done():
    asked = ["method=omp_after,imp", "run.seed=0", f"method.sparsity={LEVELS}"]
    assert "  1 dense shared by 20\n" in outline.text(make(*asked))
    for found in make("method=imp", "run.seed=0").stages.values():
        mark(found.folder)
    made = make(*asked)
    text = outline.text(made)
    assert "21 stages (11 done, 10 new)" in text and "  1 dense shared by 20\n" in text
    rows = {line.split()[0]: line.split()[1:4] for line in text.splitlines() if line.startswith("  ")}
    assert (
        rows["imp"] == ["10", "10", "0"] and rows["omp_after"] == ["10", "0", "10"] and rows["dense"] == ["1", "1", "0"]
    )
    assert {s.method for s in made.todo()} == {"omp_after"}
    document = outline.document(made)
    assert {s["shared_by"] for s in document["stages"] if s["method"] == "dense"} == {20}


def test_targets_on_a_grid_share_rounds_and_others_end_exactly():
    on = methods(make("method=imp", "run.seed=0", "method.sparsity=0.36,0.488"), "imp")
    assert [round(s.sparsity, 9) for s in on] == [0.2, 0.36, 0.488]
    off = methods(make("method=imp", "run.seed=0", "method.sparsity=0.5"), "imp")
    assert [round(s.sparsity, 9) for s in off] == [0.2, 0.36, 0.488, 0.5] and off[-1].sparsity == 0.5
    assert [s.digest for s in off[:3]] == [s.digest for s in on]
    assert [s.depth for s in off] == [1, 2, 3, 4]
    rounds = methods(make("method=imp", "run.seed=0", "method.rounds=1,3"), "imp")
    assert len(rounds) == 3 and {s.sparsity for s in rounds} == {None}


def test_the_control_shares_all_rounds_but_the_last():
    made = make("method=imp,imp_reinit", "run.seed=0", "method.sparsity=0.36,0.488")
    assert len(methods(made, "imp")) == 3 and len(methods(made, "imp_reinit")) == 2
    assert {made.stages[s.parent].method for s in methods(made, "imp_reinit")} == {"imp"}


def test_states_by_files():
    asked = ["method=dense", "run.seed=0"]
    (only,) = make(*asked).stages.values()
    folder = only.folder

    def state():
        (found,) = make(*asked).stages.values()
        return found.state, found.why

    assert state() == ("new", "never trained")
    mark(folder, state="queued")
    assert state()[0] == "new"
    mark(folder, state="stopped", step=3, steps=9)
    assert state() == ("interrupted", "not finished (step 3 of 9); it resumes")
    mark(folder, state="running", step=5, steps=9)
    assert state() == ("interrupted", "not finished (step 5 of 9); it resumes")
    with open(paths.lock(folder), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert state() == ("running", "another process trains it now")
    mark(folder, state="failed", reason="out of memory")
    assert state() == ("failed", "out of memory")
    assert "failed: out of memory" in outline.text(make(*asked)) and make(*asked).todo()
    paths.status(folder).write_text("{")
    assert state()[0] == "interrupted" and "damaged" in state()[1]
    mark(folder)
    assert state() == ("done", "") and not make(*asked).todo()


def test_why_a_stage_is_new(monkeypatch):
    asked = ["method=omp_after", "run.seed=0", "method.sparsity=0.5"]

    def whys(*more):
        return {s.method: s.why for s in make(*asked, *more).stages.values()}

    assert set(whys().values()) == {"never trained"}
    planner.write(make(*asked))
    for found in make(*asked).stages.values():
        mark(found.folder)
    assert set(whys().values()) == {""}
    changed = whys("run.steps=5", "run.batch_size=7")
    assert set(changed.values()) == {"never trained with run.steps=5 (there is 0), run.batch_size=7 (there is 60)"}
    assert {s.why for s in make("method=dense", "run.seed=1").stages.values()} == {"never trained"}
    told = [line for line in outline.text(make(*asked, "run.steps=5")).splitlines() if " new: " in line]
    assert told == ["  2 of 2 new: never trained with run.steps=5 (there is 0)"]
    monkeypatch.setattr(identity, "CORE_VERSION", identity.CORE_VERSION + 1)
    before = identity.CORE_VERSION - 1
    assert set(whys().values()) == {f"never trained with core version {before + 1} (there is {before})"}


def test_reasons_add_up_to_all_that_is_new():
    planner.write(make("method=dense", "run.seed=0"))
    lines = outline.text(make("method=omp_after", "run.seed=0,1", "method.sparsity=0.5", "run.steps=5")).splitlines()
    assert [line for line in lines if " new: " in line] == [
        "  3 of 4 new: never trained, with these settings or others",
        "  1 of 4 new: never trained with run.steps=5 (there is 0)",
    ]
    assert "new: " not in outline.text(make("method=gmp", "run.seed=7")), "there is nothing to compare with"


@pytest.mark.parametrize("other", ["task.model=resnet-20", "task.dataset=mnist"])
def test_what_is_on_another_model_or_data_set_is_no_neighbour(other):
    (content,) = [stage.config for stage in make("method=dense", "run.seed=0", "run.steps=5").stages.values()]
    key, value = other.removeprefix("task.").split("=")
    settings = content["settings"] | {"task": content["settings"]["task"] | {key: value}}
    folder = paths.stage("classic", "elsewhere")
    folder.mkdir(parents=True)
    paths.config(folder).write_text(yaml.safe_dump(content | {"settings": settings, "digest": "elsewhere"}))
    (found,) = make("method=dense", "run.seed=0", "run.steps=6").stages.values()
    assert found.why == "never trained"
    paths.config(folder).write_text(yaml.safe_dump(content | {"digest": "elsewhere"}))
    (found,) = make("method=dense", "run.seed=0", "run.steps=6").stages.values()
    assert found.why == "never trained with run.steps=6 (there is 5)"


def test_bad_rows_of_every_fold_are_told_at_once(tmp_path):
    bad = row("what is number0 by number1", "2.0 3.0", "+ number0 number7", 5.0)
    for fold in (0, 1):
        write(tmp_path, files([*made(30), bad], made(10, first=100), f"fold{fold}"))
    asked = ["task=arithmetic", f"data={tmp_path}", "task.dataset=mawps", "task.fold=0,1", "method=dense"]
    with pytest.raises(UserError) as refused:
        make(*asked, "run.seed=0,1")
    text = str(refused.value)
    assert text.count("1 row was refused") == 2 and "fold0/train.csv:32" in text and "fold1/train.csv:32" in text


def test_why_names_the_parent_and_the_data(monkeypatch):
    asked = ["method=omp_after", "run.seed=0", "method.sparsity=0.5"]
    planner.write(make(*asked))
    with monkeypatch.context() as patch:
        patch.setattr(registry.method("dense"), "version", 9)
        whys = {s.method: s.why for s in make(*asked).stages.values()}
    before = registry.method("dense").version
    assert whys == {
        "dense": f"never trained with method version 9 (there is {before})",
        "omp_after": "its parent is new",
    }
    monkeypatch.setattr(identity, "checked", lambda task, settings: identity.Checked("other", (), ()))
    assert {s.why for s in make(*asked).stages.values()} == {"never trained with these data files (there are others)"}


def test_what_the_data_s_reader_went_on_with_is_told_before_anything_is_queued(tmp_path):
    """Rows left out and problems of the training part among those of the evaluation, once a kind over all folds."""
    bad = row("what is number0 by number1", "2.0 3.0", "+ number0 number7", 5.0)
    for fold in (0, 1):
        train, dev = made(30), made(10, first=100)
        write(tmp_path, files([*train, bad], [*dev, *train[: fold + 1]], f"fold{fold}"))
    asked = ["task=arithmetic", f"data={tmp_path}", "task.dataset=mawps", "task.fold=0,1", "method=dense", "run.seed=0"]
    planned = make(*asked, "task.unreadable=skip")
    skipped = [line for line in outline.text(planned).splitlines() if "skipped (" in line]
    assert len(skipped) == 1 and skipped[0].startswith("  data, 2 stages: 1 row was skipped (1 ")
    assert "fold0/train.csv:32" in skipped[0] and "and 1 more with other numbers or paths" in skipped[0]
    leaks = [told for told in outline.document(planned)["data"] if "among the training" in told["remark"]]
    assert [told["stages"] for told in leaks] == [2] and "scores are too good" in leaks[0]["remark"]


def test_a_warm_up_longer_than_training_is_told():
    planned = make("method=gmp", "method.sparsity=0.5,0.8", "run.seed=0", "run.steps=20", "run.warmup_steps=30")
    told = "run.warmup_steps=30 is longer than the training of 20 steps"
    assert f"  note, 3 stages: {told}" in outline.text(planned)
    assert [(note["stages"], told in note["note"]) for note in outline.document(planned)["notes"]] == [(3, True)]
    assert not outline.document(make("run.seed=0", "run.steps=30", "run.warmup_steps=30"))["notes"]
    (note,) = outline.document(make("method=dense", "run.seed=0", "run.epochs=1", "run.warmup_steps=300"))["notes"]
    assert "longer than the training of 21 steps" in note["note"]


def test_planning_writes_nothing(folders):
    make("method=imp,rigl")
    assert not list(folders.iterdir())


def test_what_is_written_is_what_was_planned():
    made = make("method=imp", "run.seed=0", "method.sparsity=0.36")
    sweeps = {planner.write(made), planner.write(made)}
    assert len(sweeps) == 2
    for found in made.stages.values():
        content = yaml.safe_load(paths.config(found.folder).read_text())
        assert content == found.config
        keys = ("task", "method", "settings", "versions", "data", "parent")
        assert identity.digest(*(content[key] for key in keys)) == found.digest == found.folder.name
    lines = [json.loads(line) for line in (sweeps.pop() / "plan.jsonl").read_text().splitlines()]
    assert [line["digest"] for line in lines] == list(made.stages)


def test_document_is_one_json_document():
    done = quick("plan", "method=imp", "run.seed=0", "format=json", "port=3")
    assert done.returncode == 0 and "note: plan does not use port" in done.stderr
    document = json.loads(done.stdout)
    assert document["counts"] == {"new": 11} and len(document["stages"]) == 11
    keys = {"digest", "task", "method", "parent", "depth", "seed", "sparsity", "state", "why", "folder", "variant"}
    assert all(set(found) == keys | {"replicate", "wished", "shared_by"} for found in document["stages"])
    assert all(found["why"] == "never trained" and found["wished"] for found in document["stages"])


LIGHT = """
import sys
from launch.__main__ import main
code = main(sys.argv[1:])
heavy = [name for name in ("torch", "mlflow", "submitit", "sklearn") if name in sys.modules]
sys.exit(f"imported {heavy}" if heavy else code)
"""


@pytest.mark.parametrize(
    "verb", [["plan"], ["plan", "format=json"], ["status"], ["report"], ["help", "method=rigl"], []]
)
def test_views_import_nothing_heavy(verb):
    stage(paths.runs(), "0123456789abcdef", task="classic")
    done = subprocess.run([sys.executable, "-c", LIGHT, *verb], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_says_what_a_sweep_of_the_preset_takes():
    shown = quick("help", "task=arithmetic", "preset=paper").stdout.splitlines()[1]
    assert shown.startswith("  METHOD=imp,omp_after,")
    assert "task.fold=0,1,2,3,4 run.seed=0 method.sparsity=0.2," in shown


def test_ten_thousand_stages_in_seconds():
    """A second of an idle processor; the bound is for a slow one."""
    seeds = ",".join(str(seed) for seed in range(160))
    began = time.process_time()
    made = make("method=imp,omp_after,gmp,rigl,snip,random_before", f"run.seed={seeds}")
    assert "160 dense shared by 20 each" in outline.text(made)
    assert len(outline.document(made)["stages"]) == 9760 == 160 * (1 + 6 * 10)
    assert time.process_time() - began < 60


def test_a_lost_summary_is_trained_again():
    """DONE without a summary is no result; nothing else may take DONE away."""
    made = make("method=dense", "run.seed=0,1")
    lost, kept = made.stages.values()
    mark(lost.folder)
    mark(kept.folder)
    paths.summary(lost.folder).unlink()
    again = make("method=dense", "run.seed=0,1")
    assert [s.state for s in again.stages.values()] == ["damaged", "done"]
    planner.write(again)
    assert not paths.done(lost.folder).exists() and paths.done(kept.folder).exists()


def test_a_method_edited_since_is_noticed():
    """Its version says whether results change; whoever develops it forgets to raise it."""
    made = make("method=snip", "run.seed=0", "method.sparsity=0.5")
    planner.write(made)
    for planned in made.stages.values():
        mark(planned.folder)
    assert "edited" not in outline.text(make("method=snip", "run.seed=0", "method.sparsity=0.5"))
    pruned = methods(made, "snip")[0]
    text = paths.config(pruned.folder).read_text()
    paths.config(pruned.folder).write_text(text.replace(pruned.config["source"]["method"], "0123456789ab"))
    note = "note: common/methods/: snip.py was edited since these were trained"
    assert note in outline.text(make("method=snip", "run.seed=0", "method.sparsity=0.5"))


@pytest.mark.parametrize("file", ["model.py", "files/addresses.py", "gone.py"])
def test_a_file_of_a_task_edited_since_is_noticed(file):
    """As one of a method: another activation in model.py is another experiment, whatever the plan counts as done."""
    asked = ["method=dense", "run.seed=0"]
    (planned,) = make(*asked).stages.values()
    mark(planned.folder)

    def shown(source: dict) -> str:
        paths.config(planned.folder).write_text(yaml.safe_dump(planned.config | {"source": source}))
        return outline.text(make(*asked))

    source = planned.config["source"]
    assert "edited" not in shown(source)
    note = f"note: tasks/classic/: {file} was edited since these were trained; if results change by it, raise version"
    assert f"{note} in tasks/classic/config.py" in shown(source | {"task": source["task"] | {file: "0123456789ab"}})
    del source["task"]
    assert "edited" not in shown(source), "of before the files of tasks were recorded"


def test_a_parent_whose_weights_were_removed_is_trained_again_where_it_is_needed():
    for found in make("method=imp", "run.seed=0,1", f"method.sparsity={LEVELS}").stages.values():
        planner.write(planner.Plan("classic", "default", {found.digest: found}, []))
        mark(found.folder)
    dense = methods(make("method=dense", "run.seed=0"), "dense")[0]
    paths.weights(dense.folder).unlink()
    assert make("method=imp", "run.seed=0,1", f"method.sparsity={LEVELS}").todo() == [], "nothing asked for needs them"
    made = make("method=omp_after", "run.seed=0,1", f"method.sparsity={LEVELS}")
    again = made.stages[dense.digest]
    assert again.state == "damaged" and "weights were removed" in again.why
    assert [s.seed for s in methods(made, "dense") if s.state != "done"] == [0]
    planner.write(made)
    assert not paths.done(dense.folder).exists(), "a stage with DONE would not be trained"


def test_status_and_report_survive_a_parent_that_is_to_be_trained_again():
    """Its status still says done, and its summary is there; only DONE is gone until it is trained."""
    from launch.runs import records

    made = make("method=omp_after", "run.seed=0", "method.sparsity=0.5")
    planner.write(made)
    dense = methods(made, "dense")[0]
    mark(dense.folder)
    record.write_json(paths.status(dense.folder), {"state": "done"})
    paths.done(dense.folder).unlink()
    found = records.read("classic")
    assert {r.digest: r.state for r in found}[dense.digest] == "interrupted"
    from launch.monitor import status
    from launch.report import tables

    assert status.text(status.status(found)) and tables.arrange("classic", found, found).text()


def test_settings_of_all_rows_are_told_once_and_a_row_has_its_own():
    asked = ["method=gmp,rigl", "run.seed=0", "method.sparsity=0.5", "run.steps=40"]
    shown = outline.text(make(*asked, "method.allocation=uniform,global")).splitlines()
    assert [line for line in shown if "run.steps" in line] == ["  all: run.steps=40"]
    rows = [line.split() for line in shown if line.split()[0] in ("dense", "gmp", "rigl")]
    assert sorted(row[0] for row in rows) == ["dense", "gmp", "gmp", "rigl"]
    assert [row[-1] for row in rows if "method.allocation" in row[-1]] == ["method.allocation=uniform"]
    assert not [line for line in outline.text(make("method=gmp", "run.seed=0")).splitlines() if "  all" in line]


def test_every_data_set_is_named_in_title_and_rows():
    asked = ["task=classic", "method=rigl", "run.seed=0", "method.sparsity=0.5", "run.steps=40"]
    shown = outline.text(make(*asked, "task.model=lenet-300-100,resnet-20")).splitlines()
    assert "lenet-300-100, resnet-20" in shown[0]
    assert sum("task.model=lenet-300-100" in line for line in shown) == 2 == sum("model=resnet-20" in x for x in shown)


def test_a_damaged_configuration_of_a_finished_stage_is_written_anew_and_trained_again(capsys):
    """Its checksum tells it from one that somebody changed on purpose, which is refused."""
    asked = ["method=dense", "run.seed=0", "run.steps=2"]
    assert main(["sweep", *asked]) == 0
    (folder,) = (paths.runs() / "classic").iterdir()
    before = paths.config(folder).read_text()
    paths.config(folder).write_text(before.replace("learning_rate: 0.0012", "learning_rate: 0.0013"))
    assert paths.config(folder).read_text() != before
    capsys.readouterr()
    assert main(["plan", *asked]) == 0
    assert "config.yaml is not what training wrote" in capsys.readouterr().out
    assert main(["sweep", *asked]) == 0
    assert paths.config(folder).read_text() == before and record.finished(folder)


def test_a_finished_stage_without_its_configuration_is_broken_everywhere_and_mended(capsys):
    """As one of before there were checksums: status and plan say the same, and nothing is trained for it."""
    asked = ["method=dense", "run.seed=0", "run.steps=2"]
    assert main(["sweep", *asked]) == 0
    (folder,) = (paths.runs() / "classic").iterdir()
    before, trained = paths.config(folder).read_text(), paths.weights(folder).stat().st_mtime_ns
    paths.done(folder).write_text(folder.name + "\n")
    paths.config(folder).unlink()
    capsys.readouterr()
    assert main(["status"]) == 0 and "no config.yaml" in capsys.readouterr().out
    assert main(["plan", *asked]) == 0 and "no config.yaml; it is written anew" in capsys.readouterr().out
    assert main(["sweep", *asked]) == 0
    assert paths.config(folder).read_text() == before and record.finished(folder)
    assert paths.weights(folder).stat().st_mtime_ns == trained
