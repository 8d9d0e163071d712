"""A cluster is one YAML: what wins over what, what reaches sbatch, and every mistake said before anything is queued."""

import subprocess
from pathlib import Path

import pytest

from common.errors import UserError
from launch.request.arguments import parse
from launch.slurm import cluster
from launch.slurm.cluster import Cluster, layout, minutes, parameters


def written(folder: Path, text: str) -> str:
    # a file is read once in the life of a process, so each has its own name
    path = folder / f"{len(list(folder.iterdir()))}-site.yaml"
    path.write_text(text)
    return str(path)


class NoNeeds:
    """Stands for the settings of a task that needs nothing in particular."""

    needs = ()


def read(folder: Path, text: str, *words: str) -> Cluster:
    return cluster.read(parse([f"cluster={written(folder, text)}", *words]), NoNeeds)


def script(cluster: Cluster, **changes) -> str:
    """The batch script that submitit makes of it."""
    from submitit.slurm.slurm import _make_sbatch_string

    values = dict(name="x-1", code=Path("/code"), processes=1, dependency="") | changes
    return _make_sbatch_string("python", folder="/logs", map_count=3, **parameters(cluster, **values))


@pytest.mark.parametrize(
    "text, expected",
    [("90", 90), ("90:30", 91), ("4:00:00", 240), ("0:00:30", 1), ("2-0", 2880), ("1-12:30", 2190), ("1-0:0:1", 1441)],
)
def test_times_are_slurms(text, expected):
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "4h", "1:2:3:4", "-5"])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="HH:MM:SS"):
        minutes(text)


def test_yaml_does_not_turn_a_time_into_a_number(tmp_path):
    assert read(tmp_path, "time: 4:00:00").minutes == 240
    assert read(tmp_path, "time: 12:30").minutes == 13
    assert read(tmp_path, "time: 90").minutes == 90


def test_every_field_reaches_sbatch(tmp_path):
    cluster = read(
        tmp_path,
        "partition: gpu\naccount: me\nqos: high\nconstraint: a100|h100\ntime: 1-0:00:00\nmemory: 16G\ncpus: 4\n"
        "gpus: 2\narray_parallelism: 2\nsignal_seconds: 33\nsetup: [module load cuda]\n"
        "extra: {mail-type: FAIL, exclusive: true}",
    )
    lines = script(cluster, dependency="afterok:1_2").splitlines()
    expected = "array=0-2%2 partition=gpu account=me qos=high constraint='a100|h100' time=1440 mem=16G nodes=1"
    expected += " cpus-per-task=4 gpus-per-node=2 ntasks-per-node=1 signal=USR2@33 mail-type=FAIL chdir=/code"
    expected += " dependency=afterok:1_2 kill-on-invalid-dep=yes job-name=x-1 open-mode=append"
    for option in expected.split():
        assert f"#SBATCH --{option}" in lines
    assert {"#SBATCH --requeue", "#SBATCH --exclusive", "{ module load cuda"} <= set(lines)
    assert lines.index("{ module load cuda") < next(i for i, line in enumerate(lines) if line.startswith("srun"))
    assert "--kill-on-bad-exit=1" in next(line for line in lines if line.startswith("srun"))
    assert not any("wckey" in line for line in lines)


@pytest.mark.parametrize(
    "line, code",
    [("true", 0), ("false", 4), ("export A=1\ntest $A = 1", 0), ("nonsense-command", 4), ("false || true", 0)],
)
def test_a_setup_line_that_fails_ends_the_job(tmp_path, line, code):
    """What it was to provide is missing: training on would be on the wrong device, or with the wrong library."""
    cluster = Cluster(setup=[line])
    (tmp_path / "COMPLETE").touch()
    setup = parameters(cluster, "x", tmp_path, 1, "")["setup"]
    script = "\n".join([*setup, "echo reached ${A:-} $SLURM_EXPORT_ENV"])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == code
    assert ("reached" in done.stdout) == (code == 0)
    if code:
        assert "setup failed" in done.stderr and line in done.stderr


AS_WRITTEN = """
account: 0755
qos: no
constraint: 1_0
partition: 2026-01-01
gres: 1:30
python: 3.10
memory: 016
setup: ["umask 022", 010, "export DATA=${HOME}/${oc.env:X} $((1+1))", yes]
extra: {reservation: 007, begin: 2026-01-01T16:00, comment: 1e3, nice: 0x10, licenses: off, wait-all-nodes: 1_0}
"""


def test_a_text_is_the_text_that_is_written(tmp_path):
    """Read as YAML's numbers, another account would be charged."""
    found = read(tmp_path, AS_WRITTEN)
    texts = (found.account, found.qos, found.constraint, found.partition, found.gres, found.python, found.memory)
    assert texts == ("0755", "no", "1_0", "2026-01-01", "1:30", "3.10", "016")
    assert found.setup == ["umask 022", "010", "export DATA=${HOME}/${oc.env:X} $((1+1))", "yes"]
    lines = script(found).splitlines()
    extra = "reservation=007 begin=2026-01-01T16:00 comment=1e3 nice=0x10 licenses=off wait-all-nodes=1_0"
    for option in f"account=0755 qos=no constraint=1_0 partition=2026-01-01 gres=1:30 mem=016 {extra}".split():
        assert f"#SBATCH --{option}" in lines, option
    assert any(found.setup[2] in line for line in lines)


def test_so_it_is_on_the_command_line_and_in_needs(tmp_path):
    words = ["cluster.account=0755", "cluster.qos=no", "cluster.partition=${HOME}", "cluster.setup=[umask 022]"]
    words += ["cluster.extra={reservation:007,begin:2026-01-01T16:00,exclusive:true,mail-type:false}"]
    found = read(tmp_path, "account: 1\nextra: {mail-type: FAIL, nice: 5}\nneeds: {classic: {gres: 0x1}}", *words)
    assert (found.account, found.qos, found.partition, found.gres) == ("0755", "no", "${HOME}", "0x1")
    assert found.setup == ["umask 022"]
    assert found.extra == {"nice": "5", "reservation": "007", "begin": "2026-01-01T16:00", "exclusive": "true"}
    assert "#SBATCH --exclusive" in script(found).splitlines()


def test_everything_wrong_with_a_cluster_is_said_at_once(tmp_path):
    with pytest.raises(UserError) as raised:
        read(tmp_path, "cpus: many\ngpus: 1.5\npartion: a\nmemory: lots", "cluster.nodes=x", "cluster.tiem=1")
    for part in ("cluster.cpus: ", "cluster.gpus: ", "'partition'", "memory must", "cluster.nodes: ", "'time'"):
        assert part in str(raised.value)


def test_a_key_that_is_given_twice_is_an_error(tmp_path):
    with pytest.raises(UserError, match="account is given twice"):
        read(tmp_path, "account: 0755\nqos: a\naccount: 0111")


def test_false_leaves_an_option_out(tmp_path):
    assert read(tmp_path, "extra: {exclusive: false, mail-type: FAIL}").extra == {"mail-type": "FAIL"}


def test_defaults_name_nothing_a_site_might_not_have(tmp_path):
    text = script(read(tmp_path, "memory: 1G"))
    assert not any(f"--{option}" in text for option in ("partition", "account", "qos", "gres", "gpus", "constraint"))


def test_later_layers_win(tmp_path):
    text = "time: 10\nmemory: 1G\nneeds: {classic: {memory: 2G}}"
    assert read(tmp_path, text).memory == "2G"
    assert read(tmp_path, text, "cluster.memory=3G").memory == "3G"
    assert read(tmp_path, text, "cluster.time=0:20:00").minutes == 20


def test_a_task_and_its_preset_say_what_they_need(tmp_path):
    request = parse([f"cluster={written(tmp_path, 'cpus: 2')}"])

    class Composer:
        needs = (("task", {"time": "30", "gpus": "1"}), ("preset", {"time": "60"}))

    found = cluster.read(request, Composer)
    assert (found.minutes, found.gpus, found.cpus) == (60, 1, 2)
    file = written(tmp_path, "time: 20")
    assert cluster.read(parse([f"cluster={file}"]), Composer).minutes == 20, "who writes it into the file means it"
    Composer.needs = (("tasks/x/config.yaml: needs", {"tiem": 3}),)
    with pytest.raises(UserError, match=r"tasks/x/config.yaml: needs: unknown need 'tiem'.*time"):
        cluster.read(request, Composer)


@pytest.mark.parametrize(
    "text, message",
    [
        ("partion: gpu", "partition"),
        ("time: soon", "HH:MM:SS"),
        ("cpus: many", "cpus"),
        ("cpus: 0", "cpus must be at least 1"),
        ("time: 1", "leaves nothing before signal_seconds=90"),
        ("memory: lots", "memory must be an amount"),
        ("gpus: 1\ngres: gpu:1", "give one of them"),
        ("extra: {array: 0-3}", "extra.array is set by the launcher"),
        ("extra: {partition: x}", "there is a field partition"),
        ("extra: {clusters: other}", "extra.clusters: jobs are looked for on this cluster alone"),
        ("extra: {cpus-per-task: 3}", "there is a field cpus"),
        ("extra: [a]", "cluster.extra: expected a mapping"),
        ("setup: module load cuda", "setup"),
        ('partition: "gpu\\n#SBATCH --account=other"', "partition must be one line of plain characters"),
        ("account: |\n  me\n", "account must be one line"),
        ('extra: {comment: "a\\nb"}', "extra.comment must be one line"),
        ('extra: {"a b": c}', "no long name of an sbatch option"),
        ("extra: {comment: }", "extra.comment has no value"),
        ("account: [a]", "expected one value, found ['a']"),
        ("needs: {classic: {tiem: 3}}", "unknown need 'tiem'"),
        ("needs: {clasic: {time: 3}}", "classic"),
        ("- a", "keys and values"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_mistake_in_the_file_is_one_clear_message(tmp_path, text, message):
    with pytest.raises(UserError) as raised:
        read(tmp_path, text)
    assert message in str(raised.value) and "site.yaml" in str(raised.value)
    assert len(str(raised.value).splitlines()) <= 6


@pytest.mark.parametrize(
    "word, message",
    [("cluster.tiem=3", "time"), ("cluster.cpus=many", "whole number"), ("cluster.time=1,2", "takes one value")],
)
def test_a_mistake_on_the_command_line(tmp_path, word, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, "time: 10", word)


def test_unknown_clusters_are_named_with_those_there_are():
    with pytest.raises(UserError, match=r"did you mean 'example'.*example, local.*docs/cluster.md"):
        cluster.file_of("exampel")
    with pytest.raises(UserError, match="there is no such file"):
        cluster.file_of("/nowhere/site.yaml")


def test_the_example_is_valid():
    assert cluster.read(parse(["cluster=example"])).partition == "gpu"


def test_processes_are_spread_over_nodes():
    assert layout(Cluster(nodes=1), 1) == (1, 1)
    assert layout(Cluster(nodes=2), 8) == (2, 4)
    assert layout(Cluster(nodes=4), 2) == (2, 1)
    with pytest.raises(UserError, match="spread evenly over 2 nodes"):
        layout(Cluster(nodes=2), 3)
    assert "#SBATCH --ntasks-per-node=4" in script(Cluster(nodes=2), processes=8)
