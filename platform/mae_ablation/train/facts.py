"""Facts: what a result says about how it was made."""

import platform as python_platform
import time
from importlib.metadata import version

import torch

from mae_ablation import __version__
from mae_ablation.study import machine
from mae_ablation.train.memory import peak_memory_bytes
from mae_ablation.train.run import PhaseRun


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
