"""One trial: runs its phases in order, except those that the store has. Knows nothing of Ray."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mae_ablation.errors import one_line
from mae_ablation.registry import find_component
from mae_ablation.store.claim import Claim
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.trial import Phase, Trial
from mae_ablation.train.device import free_gpu_memory, usable_gpu_bytes
from mae_ablation.train.evaluation import clear_features, evaluate
from mae_ablation.train.hardware import is_hardware_error
from mae_ablation.train.precision import switch_tf32
from mae_ablation.train.preparation import fit_target
from mae_ablation.train.pretrain import pretrain
from mae_ablation.train.run import Busy, PhaseRun, Stopped
from mae_ablation.train.workers import Workers


def run_trial(trial: Trial, store: str | Path, *, owner: str = "", **run_as: Any) -> str | None:
    """Run the unfinished phases of a trial.

    A phase that raises is marked failed in its folder, with the traceback. Without its
    pre-training no evaluation is tried; one evaluation that fails leaves the others alone.

    Every worker calls this. An error that only one of them meets is raised: the others may wait for
    it, so all have to be started again together.

    Args:
        owner: name in the claims of its phases (store/claim.py).
        run_as: fields of each phase's `PhaseRun`: device, commit, lanes, workers and so on.

    Returns the first failure in one line, or None. A store that cannot be read or written is a
    failure, too.

    Raises:
        Stopped: asked to; what was reached is in a checkpoint.
        Busy: another run is at work on one of the phases.
    """
    workers, device = run_as.get("workers", Workers()), run_as.get("device", "cpu")
    free_gpu_memory(device)
    if device.startswith("cuda"):
        # the least of all ranks: they take micro-batches of one size
        run_as["memory_bytes"] = workers.agree_on_least(usable_gpu_bytes(workers.gpu_share))
    try:
        return run_phases(trial, Store(store), workers, owner, run_as)
    finally:
        # lanes that share a GPU may need it before this one has another trial
        clear_features()
        free_gpu_memory(device)


def run_phases(
    trial: Trial, place: Store, workers: Workers, owner: str, run_as: dict[str, Any]
) -> str | None:
    """Run the unfinished phases in order. Arguments and result as in `run_trial`."""
    upstream, reasons = None, []

    def find_folder(phase: Phase) -> PhaseFolder:
        return PhaseFolder(place.files, workers.on_rank_zero(lambda: phase.folder(place).name))

    # what each phase builds on: a fitted target, then the pre-training
    needed = trial.needs.phases[0] if trial.needs else None
    for phase in trial.phases:
        if trains_encoder(phase):
            clear_features()  # the encoder and its features would take a training's memory
        try:
            if needed is not None:
                upstream, needed = find_folder(needed), None
            run = PhaseRun(folder=find_folder(phase), prefix=phase.prefix, **run_as)
            reason = run_if_missing(trial, phase, run, upstream, owner)
        except OSError as error:  # the store is away before, or after, the phase is at work
            if not workers.is_raised_everywhere(error):
                raise
            reason = explain_failure(phase.kind, error)
        if reason:
            reasons.append(reason)
        if phase.kind == "pretrain":
            if reason:
                break  # there is nothing to evaluate
            upstream = run.folder
    return reasons[0] if reasons else None


def run_if_missing(
    trial: Trial, phase: Phase, run: PhaseRun, upstream: PhaseFolder | None, owner: str
) -> str | None:
    """Claim and run a phase that has no result yet; returns the reason if it failed."""

    def is_finished() -> bool:
        return run.workers.on_rank_zero(lambda: run.folder.result() is not None)

    if is_finished():
        return None
    if run.workers.broadcast(run.stop()):
        raise Stopped(f"stopped before {run.folder.name}")
    with hold_claim(run, owner):
        # another run may have had the claim until now
        return None if is_finished() else run_phase(trial, phase, run, upstream)


@contextmanager
def hold_claim(run: PhaseRun, owner: str) -> Iterator[None]:
    """Hold the phase's claim during the block; rank zero takes it for all. Raises Busy."""
    # only rank zero holds it, every rank hears whether it did
    claim: Claim | None = None

    def take() -> bool:
        nonlocal claim
        claim = run.folder.claim(owner)
        return claim is not None

    try:
        if not run.workers.on_rank_zero(take):
            raise Busy(f"{run.folder.name} is at work in another run")
        run.folder.files.refresh()  # on every worker: all must see what rank zero has written
        yield
    finally:
        if claim is not None:
            with suppress(OSError):  # a claim that is not renewed runs out by itself
                claim.release()


def run_phase(
    trial: Trial, phase: Phase, run: PhaseRun, upstream: PhaseFolder | None
) -> str | None:
    """Run one phase into its folder; returns the reason if it failed."""
    workers = run.workers
    switch_tf32(False)  # torch's own default allows it to cuDNN; a precision may, for its training
    # the result is written last and at once: a phase has one only if all of it was done
    try:
        workers.on_rank_zero(lambda: run.folder.begin(phase.document))
        result = train_within_memory(trial, phase, run, upstream)
        whole = {"phase": phase.kind, "identity": phase.identity, **result}
        workers.on_rank_zero(lambda: run.folder.finish(whole))
        return None
    except (Stopped, Busy):
        raise
    except Exception as error:
        if run.device.startswith("cuda") and is_hardware_error(error):
            raise  # the lane puts the trial back: it is tried again on another GPU
        reason, shared = explain_failure(phase.kind, error), workers.is_raised_everywhere(error)
        with suppress(Exception):  # the store may be what failed: the reason is returned, too
            # what only one worker meets ends the others a little later: the first reason is kept
            if workers.rank == 0 if shared else run.folder.failure() is None:
                run.folder.fail(reason, traceback.format_exc())
        if not shared:
            raise
    free_gpu_memory(run.device)  # here the failed phase's tensors are no longer held
    return reason


def explain_failure(kind: str, error: Exception) -> str:
    """Say in one line why a phase failed."""
    text = one_line(error)
    if isinstance(error, torch.OutOfMemoryError):
        remedy = (
            "set pretrain.gradient_checkpointing=true, or take" * (kind == "pretrain") or "take"
        )
        text = f"out of GPU memory at the smallest micro-batch: {remedy} a larger GPU ({text})"
    elif isinstance(error, MemoryError):
        text = f"out of main memory; try a smaller --micro-batch ({text})"
    return f"{kind}: {text}"


def train_within_memory(
    trial: Trial, phase: Phase, run: PhaseRun, upstream: PhaseFolder | None
) -> dict:
    """Run the phase's training; where a GPU's memory runs out, go on with half the micro-batch.

    It goes on from the last checkpoint. The batch and the loss stay the recipe's.
    """
    # each try loads, builds and resumes anew: nothing of the failed one is held meanwhile
    while True:
        try:
            return train_phase(trial, phase, run, upstream)
        except torch.OutOfMemoryError:
            smaller = run.division.get("micro_batch", 0) // 2
            if smaller < 2:
                raise
            run.folder.note_shortage(smaller)
            # the other ranks wait for gradients that do not come: all are started again together
            if run.workers.size > 1:
                raise
        free_gpu_memory(run.device)


def train_phase(trial: Trial, phase: Phase, run: PhaseRun, upstream: PhaseFolder | None) -> dict:
    """Run the phase's training; preparations run on rank zero while the others wait."""
    # what is fitted for a target is small: sharing it out would cost more than it saves
    recipe, seed = phase.recipe, trial.seed
    if trial.source == "prepare":
        alone = replace(run, workers=Workers())
        return run.workers.on_rank_zero(lambda: fit_target(recipe, alone))
    if phase.kind == "pretrain":
        return pretrain(recipe, seed, run, upstream)
    return evaluate(recipe, phase.kind, seed, run, source=trial.source, upstream=upstream)


def trains_encoder(phase: Phase) -> bool:
    """Tell whether the phase is an evaluation that trains the whole classifier."""
    return phase.is_evaluation and find_component("evaluation", phase.kind).cls.trains_encoder
