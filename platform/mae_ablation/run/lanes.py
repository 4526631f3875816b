"""Lanes: the trials that run side by side, what each of them has, and how it divides a batch."""

from collections.abc import Iterable
from dataclasses import dataclass

from mae_ablation.recipe.batch import (
    ACCELERATOR_GIB,
    count_that_fit,
    fit_micro_batch,
    limit_micro_batch,
    split_batch,
)
from mae_ablation.recipe.cost import training_memory
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.registry import component_names
from mae_ablation.study.request import Request
from mae_ablation.study.trial import Trial


@dataclass(frozen=True, kw_only=True, slots=True)
class Lanes:
    """The number of lanes, and the workers of each."""

    count: int | None = None
    """None: as many as there is room for"""
    grows: bool = False
    """True: more of them start when nodes join"""
    scales: bool = False
    """True: the cluster starts nodes when it is asked for them"""
    cpus: int = 1
    """threads of each worker"""
    gpus: float | None = 0.0
    """GPUs of each worker, or a part of one; None: one, where nodes have any (`fit_lanes`)"""
    workers: int = 1
    """workers of each lane, which train one trial together"""
    micro_batch: int | None = None
    """largest number of images per forward pass; None: a worker's whole part of the batch"""
    accelerator: str | None = None
    """type of GPU that is asked for, as Ray names it, such as "A10G" """
    gpu_type: str | None = None
    """type of the GPUs that lanes run on, where all nodes have the same"""

    @classmethod
    def from_request(cls, request: Request) -> "Lanes":
        """Return the lanes that a request asks for."""
        return cls(
            count=request.lanes,
            gpus=request.gpus,
            workers=request.workers,
            micro_batch=request.micro_batch,
            accelerator=request.accelerator,
        )

    @property
    def need(self) -> dict[str, float]:
        """Ray's resources of one worker."""
        # a type of GPU is asked for by a trace of it, as Ray's documentation does
        need: dict[str, float] = {"CPU": self.cpus}
        if self.gpus:
            need["GPU"] = self.gpus
        if self.accelerator:
            need[f"accelerator_type:{self.accelerator}"] = 0.001
        return need

    def __str__(self) -> str:
        each = f"{self.cpus} thread{'s' * (self.cpus > 1)}"
        gpu = self.accelerator or self.gpu_type or "GPU"
        each += f" and {self.gpus:g} {gpu}" if self.gpus else ""
        count = self.count or 1
        workers = f"{self.workers} workers x " if self.workers > 1 else ""
        return f"{count} lane{'s' * (count > 1)} x {workers}{each}"


def batch_sizes(recipe: Recipe, kinds: Iterable[str]) -> dict[str, int]:
    """Look up the batch size of each phase whose batches are divided: preparations have none."""
    # what is fitted (PCA, a tokeniser) has no batch of its own to divide
    evaluations = component_names("evaluation")
    sections = {
        kind: recipe.pretrain if kind == "pretrain" else recipe.chosen("evaluation", kind)
        for kind in kinds
        if kind == "pretrain" or kind in evaluations
    }
    return {kind: s.batch_size for kind, s in sections.items() if hasattr(s, "batch_size")}


def division_lines(recipe: Recipe, kinds: Iterable[str], lanes: Lanes) -> list[str]:
    """Say in lines how a recipe's batches are divided; none where they are not.

    On a GPU of a known type by its memory; of an unknown one a lane says it when it starts.

    Raises:
        UserError: one cannot be divided evenly.
    """
    gpu_type = lanes.accelerator or lanes.gpu_type
    lines, memory = {}, ACCELERATOR_GIB.get(gpu_type, 0) * 2**30 * min(1.0, lanes.gpus)
    for kind, batch in batch_sizes(recipe, kinds).items():
        # as large as the user, a CPU's caches or a GPU's memory allow
        at_most = lanes.micro_batch
        if kind == "pretrain":
            at_most = limit_micro_batch(recipe, lanes.workers, at_most, lanes.gpus > 0)
        needed = training_memory(recipe, kind) if memory else None
        if needed:
            at_most = fit_micro_batch(batch, lanes.workers, at_most, memory, needed)
        if needed and kind == "pretrain" and count_that_fit(memory, needed) < 2:
            remedy = "set pretrain.gradient_checkpointing=true"
            lines[f"not even two images fit into {gpu_type}, by the estimate: {remedy}"] = [kind]

        # one line for all phases that are divided alike
        images, times = split_batch(batch, lanes.workers, at_most)
        if (images, times) != (batch, 1):
            workers = f"{lanes.workers} worker{'s' * (lanes.workers > 1)}"
            line = f"batch {batch} = {workers} x {images} images x {times} accumulated"
            lines.setdefault(line, []).append(kind)
    return [f"{line} ({', '.join(kinds)})" for line, kinds in lines.items()]


def require_even_batches(trials: Iterable[Trial], lanes: Lanes) -> None:
    """Raise UserError if a batch of one of the trials cannot be divided evenly."""
    phases = [phase for trial in trials for phase in trial.phases]
    for batch in {b for p in phases for b in batch_sizes(p.recipe, [p.kind]).values()}:
        split_batch(batch, lanes.workers, lanes.micro_batch)
