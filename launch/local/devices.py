"""What this machine offers: its GPUs and the number of workers that suits it, found without importing torch."""

import os
import re
import shutil
import subprocess


def gpus() -> list[str]:
    """The GPUs (or MIG slices) we may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return names[: next((i for i, name in enumerate(names) if not name or name.startswith("-")), len(names))]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []  # a driver that does not answer will not train either
    slices = re.findall(r"UUID: (MIG-[^)\s]+)", listing)
    return slices or re.findall(r"^GPU (\d+):", listing, re.MULTILINE)


def workers() -> int:
    """One worker for each GPU where there are GPUs, else one for each core this process may use."""
    if found := len(gpus()):
        return found
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
