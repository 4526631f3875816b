"""The device that trains, and the process on it: name, memory, and speed at its best."""

import ctypes
import gc
import resource
import sys
import time
from contextlib import nullcontext, suppress
from functools import lru_cache
from pathlib import Path

import torch

from mae_ablation.study import machine
from mae_ablation.train.precision import HALVES, allow_tf32

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's names of them, malloc.h
KEPT_BYTES = 2**30
CONTEXT_BYTES = 600 * 2**20  # of a GPU, for CUDA's own context in each process
PRODUCT_SIDE = {"cpu": 1024, "cuda": 8192}
PRODUCTS, PRODUCTS_S = 6, 1.0  # so many matrix products, or as many as this time allows


def describe_devices() -> str:
    """Name the GPUs, or the CPU's threads, as `doctor` shows them."""
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return f"CUDA: {', '.join(names)}"
    number = torch.get_num_threads()
    cpu = f"CPU, {number} thread{'s' * (number > 1)}"
    if torch.backends.mps.is_available():
        return "MPS is there, studies use the CPU: " + cpu
    return cpu


def name_processor(device: str) -> str:
    """Name the GPU, or the CPU and its cores: the hardware that measured times belong to."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else machine.processor()


# memory


def keep_freed_memory() -> None:
    """Let the process keep what a step frees for the next one, up to 1 GiB.

    By default glibc returns a large tensor's pages to the system, and every step of a small model
    asks for some 4,000 of them again, each cleared: about 4 % of the laptop recipe's step.
    """
    if allocator := load_glibc():
        allocator.mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        allocator.mallopt(MMAP_THRESHOLD, KEPT_BYTES)


def load_glibc() -> ctypes.CDLL | None:
    """Load the C library, where it is glibc."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if library and hasattr(library, "gnu_get_libc_version") else None


def share_gpu(share: float) -> None:
    """Let this process fill a share of its GPU, 0 to 1: beyond it torch raises out-of-memory.

    What CUDA itself takes in each process is not torch's to count, so it is subtracted.
    """
    if share < 1:
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(max(0.01, share - CONTEXT_BYTES / total))


def usable_gpu_bytes(share: float) -> int:
    """Measure the bytes that this process may fill: free ones and its own, within its share."""
    free, total = torch.cuda.mem_get_info()
    own = torch.cuda.memory_reserved()
    return min(free + own, int(share * total - CONTEXT_BYTES * (share < 1)))


def free_gpu_memory(device: str) -> None:
    """Give back what earlier trainings held of a GPU; other processes may be waiting for it."""
    if device.startswith("cuda"):
        gc.collect()
        # after a failed kernel every call fails: the lane looks for it
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


def reset_peak_memory(device: str) -> None:
    """Start to measure a phase's peak memory in a process that has run others before."""
    # GPU: torch's own counter; CPU: the kernel's high-water mark of the process
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return
    if allocator := load_glibc():
        allocator.malloc_trim(0)  # what earlier phases left is not this one's
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: VmHWM starts again from here
    except OSError:
        return  # elsewhere the peak is that of the process


def peak_memory_bytes(device: str) -> int:
    """Measure the peak of GPU memory, or of the process's resident memory, since the reset."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):  # not Linux, or a sandbox that hides the line: KiB, Mac bytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


# speed


@lru_cache(maxsize=8)  # a lane measures once, 0.2 s
def ceiling_flops_per_s(device: str, precision: str = "float32", threads: int = 0) -> float:
    """Measure the FLOP/s of the fastest of some square matrix products.

    Args:
        threads: `torch.get_num_threads()`, a key of the cache alone.
    """
    # large enough that launching a product costs nothing beside it
    side = PRODUCT_SIDE[torch.device(device).type]
    number = HALVES.get(precision, torch.float32)
    left, right = torch.randn(2, side, side, device=device).to(number).unbind(0)
    out, times = torch.empty_like(left), []

    def wait() -> None:
        if left.is_cuda:
            torch.cuda.synchronize()

    with allow_tf32() if precision == "tf32" else nullcontext():
        # bfloat16 on a CPU may take seconds
        while len(times) < PRODUCTS and sum(times) < PRODUCTS_S:
            wait()
            began = time.perf_counter()
            torch.mm(left, right, out=out)
            wait()
            times.append(time.perf_counter() - began)
    return 2 * side**3 / min(times)
