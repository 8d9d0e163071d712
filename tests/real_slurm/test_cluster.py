"""The Slurm that tests run on, and what brings it there: it works, it can be broken on purpose, nothing of it stays."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.slurm import files as slurm_files
from tests.support.slurm.cluster import Cluster, ClusterError
from tests.support.slurm.files import CGROUPS
from tests.support.slurm.processes import processes

STUBBORN = "trap '' TERM; setsid sleep {0} & sleep {0} & while :; do sleep 1; done"  # leaves only when killed
OWNER = """
import json, time
from tests.support.slurm.cluster import Cluster
cluster = Cluster(nodes=2).start()
job = cluster.submit("trap '' TERM; setsid sleep 7331 & sleep 7331")
cluster.until_state(job, "RUNNING")
cluster.until(lambda: len(sleepers(7331)) == 2, "its processes")
print(json.dumps([str(cluster.root), cluster.nodes]), flush=True)
time.sleep(600)
""".replace("cluster.until(lambda", "from tests.real_slurm.test_cluster import sleepers\ncluster.until(lambda")


def sleepers(seconds: int) -> list[int]:
    """Processes of the job that sleeps for this odd time."""
    return [process.pid for process in processes().values() if process.words == ["sleep", str(seconds)]]


def until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def of(root: str) -> list[list[str]]:
    return [process.words for process in processes().values() if root in " ".join(process.words)]


def test_a_job_runs_to_its_end_and_sees_its_gpu(slurm, tmp_path):
    script = 'echo "$CUDA_VISIBLE_DEVICES $SLURMD_NODENAME $SLURM_CLUSTER_NAME"; srun --ntasks=2 sh -c "exit 0"; exit 3'
    job = slurm.submit(script, f"--output={tmp_path}/out", "--gres=gpu:1", "--ntasks=2", "--job-name=first")
    assert slurm.until_state(job, "COMPLETED", "FAILED") == "FAILED"
    assert (tmp_path / "out").read_text() == f"0 {slurm.nodes[0]} {slurm.name}\n"
    shown = slurm.show(job)
    assert (shown["ExitCode"], shown["Restarts"], shown["BatchHost"]) == ("3:0", "0", slurm.nodes[0])
    (end,) = [entry for entry in slurm.completed() if entry["JobId"] == job]
    assert (end["JobState"], end["Name"], end["ExitCode"]) == ("FAILED", "first", "3:0")
    done = slurm.run("sacct", check=False)
    assert done.returncode == 1 and "accounting storage is disabled" in done.stderr


def test_sixteen_elements_run_at_once_whatever_the_machine_has(slurm, tmp_path):
    array = slurm.submit(f"touch {tmp_path}/$SLURM_ARRAY_TASK_ID; sleep 7330", "--array=0-17%16")
    wanted = [f"{array}_{index}" for index in range(18)]
    slurm.until(lambda: len(list(tmp_path.glob("[0-9]*"))) == 16, "16 elements")
    listed = {job.id: job for job in slurm.jobs() if job.id.startswith(array)}
    assert sorted(listed) == sorted(wanted)
    assert [listed[id].state for id in wanted] == ["RUNNING"] * 16 + ["PENDING"] * 2
    assert listed[wanted[-1]].reason == "JobArrayTaskLimit"
    slurm.clear()
    assert not sleepers(7330)
    assert not slurm.run("squeue", "-h").stdout


def test_a_lost_node_takes_everything_on_it_and_comes_back(slurm):
    lost, other = (
        slurm.submit(STUBBORN.format(length), f"--nodelist={node}") for length, node in zip((7332, 7333), slurm.nodes)
    )
    slurm.until(lambda: len(sleepers(7332)) == len(sleepers(7333)) == 2, "both jobs")
    before = sleepers(7333)
    slurm.kill_node(1, noticed=True)
    assert not sleepers(7332) and sleepers(7333) == before
    slurm.restart_node(1)
    slurm.until(lambda: slurm.show(lost)["Restarts"] == "1", "the requeue")
    slurm.until(lambda: len(sleepers(7332)) == 2, "the job's second start")
    assert slurm.state(other) == "RUNNING" and sleepers(7333) == before


def test_a_node_can_lose_its_daemon_alone(slurm):
    job = slurm.submit("sleep 7334", f"--nodelist={slurm.nodes[1]}")
    slurm.until(lambda: sleepers(7334), "the job")
    slurm.kill_daemon(slurm.nodes[1])
    slurm.restart_node(2)
    assert slurm.state(job) == "RUNNING" and sleepers(7334)
    slurm.kill_node(2)  # what an earlier slurmd of the node started belongs to it as well
    assert not sleepers(7334)
    slurm.clear()  # brings the node back by itself
    assert slurm.run("sinfo", "-h", "-p", "main", "-o", "%T %D").stdout.split() == ["idle", "4"]


def test_the_controller_can_be_away(slurm):
    job = slurm.submit("sleep 7335")
    slurm.until_state(job, "RUNNING")
    with slurm.controller_down():
        assert "DOWN" in slurm.run("scontrol", "ping", check=False).stdout
        assert sleepers(7335)
    assert slurm.state(job) == "RUNNING"


def test_accounting_answers_and_limits_bind(slurm_accounting):
    slurm = slurm_accounting
    job = slurm.submit("true")
    slurm.until_state(job, "COMPLETED")
    ask = ("sacct", "-X", "-n", "-P", "-j", job, "-o", "jobid,state,account")
    slurm.until(lambda: slurm.run(*ask).stdout.strip() == f"{job}|COMPLETED|tests", "sacct")
    with slurm.limits(MaxSubmitJobs=2):
        slurm.submit("true", "--array=0-1")
        with pytest.raises(ClusterError, match="AssocMaxSubmitJobLimit"):
            slurm.submit("true", "--array=0-2")
    slurm.submit("true", "--array=0-2")
    for option, message in (("--account=nobody", "Invalid account"), ("--qos=nothing", "Invalid qos")):
        with pytest.raises(ClusterError, match=message):
            slurm.submit("true", option)


def test_two_clusters_do_not_meet(slurm, slurm_with):
    second = slurm_with(nodes=1, min_job_age=2, max_array_size=5, first_job_id=77)
    assert os.environ["SLURM_CONF"] == second.environment()["SLURM_CONF"]
    first = slurm.submit("sleep 7337")
    job = second.submit("true")
    assert job == "77" and slurm.state(job) == ""
    assert second.until_state(job, "COMPLETED") and slurm.until_state(first, "RUNNING")
    second.until(lambda: not second.jobs(), "the end of what squeue knows of it", 60)
    with pytest.raises(ClusterError, match="Invalid job array specification"):
        second.submit("true", "--array=0-5")
    second.stop()
    assert slurm.state(first) == "RUNNING" and sleepers(7337)


def test_stop_leaves_nothing(slurm_with):
    cluster = slurm_with(nodes=2)
    job = cluster.submit(STUBBORN.format(7338))
    cluster.until(lambda: len(sleepers(7338)) == 2, "the job")
    assert cluster.state(job) == "RUNNING"
    root, members = cluster.root, cluster.members()
    names = {processes()[pid].name for pid in members}
    assert {"munged", "slurmctld", "slurmd", "slurmstepd", "sleep"} <= names
    cluster.stop()
    assert not members & set(processes()) and not of(str(root)) and not sleepers(7338)
    assert not root.exists()
    assert not [folder for node in cluster.nodes for folder in CGROUPS.glob(f"*/slurm_{node}*")]
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", cluster.port))
    cluster.stop()  # once more does no harm


def test_stop_needs_no_keeper(slurm_with):
    cluster = slurm_with(nodes=1)
    cluster.submit(STUBBORN.format(7339))
    cluster.until(lambda: len(sleepers(7339)) == 2, "the job")
    cluster.keeper.kill()
    cluster.keeper.wait()
    assert sleepers(7339)
    cluster.stop()
    assert not of(str(cluster.root)) and not sleepers(7339)


def test_a_killed_owner_takes_its_cluster_along(slurm_session):
    """As a test session that is killed; the session's own cluster stands through it."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with owner:
        root, nodes = json.loads(owner.stdout.readline())
        assert of(root) and len(sleepers(7331)) == 2
        owner.kill()
    until(lambda: not of(root) and not sleepers(7331) and not Path(root).exists())
    assert not [folder for node in nodes for folder in CGROUPS.glob(f"*/slurm_{node}*")]
    assert "UP" in slurm_session.run("scontrol", "ping").stdout


def test_a_broken_configuration_is_shown_at_once_and_leaves_nothing(slurm_session):
    cluster = Cluster(nodes=1, extra=("NoSuchSetting=1",))
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"(?s)slurmctld ended.*NoSuchSetting"):
        cluster.start()
    assert time.monotonic() - began < 20
    assert not cluster.root.exists() and not of(str(cluster.root))


def test_a_taken_port_is_reported(slurm_session):
    cluster = Cluster(port=slurm_session.port, nodes=1)
    with pytest.raises(ClusterError, match="ddress already in use"):
        cluster.start()
    assert "UP" in slurm_session.run("scontrol", "ping").stdout


def test_the_command_starts_one_that_stays_until_it_is_stopped(slurm_session):
    root = Path("/tmp") / f"slurm-command-{os.getpid()}"

    def command(*words: str) -> subprocess.CompletedProcess:
        words = (sys.executable, "-m", "tests.support.slurm.cluster", *words, "--root", str(root))
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)

    try:
        assert command("stop").stderr == f"error: {root} holds no cluster\n"
        started = command("start", "--nodes", "2")
        assert started.stdout == f"export SLURM_CONF={root}/etc/slurm.conf\n", started
        assert "holds a cluster that runs" in command("start").stderr
        assert of(str(root)), "it stays when the command is over"
        shown = command("status").stdout
        assert "slurmctld" in shown and "idle" in shown
        assert command("stop").returncode == 0
        assert not of(str(root))
    finally:
        command("stop")
        shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize("required", [False, True])
def test_without_a_slurm_tests_are_skipped_aloud_unless_it_is_required(required, tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/real_slurm/test_cluster.py"]
    command += ["-k", "test_accounting", f"--basetemp={tmp_path}/inner"]
    variables = {**os.environ, "PATH": "/nowhere"}
    variables.pop("REQUIRE_SLURM", None)
    if required:
        variables["REQUIRE_SLURM"] = "1"
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    said = "a real Slurm is needed: apt-get install slurmctld slurmd slurm-client munge slurmdbd mariadb-server"
    assert said in done.stdout and ("1 error" if required else "1 skipped") in done.stdout, done
    assert done.returncode == (1 if required else 0)


def test_tests_of_slurm_can_be_left_out():
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", "-m", "not slurm"]
    done = subprocess.run([*command, "tests/real_slurm/test_cluster.py"], cwd=ROOT, capture_output=True, text=True)
    assert "test_tests_of_slurm_can_be_left_out" in done.stdout
    assert "test_a_job_runs" not in done.stdout and "test_stop_leaves_nothing" not in done.stdout


# --- .ci/run, with stand-ins for what it calls

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd")
APT = """#!/bin/bash
echo "$DEBIAN_FRONTEND $*" >>"$LOG"
case "$*" in *" update") [ "$FAILS" != always ]; exit;; esac
[ "$FAILS" != always ] || { echo "no such package"; exit 100; }
[ "$FAILS" != "before update" ] || grep -q "update$" "$LOG" || exit 100
for name in NAMES; do printf '#!/bin/sh\\n' >"${0%/*}/$name"; chmod +x "${0%/*}/$name"; done
"""
STANDINS = {
    "make": '#!/bin/sh\necho "make $1 ${REQUIRE_SLURM-none}"\n',
    "sudo": '#!/bin/sh\nshift\nexec "$@"\n',
    "env": '#!/bin/bash\nwhile [[ $1 == *=* ]]; do export "$1"; shift; done\nexec "$@"\n',
    **{name: f'#!/bin/sh\nexec {shutil.which(name)} "$@"\n' for name in ("true", "grep", "chmod", "tail")},
    "apt-get": APT.replace("NAMES", " ".join(PROGRAMS)),
}


def ci(folder: Path, present: bool = False, fails: str = "", apt: bool = True, **variables: str):
    """``.ci/run`` in a folder of its own where PATH holds stand-ins only: (what it did, the calls of apt-get)."""
    (folder / ".ci").mkdir()
    (folder / "bin").mkdir()
    # What the machine has in /usr/sbin must not count.
    text = (ROOT / ".ci" / "run").read_text()
    assert text.count(":/usr/sbin:/sbin:/usr/local/sbin") == 1
    (folder / ".ci" / "run").write_text(text.replace(":/usr/sbin:/sbin:/usr/local/sbin", ""))
    standins = STANDINS if apt else {name: text for name, text in STANDINS.items() if name != "apt-get"}
    for name, script in {**standins, **dict.fromkeys(PROGRAMS if present else (), "#!/bin/sh\n")}.items():
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(stat.S_IRWXU)
    log = folder / "log"
    environment = {"PATH": str(folder / "bin"), "LOG": str(log), "FAILS": fails, **variables}
    done = subprocess.run(["/bin/bash", ".ci/run"], cwd=folder, env=environment, capture_output=True, text=True)
    return done, log.read_text().splitlines() if log.exists() else []


def test_ci_takes_the_slurm_that_is_there(tmp_path):
    done, calls = ci(tmp_path, present=True)
    assert done.stdout == "make lint 1\nmake test 1\n" and not done.stderr and not calls


@pytest.mark.parametrize(("fails", "calls"), [("", 1), ("before update", 3)])
def test_ci_installs_it_and_updates_the_lists_only_if_needed(tmp_path, fails, calls):
    done, called = ci(tmp_path, fails=fails)
    assert done.stdout.endswith("make lint 1\nmake test 1\n") and not done.returncode, done
    assert len(called) == calls and all(line.startswith("noninteractive ") for line in called)
    assert called[-1].endswith("slurmctld slurmd slurm-client munge slurmdbd mariadb-server")


@pytest.mark.parametrize("apt", [True, False])
def test_ci_goes_on_without_it_and_says_so(tmp_path, apt):
    done, _ = ci(tmp_path, fails="always", apt=apt, REQUIRE_SLURM="1")
    assert done.stdout.endswith("make lint none\nmake test none\n") and not done.returncode, done
    assert "NO SLURM" in done.stderr and ("no such package" if apt else "no apt-get") in done.stderr


def test_the_packages_are_named_alike():
    named = f"{slurm_files.PACKAGES} {slurm_files.ACCOUNTING_PACKAGES}"
    assert f"packages=({named})" in (ROOT / ".ci" / "run").read_text()


def test_signals_reach_a_daemon(slurm_with):
    cluster = slurm_with(nodes=1)
    cluster.kill_daemon("slurmctld", signal.SIGTERM)
    with pytest.raises(ClusterError, match="slurmctld does not run"):
        cluster.kill_daemon("slurmctld")
    cluster.clear()
    assert "UP" in cluster.run("scontrol", "ping").stdout
