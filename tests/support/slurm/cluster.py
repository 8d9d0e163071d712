"""A real Slurm to test with: controller and several nodes on this machine, without systemd, as root or not.

Everything stands below one short folder, with ports, a munge socket and names of its own, so clusters live side by side
with each other and with what the machine runs already. A **keeper** process is the parent of every daemon and, as a
subreaper, of everything the jobs leave behind: ``stop`` ends the whole tree, and a keeper whose owner is gone (however
it died) does the same by itself.

    python -m tests.support.slurm.cluster start|stop|status [--accounting] [--root DIR] [--port N] [--nodes N]
"""

import argparse
import contextlib
import getpass
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.slurm import keeper as slurm_keeper
from tests.support.slurm.files import CGROUPS, CREATE, daemons, files, missing, program, sql
from tests.support.slurm.processes import Process, below, end, processes, send

DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "slurmstepd")
# Variables that steer Slurm's commands, as a session inside another cluster's job has them.
FOREIGN = ("SLURM", "SBATCH_", "SALLOC_", "SRUN_", "SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_", "SUBMITIT_")


class ClusterError(RuntimeError):
    """The cluster is not as it should be; the message ends with what its daemons logged last."""


@dataclass(frozen=True)
class Job:
    """One line of squeue; an array element has a line and an ``id`` (``12_3``) of its own."""

    id: str
    state: str
    node: str
    partition: str
    name: str
    reason: str


def free(count: int) -> int:
    """The first of ``count`` free ports in a row, below those that the system hands out by itself."""
    for _ in range(100):
        first = random.SystemRandom().randrange(20000, 30000)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("", port))
            return first
    raise ClusterError(f"no {count} free ports in a row were found")


class Cluster:
    """One Slurm, started by ``start`` or ``with``. Its nodes are ``nodes``; methods take a number (from 1) or a name.

    ``root``: its folder (default: a new one, removed by ``stop``); ``port``: the first of its ports (default: free
    ones); ``nodes``, ``cpus``, ``memory`` (MiB) and ``gpus``: what is claimed, whatever the machine has;
    ``enforce``: AccountingStorageEnforce; ``min_job_age``: seconds for which squeue knows an ended job;
    ``first_job_id``: default from the clock, as ids that repeat are a trap of their own; ``extra``: lines for
    slurm.conf.
    """

    def __init__(
        self,
        root: Path | str | None = None,
        port: int | None = None,
        nodes: int = 4,
        cpus: int = 4,
        memory: int = 32000,
        gpus: int = 2,
        accounting: bool = False,
        enforce: str = "associations,limits,qos",
        min_job_age: int = 300,
        max_array_size: int = 1001,
        first_job_id: int | None = None,
        extra: tuple[str, ...] = (),
    ):
        self.settings = dict(locals())
        del self.settings["self"]
        self.accounting, self.count, self.temporary = accounting, nodes, root is None
        self.root = None if root is None else Path(root).resolve()
        self.port = port
        self.keeper: subprocess.Popen | None = None

    @classmethod
    def open(cls, root: Path | str) -> "Cluster":
        """The cluster that another process started below ``root``; it can be asked and stopped."""
        values = json.loads((Path(root) / "cluster.json").read_text())
        cluster = cls(**values["settings"])
        cluster.root, cluster.port, cluster.temporary = Path(root).resolve(), values["port"], values["temporary"]
        return cluster

    def __enter__(self) -> "Cluster":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def name(self) -> str:
        return f"t{self.port}"

    @property
    def nodes(self) -> list[str]:
        # Not n1, n2, ...: Slurm names control groups after the node, and those are shared by the whole machine.
        return [f"{self.name}n{number}" for number in range(1, self.count + 1)]

    # --- starting and stopping

    def start(self, detached: bool = False) -> "Cluster":
        """Returns when every node is idle. ``detached``: it outlives this process, until ``stop``."""
        if lacking := missing(self.accounting):
            raise ClusterError(f"not installed: {', '.join(lacking)}")
        if self.members():
            raise ClusterError(f"{self.root} holds a cluster that runs")
        for last in (False, False, True):
            try:
                self._start(detached)
                return self
            except ClusterError as error:
                self.stop()
                # Somebody else may have taken a port since it was found free.
                if last or self.settings["port"] or "ddress already in use" not in str(error):
                    raise
            except BaseException:
                self.stop()
                raise
        raise AssertionError

    def _start(self, detached: bool) -> None:
        self.port = self.settings["port"] or free(self.count + 2)
        self._write()
        owner = 0 if detached else os.getpid()
        with (self.root / "log" / "keeper.log").open("ab") as log:
            self.keeper = subprocess.Popen(
                [*slurm_keeper.COMMAND, "keep", str(self.root), str(owner)], cwd=self.root, start_new_session=True,
                stdin=subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip
        self.start_daemon("munged")
        if self.accounting:
            self._start_accounting()
        self.start_daemon("slurmctld")
        self._start_nodes(self.nodes)
        self._until_ready()

    def _start_nodes(self, nodes: list[str]) -> None:
        for node, answers in [(node, self._spawn(node)) for node in nodes]:
            self.until(answers, f"an answer of {node}")

    def _start_accounting(self) -> None:
        # a folder of its own for passing tables: one that starts removes those of all others there
        install = [program("mariadb-install-db"), "--no-defaults", f"--datadir={self.root}/database"]
        install += [f"--tmpdir={self.root}/run"]
        install += [f"--user={getpass.getuser()}", "--auth-root-authentication-method=normal", "--skip-test-db"]
        self._call(*install, "--skip-name-resolve", "--force", "--innodb-flush-log-at-trx-commit=0")
        self.start_daemon("mariadbd")
        self._call(*sql(self.root, CREATE))
        self.start_daemon("slurmdbd")
        user = getpass.getuser()
        self.run("sacctmgr", "-i", "add", "cluster", self.name)
        self.run("sacctmgr", "-i", "add", "account", "tests", f"cluster={self.name}")
        self.run("sacctmgr", "-i", "add", "user", user, "account=tests", f"cluster={self.name}")
        self.run("sacctmgr", "-i", "modify", "user", user, "set", "defaultaccount=tests")

    def stop(self) -> None:
        """End every process of the cluster and of its jobs; raises ClusterError if one is left."""
        limit = time.monotonic() + 20
        while left := self.members() - {os.getpid()}:
            if time.monotonic() > limit:
                raise ClusterError(f"not to be stopped: {[processes().get(pid) for pid in left]}\n{self.logs()}")
            self._thaw()
            end(left - {self._keeper()})
            if left == {self._keeper()}:
                send(left, signal.SIGKILL)
        if self.keeper:
            self.keeper.stdin.close()
            self.keeper.wait()
            self.keeper = None
        self._remove_cgroups()
        if self.temporary and self.root:
            shutil.rmtree(self.root, ignore_errors=True)

    def start_daemon(self, name: str) -> None:
        """Start ``munged``, ``mariadbd``, ``slurmdbd``, ``slurmctld`` or a node and wait until it answers."""
        self.until(self._spawn(name), f"an answer of {name}")

    def _spawn(self, name: str):
        """Start a daemon; returns a function that says whether it answers, and raises once it has ended instead."""
        (words, ready), began = self._daemons()[name], int(time.time())
        environment = {**self._environment(), "MYSQL_UNIX_PORT": f"{self.root}/run/mariadb"}
        words = [*self._node_words(name), *words] if name in self.nodes else words
        ended = self.root / "run" / f"ended-{time.monotonic_ns()}"
        request = {"name": name, "words": words, "environment": environment, "ended": str(ended)}
        self.keeper.stdin.write(json.dumps(request).encode() + b"\n")
        self.keeper.stdin.flush()

        def answers() -> bool:
            if ended.exists():
                raise ClusterError(f"{name} ended: {ended.read_text()}\n{self.logs()}")
            if name in self.nodes:
                return self._usable(name, began)
            return subprocess.run(ready, env=environment, capture_output=True).returncode == 0

        return answers

    def kill_daemon(self, name: str, number: int = signal.SIGKILL) -> None:
        """End one daemon and nothing that it started; ``SIGTERM`` lets a controller save its state first."""
        pid = self._daemon(name)
        send({pid}, number)
        self.until(lambda: pid not in processes(), f"the end of {name}", 20)

    def kill_node(self, node: int | str, noticed: bool = False) -> None:
        """The loss of a machine: slurmd and all that its jobs run there are gone at once.

        The controller misses the node after about 35 s, or at once with ``noticed``: its jobs are requeued, and start
        again after 6 s. A node that is restarted unnoticed keeps jobs "running" for a minute or more.
        """
        name = self._node(node)
        words = self._node_words(name)
        end({p.pid for p in processes().values() if p.words[: len(words)] == words})
        if noticed:
            self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=lost")

    def restart_node(self, node: int | str) -> None:
        """Switch a lost node on again; returns when the controller uses it."""
        self.start_daemon(self._node(node))

    @contextlib.contextmanager
    def controller_down(self):
        """No answer from the scheduler inside; jobs that run go on."""
        self.kill_daemon("slurmctld", signal.SIGTERM)
        try:
            yield
        finally:
            self.start_daemon("slurmctld")

    @contextlib.contextmanager
    def limits(self, **values: int):
        """Limits of this user inside, as ``sacctmgr modify user`` names them (``MaxSubmitJobs=4``)."""
        modify = ("sacctmgr", "-i", "modify", "user", getpass.getuser(), "set")
        self.run(*modify, *(f"{name}={value}" for name, value in values.items()))
        try:
            yield
        finally:
            self.run(*modify, *(f"{name}=-1" for name in values))

    def clear(self) -> None:
        """Cancel every job, and mend what a test broke: all daemons run and all nodes are idle afterwards."""
        lost = [name for name in self._daemons() if not self._daemon(name, default=0)]
        for name in lost:
            if name not in self.nodes:
                self.start_daemon(name)
        self._start_nodes([name for name in lost if name in self.nodes])

        patience = time.monotonic() + 3

        def gone() -> bool:
            if ids := set(self.run("squeue", "-h", "-o", "%A").stdout.split()):
                # Slurm asks a running job to leave and then looks again after 1, 2, ... seconds: first the short way.
                polite = time.monotonic() > patience
                self.run("scancel", *([] if polite else ["--state=PENDING"]), *ids, check=False)
                listing, members = processes(), self.members()
                steps = {pid for pid in members & set(listing) if listing[pid].name == "slurmstepd"}
                send(below(steps, listing) - steps, signal.SIGKILL)
            return not ids

        self.until(gone, "the end of all jobs", 60, pause=0.1)
        self._until_ready()

    # --- asking

    def environment(self) -> dict[str, str]:
        """What makes Slurm's commands talk to this cluster."""
        return {"SLURM_CONF": f"{self.root}/etc/slurm.conf"}

    def run(self, *words: str, check: bool = True, timeout: float = 60, **variables) -> subprocess.CompletedProcess:
        """Run one of Slurm's commands (or another) against this cluster; raises ClusterError unless it succeeds."""
        command = [program(words[0]) or words[0], *map(str, words[1:])]
        environment = {**self._environment(), **variables}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr or done.stdout}\n{self.logs()}")
        return done

    def submit(self, script: str, *options: str) -> str:
        """``sbatch`` a script (its lines, without the ``#!``) whose output nobody wants; returns the job's id."""
        return self.run("sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={script}").stdout.strip()

    def jobs(self) -> list[Job]:
        """Every job and array element that squeue knows, ended ones included."""
        listing = self.run("squeue", "-h", "-t", "all", "-r", "-o", "%i|%T|%N|%P|%j|%r").stdout
        return [Job(*line.split("|")) for line in listing.splitlines()]

    def state(self, id: str) -> str:
        """Slurm's word for one job or array element, ``""`` when squeue does not know it."""
        return next((job.state for job in self.jobs() if job.id == id), "")

    def show(self, id: str) -> dict[str, str]:
        """``scontrol show job``: ``Restarts``, ``ExitCode``, ``BatchHost``, ``Reason``, ..."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.run("scontrol", "-o", "show", "job", id).stdout))

    def completed(self) -> list[dict[str, str]]:
        """The controller's own list of ended jobs, one entry an end (a requeued job has several), oldest first."""
        path = self.root / "log" / "jobs"
        lines = path.read_text().splitlines() if path.exists() else []
        return [dict(re.findall(r"(\w+)=(.*?)(?= \w+=|\s*$)", line)) for line in lines]

    def until(self, condition, what: str, seconds: float = 60, pause: float = 0.05):
        """The first true answer of ``condition()``; raises ClusterError after ``seconds``.

        It is asked less and less often: asking starts a process, and takes the processor from what is waited for.
        """
        limit = time.monotonic() + seconds
        while not (answer := condition()):
            if time.monotonic() > limit:
                raise ClusterError(f"waited {seconds:.0f} s for {what}\n{self.logs()}")
            time.sleep(pause)
            pause = max(pause, min(1.2 * pause, 0.3))
        return answer

    def until_state(self, id: str, *states: str, seconds: float = 60) -> str:
        return self.until(lambda: (state := self.state(id)) in states and state, f"{id} {'|'.join(states)}", seconds)

    def logs(self, lines: int = 12) -> str:
        """The last lines of every log."""
        files = sorted((self.root / "log").iterdir()) if self.root and self.root.exists() else []
        # Daemons in the foreground say everything twice, except what comes before they know their log.
        twice = {file.with_suffix(".out") for file in files if file.suffix == ".log" and file.stat().st_size}
        files = [file for file in files if file not in twice]
        texts = [(file.name, file.read_text(errors="replace").splitlines()[-lines:]) for file in files]
        return "\n".join(f"--- {name}\n" + "\n".join(text) for name, text in texts if text)

    def members(self) -> set[int]:
        """Every process of this cluster, zombies left out."""
        if not self.root:
            return set()
        listing = processes()
        roots = {self._keeper(listing)}
        for process in listing.values():
            if process.name in DAEMONS:
                # Those whose keeper was killed: they stand in the cluster's folder or were told of it.
                with contextlib.suppress(OSError):
                    where = [*process.words, os.readlink(f"/proc/{process.pid}/cwd")]
                    if any(re.search(rf"{re.escape(str(self.root))}(/|$)", word) for word in where):
                        roots.add(process.pid)
        return below(roots, listing)

    # --- within

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)} | self.environment()

    def _call(self, *words: str) -> None:
        done = subprocess.run(words, env=self._environment(), capture_output=True, text=True)
        if done.returncode:
            raise ClusterError(f"{words[0]}: {done.stderr or done.stdout}\n{self.logs()}")

    def _daemons(self) -> dict[str, tuple[list[str], list[str]]]:
        return daemons(self.root, self.nodes, self.accounting)

    def _usable(self, node: str, since: int) -> bool:
        """Whether the controller has met a slurmd of ``node`` that started at ``since`` (unix seconds) or later."""
        told = dict(re.findall(r"(\S+?)=(\S*)", self.run("scontrol", "-o", "show", "node", node, check=False).stdout))
        started = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since))  # Slurm's way to write it, in local time
        up = re.fullmatch(r"(IDLE|MIXED|ALLOCATED)(\+COMPLETING)?", told.get("State", ""))
        return bool(up) and told["SlurmdStartTime"] >= started

    def _daemon(self, name: str, default: int | None = None) -> int:
        words = self._daemons()[name][0]
        members, listing = self.members(), processes()
        found = [pid for pid in members & set(listing) if listing[pid].words == words]
        if not found and default is None:
            raise ClusterError(f"{name} does not run\n{self.logs()}")
        return found[0] if found else default

    def _node(self, node: int | str) -> str:
        return self.nodes[node - 1] if isinstance(node, int) else node

    def _until_ready(self) -> None:
        def ready() -> bool:
            listing = self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T", check=False).stdout
            states = dict(line.split() for line in listing.splitlines())
            for node in [node for node, state in states.items() if "drain" in state]:
                self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
            return [states.get(node) for node in self.nodes] == ["idle"] * self.count

        self.until(ready, "all nodes", 60)

    def _node_words(self, node: str) -> list[str]:
        return [*slurm_keeper.COMMAND, "node", str(self.root), node]

    def _keeper(self, listing: dict[int, Process] | None = None) -> int:
        words = [*slurm_keeper.COMMAND[1:], "keep", str(self.root)]  # whichever Python it runs under
        found = [p.pid for p in (listing or processes()).values() if p.words[1:-1] == words]
        return found[0] if found else 0

    def _cgroups(self) -> list[Path]:
        """The control groups of the nodes, innermost first."""
        tops = [top for node in self.nodes for top in CGROUPS.glob(f"*/slurm_{node}")]
        return [Path(folder) for top in tops for folder, _, _ in os.walk(top, topdown=False)]

    def _thaw(self) -> None:
        """Slurm freezes a job while it kills it; whoever dies in between leaves processes that nothing can end."""
        for folder in self._cgroups():
            if (folder / "freezer.state").exists():
                (folder / "freezer.state").write_text("THAWED")

    def _remove_cgroups(self) -> None:
        def removed() -> bool:
            for folder in self._cgroups():
                with contextlib.suppress(OSError):
                    folder.rmdir()
            return not self._cgroups()

        if self.port:
            self.until(removed, "the end of the control groups", 10)

    def _write(self) -> None:
        """Folders, key and configuration."""
        if self.temporary:
            # munged refuses to talk from below a private folder such as pytest's, and the path of a socket is short.
            self.root = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        elif (self.root / "cluster.json").exists():
            shutil.rmtree(self.root)
        elif self.root.exists() and any(self.root.iterdir()):
            raise ClusterError(f"{self.root} is not empty and not a cluster's")
        if len(str(self.root)) > 60:
            raise ClusterError(f"{self.root} is too long for the sockets below it: at most 60 characters")
        for name in ("", "etc", "run", "log", "spool", "state", "database", *(f"spool/{node}" for node in self.nodes)):
            (self.root / name).mkdir(parents=True, exist_ok=True)
            (self.root / name).chmod(0o755 if name in ("", "etc", "run", "log") else 0o700)
        settings = {**self.settings, "root": self.settings["root"] and str(self.root)}
        values = {"settings": settings, "port": self.port, "temporary": self.temporary}
        (self.root / "cluster.json").write_text(json.dumps(values))
        for name, text in files(self.name, self.root, self.port, self.nodes, self.settings).items():
            path = self.root / "etc" / name
            path.touch(0o600)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.slurm.cluster", description="A Slurm to play with.")
    parser.add_argument("verb", choices=["start", "stop", "status"])
    parser.add_argument("--root", type=Path, default=Path(f"/tmp/slurm-{getpass.getuser()}"))
    parser.add_argument("--port", type=int, help="the first of its ports")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd and a database, so that sacct answers")
    given = parser.parse_args()
    try:
        if given.verb == "start":
            cluster = Cluster(given.root, given.port, given.nodes, accounting=given.accounting).start(detached=True)
            print(f"export SLURM_CONF={cluster.environment()['SLURM_CONF']}")
        elif not (given.root / "cluster.json").exists():
            raise ClusterError(f"{given.root} holds no cluster")
        elif given.verb == "stop":
            Cluster.open(given.root).stop()
        else:
            cluster = Cluster.open(given.root)
            listing = processes()
            for pid in sorted(cluster.members()):
                print(pid, *listing[pid].words)
            print(cluster.run("sinfo", "-N").stdout, cluster.run("squeue", "-r").stdout, sep="")
    except ClusterError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
