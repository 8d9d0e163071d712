"""What a test Slurm is told: its configuration, and the command of each of its daemons."""

import getpass
import os
import shutil
import socket
import time
from pathlib import Path

PACKAGES = "slurmctld slurmd slurm-client munge"
ACCOUNTING_PACKAGES = "slurmdbd mariadb-server"
PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
ACCOUNTING_PROGRAMS = ("slurmdbd", "sacct", "sacctmgr", "mariadbd", "mariadb", "mariadb-install-db")
# Stand-ins for GPUs. slurmd wants character devices that exist, and nothing ever opens them.
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
CGROUPS = Path("/sys/fs/cgroup")

CONFIGURATION = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={port}
AuthType=auth/munge
CredType=cred/munge
# Credentials live briefly: a requeued job waits until its old one has expired.
AuthInfo=socket={root}/run/munge,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/%n.log
MailProg=/bin/true
ProctrackType=proctrack/{tracking}
TaskPlugin=task/{task}
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
# Nodes have the processors and the memory claimed below, not those of this machine.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
KillWait=5
MinJobAge={min_job_age}
InactiveLimit=0
WaitTime=0
CompleteWait=0
OverTimeLimit=0
SlurmdTimeout=20
BatchStartTimeout=20
MessageTimeout=10
JobRequeue=1
MaxArraySize={max_array_size}
MaxJobCount=10000
FirstJobId={first_job_id}
EnforcePartLimits=ALL
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=100000,bf_min_age_reserve=0
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobCompType=jobcomp/filetxt
JobCompLoc={root}/log/jobs
{accounting}
{gpus}
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 PriorityTier=5 PreemptMode=OFF
PartitionName=scavenge Nodes=ALL MaxTime=60 DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=urgent Nodes=ALL MaxTime=60 DefaultTime=10 PriorityTier=10 PreemptMode=OFF
PartitionName=short Nodes=ALL MaxTime=1 DefaultTime=1 PriorityTier=5 PreemptMode=OFF
{extra}
"""
WITHOUT_ACCOUNTING = """\
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none"""
WITH_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={database_port}
AccountingStoragePass={root}/run/munge
AccountingStorageEnforce={enforce}
AccountingStorageTRES=gres/gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5"""
DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={root}/run/munge
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={database_port}
SlurmUser={user}
LogFile={root}/log/slurmdbd.log
PidFile={root}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
CommitDelay=1
"""
# Whole subtrees of cgroup v1: every process of a job is found, and --mem is enforced.
CGROUP = "CgroupPlugin=cgroup/v1\nCgroupMountpoint={cgroups}\nConstrainRAMSpace=yes\nAllowedSwapSpace=0\n"
CREATE = """\
create database slurm;
create user 'slurm'@'localhost' identified by 'slurm';
grant all on slurm.* to 'slurm'@'localhost'"""


def program(name: str) -> str | None:
    """Where a program is; daemons are often in folders that PATH leaves out for everybody but root."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin:/usr/local/sbin")


def missing(accounting: bool = False) -> list[str]:
    """Programs that a cluster needs and this machine lacks."""
    return [name for name in PROGRAMS + ACCOUNTING_PROGRAMS * accounting if not program(name)]


def files(name: str, root: Path, port: int, nodes: list[str], settings: dict) -> dict[str, str | bytes]:
    """What stands in ``etc``, by file name; ``settings``: the arguments of ``Cluster``."""
    cgroup = os.geteuid() == 0 and all(os.access(CGROUPS / part, os.W_OK) for part in ("freezer", "memory"))
    devices = [device for device in DEVICES if Path(device).is_char_device()][: settings["gpus"]]
    host, gres = socket.gethostname().split(".")[0], f" Gres=gpu:{len(devices)}" if devices else ""
    claims = f"CPUs={settings['cpus']} RealMemory={settings['memory']}{gres} State=UNKNOWN"
    values = {
        "name": name, "root": root, "host": host, "user": getpass.getuser(),
        "port": port, "database_port": port + 1,
        # Never linuxproc: it loses processes whose parent died first. pgid loses those that make their own session.
        "tracking": "cgroup" if cgroup else "pgid", "task": "cgroup" if cgroup else "none", "cgroups": CGROUPS,
        "min_job_age": settings["min_job_age"], "max_array_size": settings["max_array_size"],
        "first_job_id": settings["first_job_id"] or 1000 + int(time.time()) % 60_000_000,
        "enforce": settings["enforce"], "gpus": "GresTypes=gpu" if devices else "",
        "nodes": "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + 2 + index} {claims}"
            for index, node in enumerate(nodes)
        ),
        "extra": "\n".join(settings["extra"]),
    }  # fmt: skip
    values["accounting"] = (WITH_ACCOUNTING if settings["accounting"] else WITHOUT_ACCOUNTING).format(**values)
    texts = {"slurm.conf": CONFIGURATION.format(**values), "munge.key": os.urandom(1024)}
    if devices:
        texts["gres.conf"] = f"NodeName={','.join(nodes)} Name=gpu File={','.join(devices)}\n"
    if cgroup:
        texts["cgroup.conf"] = CGROUP.format(**values)
    if settings["accounting"]:
        texts["slurmdbd.conf"] = DATABASE.format(**values)
    return texts


def daemons(root: Path, nodes: list[str], accounting: bool) -> dict[str, tuple[list[str], list[str]]]:
    """What to run for each daemon, in order, and a command that succeeds once it answers (none for a node)."""
    found = {}
    munged = ["--foreground", f"--key-file={root}/etc/munge.key", f"--socket={root}/run/munge", "--num-threads=4"]
    munged += [f"--pid-file={root}/run/munged.pid", f"--log-file={root}/log/munged.log", "--origin=127.0.0.1"]
    munged += [f"--seed-file={root}/state/munge.seed"]
    found["munged"] = ([program("munged"), *munged], [program("munge"), "-S", f"{root}/run/munge", "-n"])
    if accounting:
        mariadbd = ["--no-defaults", f"--user={getpass.getuser()}", f"--datadir={root}/database"]
        mariadbd += [f"--socket={root}/run/mariadb", f"--pid-file={root}/run/mariadbd.pid", "--skip-networking"]
        mariadbd += [f"--log-error={root}/log/mariadb.log", "--innodb-buffer-pool-size=64M"]
        mariadbd += [f"--tmpdir={root}/run", "--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=0"]
        found["mariadbd"] = ([program("mariadbd"), *mariadbd], sql(root, "select 1"))
        found["slurmdbd"] = ([program("slurmdbd"), "-D"], [program("sacctmgr"), "-n", "list", "cluster"])
    found["slurmctld"] = ([program("slurmctld"), "-D", "-i"], ["sh", "-c", "scontrol ping | grep -q 'is UP'"])
    for node in nodes:
        found[node] = ([program("slurmd"), "-D", "-N", node], [])
    return found


def sql(root: Path, text: str) -> list[str]:
    return [program("mariadb"), "--no-defaults", "-u", "root", f"--socket={root}/run/mariadb", "-e", text]
