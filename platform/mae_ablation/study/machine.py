"""This computer: cores, GPUs, memory, disk and speed, without torch, so that a plan may ask."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
NVIDIA = Path("/proc/driver/nvidia/gpus")
CPUINFO = Path("/proc/cpuinfo")
THREADS = ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "VECLIB_MAXIMUM")  # what BLAS libraries read
PRODUCT = """
import numpy, time
left = numpy.ones((256, 256), dtype=numpy.float32)
out, times, began = left.copy(), [], time.perf_counter()
while time.perf_counter() < began + 0.1:
    start = time.perf_counter()
    numpy.dot(left, left, out)
    times.append(time.perf_counter() - start)
print(2 * 256**3 / min(times))
"""


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def cpu_quota(folder: Path = CGROUP) -> float | None:
    """Return the cores that a container's limit allows; None: no limit."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def gpus() -> int:
    """Count the NVIDIA GPUs that the driver knows of, and that this process may see."""
    try:
        number = len(list(NVIDIA.iterdir()))
    except OSError:
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return number
    return min(number, sum(each.strip() not in ("", "-1") for each in visible.split(",")))


def processor(cpuinfo: Path = CPUINFO) -> str:
    """Name the CPU that times are measured on, with its cores."""
    number = f"{os.cpu_count()} cores"
    try:
        first = cpuinfo.read_text().split("\n\n")[0]
    except OSError:
        return number
    said = dict(re.findall(r"^(\w[\w ]*\w)\s*: (.*\S)", first, re.MULTILINE))
    name = said.get("model name")
    # a rented machine's CPUs of several generations may bear one name
    if name and {"cpu family", "model"} <= said.keys():
        name += f" (family {said['cpu family']}, model {said['model']})"
    return f"{name}, {number}" if name else number


@lru_cache(maxsize=1)
def product_flops_per_s() -> float:
    """Measure the FLOP/s of one thread in a float32 matrix product, which takes 0.1 s.

    Of all products the fastest counts, which a busy moment of the machine leaves alone.
    """
    # a process of its own: how many threads BLAS takes is settled when numpy is imported
    done = subprocess.run(
        [sys.executable, "-c", PRODUCT],
        env={**os.environ, **{f"{name}_THREADS": "1" for name in THREADS}},
        cwd=tempfile.gettempdir(),  # in a clone `platform` would stand in for the library's module
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout)


def total_memory() -> int:
    """Return the bytes of memory that the system has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory() -> int | None:
    """Return the bytes that programs may still take, in a container's limit; None: unknown."""
    try:
        line = Path("/proc/meminfo").read_text().split("MemAvailable:")[1]
        free = int(line.split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return None
    # in a container the kernel tells of the whole machine
    try:
        limit, used = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        return min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):  # no limit reads "max"
        return free


def free_disk(folder: Path | str) -> int:
    """Return the bytes left where a folder lies or will lie."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
