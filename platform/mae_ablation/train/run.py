"""PhaseRun: one phase at work, with the folder it writes to and the progress it reports."""

import platform as python_platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version

import torch

from mae_ablation import __version__
from mae_ablation.recipe.batch import fit_micro_batch
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.train.device import (
    ceiling_flops_per_s,
    free_gpu_memory,
    name_processor,
    peak_memory_bytes,
    reset_peak_memory,
)
from mae_ablation.train.workers import MicroBatch, Workers


class Diverged(RuntimeError):
    """The loss is not finite."""

    on_all_ranks = True  # it follows from losses that all ranks know


class Stopped(Exception):
    """The run was asked to stop; what was reached is in a checkpoint. Not a failure."""


class Busy(Exception):
    """Another run is at work on the phase. Not a failure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseRun:
    """One phase at work."""

    folder: PhaseFolder
    device: str = "cpu"
    commit: str = "unknown"
    """commit of the code, for the result"""
    prefix: str = ""
    """prefix of its metrics' names; empty: the phase's own name"""
    lanes: int = 1
    """number of trials that run side by side, this one included; measured times depend on it"""
    attempt: int = 1
    """number of times the trial has been started, this time included"""
    report: Callable[[dict], None] = field(default=lambda progress: None)
    """receives the progress after every epoch, on rank zero"""
    stop: Callable[[], bool] = field(default=lambda: False)
    """asked after every optimiser step; true: save and leave"""
    workers: Workers = Workers()
    memory_bytes: int | None = None
    """bytes of its GPU that each worker may fill; None: it trains on a CPU"""
    division: dict[str, int] = field(default_factory=dict)
    """division of the batch, for the result: images of a micro-batch, accumulated ones"""

    def divide_batch(
        self, batch: int, needed: tuple[float, float], at_most: int | None = None
    ) -> list[MicroBatch]:
        """Divide a batch into this worker's micro-batches, as small as its memory asks for.

        Args:
            needed: bytes that the training always needs, and those per image (recipe/cost.py).
            at_most: largest number of images per forward pass; None: `workers.micro_batch` says.

        Raises:
            UserError: the batch cannot be divided evenly.
        """
        # the user's limit, the estimate's, and what was found out: the smallest counts
        workers, at_most = self.workers, at_most or self.workers.micro_batch
        if self.memory_bytes is not None:
            at_most = fit_micro_batch(batch, workers.size, at_most, self.memory_bytes, needed)
        # an estimate that was too low once is not believed again
        if shortage := workers.on_rank_zero(self.folder.shortage):
            at_most = min(shortage["micro_batch"], at_most or batch)
            self.division["out_of_memory"] = shortage["times"]
        parts = workers.micro_batches(batch, at_most)
        self.division["accumulated"] = len(parts)
        self.division["micro_batch"] = batch // (workers.size * len(parts))
        return parts

    def begin_measuring(self, mfu_in: str | None = None) -> None:
        """Start to measure the phase's peak memory.

        Args:
            mfu_in: the precision whose best speed will be asked for; it is measured first, with 0.8
                GB that are not the phase's.
        """
        if mfu_in and self.device.startswith("cuda"):
            ceiling_flops_per_s(self.device, mfu_in, torch.get_num_threads())
            free_gpu_memory(self.device)
        reset_peak_memory(self.device)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Append a point to the phase's journal."""
        self.workers.on_rank_zero(lambda: self.folder.journal.append(step, metrics))

    def last_logged(self, metric: str) -> float:
        """Read the metric's value at the journal's last point."""
        return self.workers.on_rank_zero(lambda: self.folder.journal.read()[-1]["m"][metric])

    def report_checkpoint(self, step: int) -> None:
        """Report that a checkpoint has been written after this optimiser step."""
        if self.workers.rank == 0:
            self.report({"saved": {self.folder.name: step}})

    def report_epoch(
        self, phase: str, epoch: int, epochs: int, loss: float, images: int, seconds: float
    ) -> None:
        """Report the end of an epoch that trained on so many images in so many seconds."""
        if self.workers.rank > 0:
            return
        if self.division.get("out_of_memory"):
            phase = f"{phase} (micro-batch {self.division['micro_batch']} after out of memory)"
        progress = {"phase": phase, "epoch": epoch, "epochs": epochs, "loss": loss}
        progress["images_per_s"] = images / seconds
        progress["seconds_left"] = (epochs - epoch) * seconds
        self.report(progress)

    def mfu(self, flops_per_s: float, precision: str) -> float:
        """Compute the model FLOPs utilisation: the share reached of all workers' best speed.

        FLOPs are those of the model as the paper describes it (recipe/cost.py), whatever an
        implementation saves; the best speed is measured, not the one on the data sheet.
        """
        ceiling = ceiling_flops_per_s(self.device, precision, torch.get_num_threads())
        return round(flops_per_s / (ceiling * self.workers.size), 4)

    def describe(self) -> dict:
        """Describe how the result was made: code, versions, device, workers, attempts."""
        # enough to make it again, or to say why it cannot be
        own = {"mae-ablation": __version__, "python": python_platform.python_version()}
        on_gpu = self.device.startswith("cuda")
        return {
            "commit": self.commit,
            "versions": own | {name: version(name) for name in ("torch", "timm", "ray")},
            "device": torch.cuda.get_device_name() if on_gpu else "cpu",
            "processor": name_processor(self.device),
            "threads": torch.get_num_threads(),
            "lanes": self.lanes,
            "workers": self.workers.size,
            "attempts": self.attempt,
            **(self.division if on_gpu or "out_of_memory" in self.division else {}),
            "peak_memory_bytes": peak_memory_bytes(self.device),
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
