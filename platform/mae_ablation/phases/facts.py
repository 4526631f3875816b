"""Facts: what a result says about how it was made."""

import platform as python_platform
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from mae_ablation import __version__, machine
from mae_ablation.phases.run import PhaseRun


def facts(run: PhaseRun) -> dict:
    """What a result says about how it was made: code, versions, device, workers, attempts."""
    packages = {name: version(name) for name in ("torch", "timm", "ray")}
    return {
        "commit": run.commit,
        "versions": {
            "mae-ablation": __version__,
            "python": python_platform.python_version(),
            **packages,
        },
        "device": torch.cuda.get_device_name() if run.device.startswith("cuda") else "cpu",
        "processor": processor(run.device),
        "threads": torch.get_num_threads(),
        "lanes": run.lanes,
        "workers": run.team.size,
        "attempts": run.attempt,
        "peak_memory_bytes": peak_memory_bytes(run.device),
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def processor(device: str) -> str:
    """Name of the GPU, or of the CPU and its cores: what measured times are times of."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return machine.processor()


def reset_peak_memory(device: str) -> None:
    """Start measuring a phase's peak memory in a process that has run others before."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return
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
