"""What Slurm prints, and what is made of it: recorded from a real Slurm 22.05, and every way of not answering."""

import os
import subprocess
import sys
import time

import pytest

from launch.runs import jobs
from launch.slurm import queue
from launch.slurm.queue import ask
from tests.support.fake_slurm import Slurm, row

# sacct -n -P -D -a -o JobID,State,ExitCode,DerivedExitCode,NodeList,Elapsed,Timelimit,End,Reason,JobName
RECORDED = """\
55168474_[0]|CANCELLED by 0|0:0|0:0|None assigned|00:00:00|00:10:00|2026-11-20T09:39:26|JobHeldUser|held
55168476_0|FAILED|1:0|0:125|n1|00:00:00|00:10:00|2026-11-20T09:39:13|None|oom
55168476_0.batch|FAILED|1:0||n1|00:00:00||2026-11-20T09:39:13||batch
55168476_0.0|OUT_OF_MEMORY|0:125||n1|00:00:00||2026-11-20T09:39:13||python3
55168477_0|CANCELLED by 0|0:0|0:0|n1|00:00:17|00:10:00|2026-11-20T09:39:30|None|canc
55168477_0.batch|CANCELLED|0:15||n1|00:00:18||2026-11-20T09:39:31||batch
55168478_0|REQUEUED|0:0|0:0|n2|00:00:17|00:10:00|2026-11-20T09:39:30|None|requeued
55168478_0.batch|CANCELLED|0:15||n2|00:00:18||2026-11-20T09:39:31||batch
55168493_0|TIMEOUT|0:0|0:0|n4|00:01:21|00:01:00|2026-11-20T09:40:52|None|time
55168493_0.batch|CANCELLED|0:15||n4|00:01:22||2026-11-20T09:40:53||batch
55168495_0|PREEMPTED|0:0|0:0|n[1-4]|00:00:28|00:10:00|2026-11-20T09:44:04|None|preempted
55168495_0.batch|CANCELLED|0:15||n1|00:00:28||2026-11-20T09:44:04||batch
55168498_0|CANCELLED|0:0|0:0|None assigned|00:00:00|00:10:00|2026-11-20T09:42:15|Dependency|killdep
55168498_1|CANCELLED|0:0|0:0|None assigned|00:00:00|00:10:00|2026-11-20T09:42:15|Dependency|killdep
55168478_0|RUNNING|0:0|0:0|n4|00:02:43|00:10:00|Unknown|BeginTime|requeued
55168478_0.batch|RUNNING|0:0||n4|00:02:43||Unknown||batch
55168495_0|COMPLETED|0:0|0:0|n[1-4]|00:00:07|00:10:00|2026-11-20T09:44:19|BeginTime|preempted
""".splitlines()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    return Slurm(tmp_path / "bin", monkeypatch)


def one(job: str, name: str = "array-one") -> jobs.Job:
    return ask({job: name})[job]


def test_a_running_and_a_pending_element(slurm):
    slurm.squeue(
        row("12_0", "RUNNING", node="n[1-2]", restarts=2, used="1-02:03:04", limit="2-00:00:00"),
        row("12_1", "PENDING", "Resources"),
        row("12_2", "PENDING", "Nodes required for job are DOWN, DRAINED or reserved", limit="UNLIMITED"),
    )
    found = ask({f"12_{i}": "array-one" for i in range(3)})
    first = found["12_0"]
    assert (first.state, first.node, first.restarts, first.alive) == ("RUNNING", "n[1-2]", 2, True)
    assert first.seconds == 93784 and first.limit == 2 * 86400 and first.source == "squeue" and first.ended is None
    assert found["12_1"].reason == "Resources" and found["12_1"].alive is True
    assert found["12_2"].reason.startswith("Nodes required") and found["12_2"].limit is None
    assert len(slurm.calls) == 1  # the accounting is not asked about what the queue knows


@pytest.mark.parametrize("state", sorted(jobs.WAITING | jobs.ACTIVE))
def test_states_on_the_way_are_alive(slurm, state):
    slurm.squeue(row("12_0", state))
    assert one("12_0").alive is True


@pytest.mark.parametrize("state", sorted(jobs.ENDED))
def test_ended_is_not_alive(slurm, state):
    slurm.squeue(row("12_0", state, end="2026-11-20T09:39:30"))
    assert one("12_0").alive is False and one("12_0").ended


def test_a_word_nobody_knows_is_not_dead(slurm):
    slurm.squeue(row("12_0", "DANCING"))
    assert one("12_0").alive is None and one("12_0").state == "DANCING"


def test_a_dependency_that_cannot_be_met_any_more_is_not_alive(slurm):
    slurm.squeue(row("12_0", "PENDING", "DependencyNeverSatisfied"), row("12_1", "PENDING", "Dependency"))
    found = ask({"12_0": "", "12_1": ""})
    assert found["12_0"].alive is False and found["12_1"].alive is True


def test_an_array_that_is_not_expanded(slurm):
    slurm.squeue(row("12_[0,3-9:2%4]", "PENDING", "JobArrayTaskLimit"), row("12_1", "RUNNING"), row("13", "RUNNING"))
    found = ask({f"12_{i}": "array-one" for i in range(11)} | {"13": "array-one"})
    pending = {name for name, job in found.items() if job.state == "PENDING"}
    assert pending == {"12_0", "12_3", "12_5", "12_7", "12_9"}
    assert found["12_1"].state == found["13"].state == "RUNNING" and found["12_2"].state == "GONE"


def test_an_expression_that_was_cut_short_speaks_of_all_the_rest(slurm):
    slurm.squeue(row("12_[0,3-9,20...]", "PENDING", "Priority"), row("12_1", "RUNNING"))
    found = ask({f"12_{i}": "array-one" for i in (0, 1, 40)} | {"14_3": "array-one"})
    assert [job.state for job in found.values()] == ["PENDING", "RUNNING", "PENDING", "GONE"]


def test_an_answer_under_another_name_is_about_another_job(slurm):
    slurm.squeue(row("12_0", "RUNNING", name="4%1 of | somebody else"), row("12_[1-9]", "PENDING", name="another"))
    assert one("12_0").state == one("12_4").state == "GONE"
    slurm.sacct(
        "12_0|COMPLETED|0:0|0:0|n1|00:00:01|00:10:00|2020-01-01T00:00:00|None|array-one",
        "12_0|RUNNING|0:0|0:0|n1|00:00:01|00:10:00|Unknown|None|4%1 of | somebody else",
    )
    assert one("12_0").state == "COMPLETED" and one("12_0", "never used").state == "GONE"


def test_only_options_that_every_slurm_knows(slurm):
    """One option that the site's version lacks (squeue --only-job-state, sacct --clusters all) leaves no answer."""
    one("12_0")
    words = {word for call in slurm.calls for word in call.split()}
    assert {word for word in words if word[0] == "-"} == {f"-{letter}" for letter in "hrtOunPDaoj"}


def test_without_accounting_what_the_queue_forgot_is_gone(slurm):
    assert one("12_0") == jobs.Job("GONE")
    assert [call.split()[0] for call in slurm.calls] == ["squeue", "sacct"]


def test_an_accounting_that_does_not_work_is_named(slurm):
    slurm.sacct(error="sacct: error: Problem talking to the database: Connection refused", code=1)
    assert one("12_0").state == "GONE" and "Connection refused" in one("12_0").reason


def test_an_accounting_that_lacks_a_field_is_asked_for_the_others(slurm):
    unknown = """echo 'sacct: error: Invalid field requested: "Reason"' >&2; exit 1"""
    line = "12_0|OUT_OF_MEMORY|0:125|0:0|n1|00:00:01|00:10:00|2026-11-20T09:39:30|array-one"
    slurm.sacct(line, before=f'case "$*" in *Reason*) {unknown};; esac')
    assert (one("12_0").state, one("12_0").node, one("12_0").reason) == ("OUT_OF_MEMORY", "n1", "")


def test_what_the_accounting_knows(slurm):
    slurm.sacct(*RECORDED)
    names = ["held", "oom", "canc", "requeued", "time", "preempted", "killdep"]
    numbers = (55168474, 55168476, 55168477, 55168478, 55168493, 55168495, 55168498)
    found = {name: one(f"{number}_0", name) for name, number in zip(names, numbers)}
    assert {name: job.state for name, job in found.items()} == {
        "held": "CANCELLED",
        "oom": "OUT_OF_MEMORY",
        "canc": "CANCELLED",
        "requeued": "GONE",  # still running, says the accounting; the queue does not know it, so its end was lost
        "time": "TIMEOUT",
        "preempted": "COMPLETED",
        "killdep": "CANCELLED",
    }
    assert not any(job.alive for job in found.values())
    assert found["oom"].exit_code == "1:0" and found["oom"].node == "n1" and found["held"].node == ""
    assert found["preempted"].restarts == 1 and found["time"].restarts == 0
    assert found["time"].seconds == 81 and found["time"].limit == 60
    assert found["killdep"].reason == jobs.NEVER and found["canc"].reason == ""
    assert "RUNNING" in found["requeued"].reason
    assert time.localtime(found["time"].ended)[3:6] == (9, 40, 52)


def test_memory_is_seen_in_the_step_or_in_the_code_that_follows_from_it(slurm):
    lines = [line.replace("0:125|n1", "0:0|n1") for line in RECORDED if line.startswith("55168476")]
    slurm.sacct(*lines)
    assert one("55168476_0", "oom").state == "OUT_OF_MEMORY"
    slurm.sacct(RECORDED[1])
    assert one("55168476_0", "oom").state == "OUT_OF_MEMORY"
    slurm.sacct(RECORDED[1].replace("0:125", "0:9"))
    assert one("55168476_0", "oom").state == "FAILED"
    slurm.squeue(row("12_0", "FAILED", "NonZeroExitCode", "n1", 256, 253), row("12_1", "FAILED", code=768))
    found = ask({"12_0": "", "12_1": ""})
    assert found["12_0"].state == "OUT_OF_MEMORY" and found["12_0"].exit_code == "1:0"
    assert found["12_1"].state == "FAILED" and found["12_1"].exit_code == "3:0"


def test_signals_of_both_generations_of_squeue(slurm):
    slurm.squeue(row("12_0", "CANCELLED", code=15), row("12_1", "CANCELLED", code="0:15"))
    assert {job.exit_code for job in ask({"12_0": "", "12_1": ""}).values()} == {"0:15"}


def test_a_queue_that_fails_makes_everything_unknown(slurm):
    refused = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    slurm.squeue(row("12_0", "FAILED"), error=refused, code=1)
    job = one("12_0")
    assert job.state == "UNKNOWN" and job.alive is None and refused in job.reason
    assert not any(call.startswith("sacct") for call in slurm.calls)


def test_a_queue_that_hangs_or_is_missing(slurm, monkeypatch):
    monkeypatch.setattr(queue, "PATIENCE", 0.3)
    slurm.squeue(before="exec sleep 30")
    began = time.monotonic()
    assert one("12_0").state == "UNKNOWN" and time.monotonic() - began < 5
    monkeypatch.setenv("PATH", str(slurm.folder / "nowhere"))
    assert "not installed" in one("12_0").reason and one("12_0").state == "UNKNOWN"


def test_nothing_is_asked_about_nothing(slurm):
    assert ask({}) == {} and not slurm.calls


def test_a_user_without_a_name_is_asked_for_by_job(slurm):
    by_user = 'case "$*" in *"-u"*) echo "squeue: error: Invalid user: 98765" >&2; exit 0;; esac'
    slurm.squeue(row("12_0", "RUNNING"), before=by_user)
    assert one("12_0").state == "RUNNING"
    assert slurm.calls[-1].endswith("-j 12,12")  # alone, an id that the queue forgot is an error
    slurm.squeue(error="slurm_load_jobs error: Invalid job id specified", code=1, before=by_user)
    assert one("12_0").state == "GONE"
    slurm.squeue(error="Unable to contact slurm controller", code=1, before=by_user)
    assert one("12_0").state == "UNKNOWN"


def test_whose_jobs_are_asked_for(slurm):
    ask({"12_0": ""}, [4242])
    assert slurm.calls[0].endswith(f"-u {','.join(map(str, sorted({os.getuid(), 4242})))}")


def test_the_callers_own_formats_do_not_reach_slurm(slurm, monkeypatch):
    for name in ("SQUEUE_FORMAT", "SQUEUE_USERS", "SACCT_FORMAT", "SLURM_TIME_FORMAT"):
        monkeypatch.setenv(name, "x")
    slurm.squeue(before='env | grep "^SQUEUE_\\|^SACCT_\\|^SLURM_TIME" >>$here/calls')
    one("12_0")
    assert not any("=x" in call for call in slurm.calls)


def test_many_arrays_are_asked_for_in_pieces(slurm):
    ask({f"{job}_{i}": "" for job in range(1000, 1450) for i in range(3)})
    asked = [call.split("-j ")[1].split(",") for call in slurm.calls if call.startswith("sacct")]
    assert len(asked) == 1  # accounting is off: one answer of that kind is enough
    slurm.sacct()
    ask({f"{job}_{i}": "" for job in range(1000, 1450) for i in range(3)})
    asked = [call.split("-j ")[1].split(",") for call in slurm.calls if call.startswith("sacct")][1:]
    assert [len(ids) for ids in asked] == [200, 200, 50]
    assert sorted(int(i) for ids in asked for i in ids) == list(range(1000, 1450))


def test_remembered_answers_are_asked_for_again_after_a_while(monkeypatch):
    calls, clock = [], [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def asks(wanted, users=()):
        calls.append(dict(wanted))
        return {name: jobs.Job("PENDING", str(len(calls))) for name in wanted}

    kept = queue.remembering(0.2, asks)
    assert kept({"1": "", "2": ""})["1"].reason == kept({"1": ""}, [3])["1"].reason == "1"
    assert kept({"3": ""})["3"].reason == "2"  # a new one
    clock[0] += 0.25
    assert kept({"3": ""})["3"].reason == "3" and len(calls) == 3


def test_neither_torch_nor_submitit_is_needed():
    code = "import sys; from launch.monitor import status, why, tail, cancel, clean; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "launch.slurm.queue" in out and not {"torch", "submitit", "mlflow", "numpy"} & set(out)
