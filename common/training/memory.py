"""How much memory this process can still have, so that a computation can be refused before it begins."""

from contextlib import suppress
from pathlib import Path

import torch


def available(device: torch.device | str) -> int:
    """Bytes that this process can still have on ``device``: a GPU's free ones, or what machine and cgroup leave."""
    device = torch.device(device)
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    found = []
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with suppress(OSError, StopIteration):  # Slurm and containers give a process less than the machine has
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line for line in lines if line.startswith("0::")).removeprefix("0::/")
        for folder in [Path("/sys/fs/cgroup", own), *Path("/sys/fs/cgroup", own).parents][: len(Path(own).parts) + 1]:
            with suppress(OSError, ValueError):  # "max" is no limit
                limit, used = (int((folder / f"memory.{name}").read_text()) for name in ("max", "current"))
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                found.append(max(0, limit - used + int(stat.get("inactive_file", 0))))  # files are read again
    return min(found, default=1 << 62)  # unknown: nothing to compare with
