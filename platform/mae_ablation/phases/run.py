"""What every phase shares: where it writes, whom it tells, checkpoints and the result's facts."""

import io
import os
import platform as python_platform
import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

from mae_ablation import __version__
from mae_ablation.store.folder import PhaseFolder


class Diverged(RuntimeError):
    """The loss is not finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseRun:
    """One phase at work."""

    folder: PhaseFolder
    device: str = "cpu"
    commit: str = "unknown"
    """commit of the code, for the result"""
    prefix: str = ""
    """of the names of its metrics, where that is not the phase's own name"""
    lanes: int = 1
    """how many trials run side by side, itself included: it matters to measured times"""
    report: Callable[[dict], None] = field(default=lambda progress: None)
    """told the progress after every epoch"""

    def tell(
        self, phase: str, epoch: int, epochs: int, loss: float, images: int, seconds: float
    ) -> None:
        """Report the end of an epoch that saw so many images in so many seconds."""
        self.report(
            {
                "phase": phase,
                "epoch": epoch,
                "epochs": epochs,
                "loss": loss,
                "images_per_s": images / seconds,
                "seconds_left": (epochs - epoch) * seconds,
            }
        )


@dataclass(slots=True)
class Checkpoints:
    """Saves and restores everything a phase needs to go on bit for bit.

    `parts` have `state_dict` and `load_state_dict`; `generators` are saved with their states.
    """

    run: PhaseRun
    parts: dict[str, torch.nn.Module | torch.optim.Optimizer]
    generators: dict[str, torch.Generator]
    every_s: float
    saved_at: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    """training seconds so far, over all attempts"""

    def resume(self) -> int:
        """Finished epochs of the newest checkpoint, restored; 0 if there is none."""
        sound = self.run.folder.sound_checkpoint()
        if sound is None:
            self.run.folder.journal.cut(after_step=-1)
            return 0
        state = load_checkpoint(sound[1], self.run.device)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name].cpu())
        self.seconds = state["seconds"]
        self.run.folder.journal.cut(after_step=state["step"])
        return state["epoch"]

    def save(self, epoch: int, step: int, *, last: bool) -> None:
        """Write a checkpoint if the last one is old enough, or always at the end."""
        if not last and time.monotonic() - self.saved_at < self.every_s:
            return
        state = {name: part.state_dict() for name, part in self.parts.items()}
        generators = {name: g.get_state() for name, g in self.generators.items()}
        state |= {"generators": generators, "epoch": epoch, "step": step, "seconds": self.seconds}
        self.run.folder.save_checkpoint(step, checkpoint_bytes(state))
        self.saved_at = time.monotonic()


def checkpoint_bytes(state: dict) -> memoryview:
    """A checkpoint's file."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getbuffer()


def load_checkpoint(data: bytes, device: str) -> dict:
    """A checkpoint as plain tensors and numbers; nothing in it is executed."""
    return torch.load(io.BytesIO(data), map_location=device, weights_only=True)


def facts(run: PhaseRun) -> dict:
    """What a result says about how it was made: code, versions, device, threads."""
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
        "peak_memory_bytes": peak_memory_bytes(run.device),
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def processor(device: str) -> str:
    """Name of the GPU, or of the CPU and its cores: what measured times are times of."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    cores = f"{os.cpu_count()} cores"
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        return f"{found[1].strip()}, {cores}" if found else cores
    except OSError:
        return cores


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
