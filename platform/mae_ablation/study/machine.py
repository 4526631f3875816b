"""Machine: what this computer has, by the system's own files; no torch, so that a plan may ask."""

import os
import re
import shutil
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
NVIDIA = Path("/proc/driver/nvidia/gpus")
CPUINFO = Path("/proc/cpuinfo")


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def cpu_quota(folder: Path = CGROUP) -> float | None:
    """Cores that a container's limit allows (cgroup 2, else 1); None: no limit."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = (
                (folder / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        except OSError:
            return None
    return None if quota.strip() in ("max", "-1") else int(quota) / int(period)


def gpus() -> int:
    """NVIDIA GPUs that the driver knows of."""
    try:
        return len(list(NVIDIA.iterdir()))
    except OSError:
        return 0


def processor(cpuinfo: Path = CPUINFO) -> str:
    """Name of the CPU and its cores: what times measured on it are times of.

    With family and model, for a rented machine's CPUs of several generations may bear one name.
    """
    number = f"{os.cpu_count()} cores"
    try:
        first = cpuinfo.read_text().split("\n\n")[0]
    except OSError:
        return number
    said = dict(re.findall(r"^(\w[\w ]*\w)\s*: (.*\S)", first, re.MULTILINE))
    name = said.get("model name")
    if name and {"cpu family", "model"} <= said.keys():
        name += f" (family {said['cpu family']}, model {said['model']})"
    return f"{name}, {number}" if name else number


def free_memory() -> int | None:
    """Bytes that programs may still take, within a container's limit; None: unknown."""
    try:
        line = Path("/proc/meminfo").read_text().split("MemAvailable:")[1]
        free = int(line.split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return None
    try:
        limit, used = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        return min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):  # no limit reads "max"
        return free


def free_disk(folder: Path | str) -> int:
    """Bytes left where a folder lies or will lie."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
