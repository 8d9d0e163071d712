"""How the processes of a stage find each other: through a file in the stage's folder, which all of them can read.

The first process opens a port and writes down where; the others read that, report which GPUs they see, and all learn
their places. The file's name has a ``token`` that is new in every attempt, so that no process waits for one of an
earlier attempt.
"""

import contextlib
import fcntl
import json
import os
import socket
import struct
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

from common import record
from common.training.processes.team import ALONE, Lost, Ranks, Team

PATIENCE = 600.0  # seconds for every process to come: nodes start at different times
CONNECTING = timedelta(seconds=20)  # for one address


def join(folder: Path, rank: int, size: int, token: str, patience: float = PATIENCE, lost: Lost = lambda: "") -> Team:
    """Meet the other processes of the stage ``folder``; each of ranks 0 to ``size`` - 1 calls this once.

    ``token``: the same text for all ranks of one attempt and of no other. ``lost()``: what became of a rank that is
    known to be gone, or "". ``RuntimeError``: one did not come within ``patience`` seconds, and which.
    """
    if size == 1:
        return ALONE
    end, file = time.monotonic() + patience, Path(folder) / f".rendezvous.{token}.tmp"
    run = record.read_config(folder)["settings"]["run"]
    try:
        store = _open(file, token) if rank == 0 else _find(file, token, rank, end, patience)
        store.set(f"here/{rank}", json.dumps({"host": socket.gethostname(), "gpus": _gpus(run["device"])}))
        missing = list(range(size))
        while missing := [other for other in missing if not store.check([f"here/{other}"])]:
            if gone := lost():
                raise RuntimeError(gone)
            if time.monotonic() > end:
                ranks = ", ".join(map(str, missing))
                raise RuntimeError(f"rank {ranks} of {size} did not come within {patience:.0f} seconds")
            time.sleep(0.02)
    finally:
        if rank == 0:
            file.unlink(missing_ok=True)
    here = [json.loads(store.get(f"here/{other}")) for other in range(size)]
    backend, local_rank, gpu = places(here)[rank]
    if gpu is not None:
        torch.cuda.set_device(gpu)
    if store.check(["address"]) and (interface := _interface(store.get("address").decode())):  # by which others came
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    return Ranks(rank, size, local_rank, backend, store, lost)


def places(here: list[dict[str, Any]]) -> list[tuple[str, int, int | None]]:
    """(backend, place on its node, GPU by its index or None) of each rank, from the host and GPUs each one sees.

    nccl where every rank can have a GPU of its own; ranks that share one talk through gloo.
    """
    found: list[tuple[int, int | None]] = []
    taken: set[tuple[str, str]] = set()
    own = True
    for rank, each in enumerate(here):
        local = sum(other["host"] == each["host"] for other in here[:rank])
        free = [i for i, gpu in enumerate(each["gpus"]) if (each["host"], gpu) not in taken]
        own = own and bool(free)
        index = free[0] if free else local % len(each["gpus"]) if each["gpus"] else None
        if free:
            taken.add((each["host"], each["gpus"][index]))
        found.append((local, index))
    if not all(each["gpus"] for each in here):
        return [("gloo", local, None) for local, _ in found]
    return [("cpu:gloo,cuda:nccl" if own else "gloo", local, index) for local, index in found]


def _gpus(device: str) -> list[str]:
    """What tells each visible GPU from all others: its number alone does not, where Slurm shows a task only its own."""
    if device == "cpu" or not torch.cuda.is_available():
        return []
    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]


def _open(file: Path, token: str) -> TCPStore:
    store = TCPStore("localhost", 0, None, is_master=True, timeout=CONNECTING, wait_for_workers=False)
    store.set("token", token)
    record.write_json(file, {"host": socket.gethostname(), "addresses": _addresses(), "port": store.port})
    return store


def _find(file: Path, token: str, rank: int, end: float, patience: float) -> TCPStore:
    while True:
        with contextlib.suppress(ValueError, OSError):  # half a file, on a network file system
            if (first := record.read_json(file)) is not None:
                break
        if time.monotonic() > end:
            raise RuntimeError(f"rank {rank} did not meet rank 0 within {patience:.0f} seconds: there is no {file}")
        time.sleep(0.1)
    same = first["host"] == socket.gethostname()
    problems = []
    for name in ["localhost"] * same + first["addresses"]:
        try:
            with socket.create_connection((name, first["port"]), CONNECTING.total_seconds()) as probe:
                address = probe.getpeername()[0]
            store = TCPStore(address, first["port"], None, is_master=False, timeout=CONNECTING, wait_for_workers=False)
            if store.check(["token"]) and store.get("token").decode() == token:
                if not same:
                    store.set("address", address)
                return store
            problems.append(f"{name} is another process")
        except (OSError, RuntimeError) as error:
            problems.append(f"{name}: {str(error).splitlines()[0]}")
    raise RuntimeError(
        f"rank {rank} on {socket.gethostname()} cannot reach rank 0 on {first['host']}, port {first['port']} "
        f"({'; '.join(problems)}): the nodes of a job must be able to connect to each other"
    )


def _addresses() -> list[str]:
    """Under what other nodes may reach this one, most likely first; what only this node reaches is left out."""
    found = []
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))  # sends nothing: it asks which of this node's addresses lead outside
            found.append(probe.getsockname()[0])
    names = [*found[:1], socket.gethostname(), socket.getfqdn(), *found[1:]]
    return [name for name in dict.fromkeys(names) if not name.startswith("localhost")]


def _interface(address: str) -> str | None:
    """The interface of this node over which ``address`` (IPv4) is reached: a host's own name may mean loopback."""
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an address
                request = struct.pack("256s", name.encode()[:15])
                if socket.inet_ntoa(fcntl.ioctl(probe, 0x8915, request)[20:24]) == own:  # SIOCGIFADDR
                    return name
    return None
