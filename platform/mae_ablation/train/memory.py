"""Memory of a process that trains: kept from step to step, and its peak measured."""

import ctypes
import resource
import sys
from pathlib import Path

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's names of them, malloc.h
KEPT_BYTES = 2**30


def keep_freed_memory() -> None:
    """Let the process keep what a step frees for the next one, up to 1 GiB.

    By default glibc gives a large tensor's pages back, and every step of a small model asks the
    system for some 4,000 of them again, each cleared by it: some 4 % of the laptop recipe's step.
    """
    if allocator := glibc():
        allocator.mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        allocator.mallopt(MMAP_THRESHOLD, KEPT_BYTES)


def glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if library and hasattr(library, "gnu_get_libc_version") else None


def reset_peak_memory(device: str) -> None:
    """Start measuring a phase's peak memory in a process that has run others before."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return
    if allocator := glibc():
        allocator.malloc_trim(0)  # what earlier phases left is not this one's
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: VmHWM starts again from here
    except OSError:
        return  # elsewhere the peak is that of the process


def peak_memory_bytes(device: str) -> int:
    """Peak of the device's memory, or of the process's resident memory, since the reset."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):  # not Linux, or a sandbox that hides the line
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
