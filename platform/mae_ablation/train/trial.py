"""One trial: runs its phases in order, except those that the store has. Knows nothing of Ray."""

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from mae_ablation.errors import one_line
from mae_ablation.registry import find_component
from mae_ablation.store.claim import Claim
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.trial import Phase, Trial
from mae_ablation.train.evaluation import evaluate
from mae_ablation.train.features import clear_features
from mae_ablation.train.hardware import is_hardware_error
from mae_ablation.train.precision import Precision
from mae_ablation.train.preparation import prepare
from mae_ablation.train.pretrain import pretrain
from mae_ablation.train.run import Busy, PhaseRun, Stopped
from mae_ablation.train.workers import Workers


def run_trial(
    trial: Trial,
    store: str | Path,
    *,
    device: str = "cpu",
    commit: str = "unknown",
    lanes: int = 1,
    report: Callable[[dict], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
    workers: Workers = Workers(),  # noqa: B008 (frozen)
    owner: str = "",
    attempt: int = 1,
) -> str | None:
    """Run the unfinished phases of a trial.

    A phase that raises is marked failed in its folder, with the traceback. Without its
    pre-training no evaluation is tried; one evaluation that fails leaves the others alone.

    Every worker calls this. An error that only one of them meets is raised: the others may wait for
    it, so all have to be started again together.

    Args:
        stop: asked after every optimiser step; true: save and leave.
        owner: who claims the phases (store/claim.py).
        attempt: number of times the trial has been started, this time included.

    Returns the first failure in one line, or None. A store that cannot be read or written is a
    failure, too.

    Raises:
        Stopped: asked to; what was reached is in a checkpoint.
        Busy: another run is at work on one of the phases.
    """
    place, upstream, reasons = Store(store), None, []
    needed = trial.needs.phases[0] if trial.needs else None
    for phase in trial.phases:
        if phase is trial.phases[0] or trains_encoder(phase):
            clear_features()  # the encoder and its features would take a training's memory
        try:
            if needed is not None:
                upstream, needed = find_folder(needed, place, workers), None
            run = PhaseRun(
                folder=find_folder(phase, place, workers),
                device=device,
                commit=commit,
                prefix=phase.prefix,
                lanes=lanes,
                attempt=attempt,
                report=report,
                stop=stop,
                workers=workers,
            )
            reason = run_if_missing(trial, phase, run, upstream, owner)
        except OSError as error:  # the store is away before, or after, the phase is at work
            if not workers.is_raised_everywhere(error):
                raise
            reason = explain_failure(phase.kind, error)
        if reason:
            reasons.append(reason)
        if phase.kind == "pretrain":
            if reason:
                break
            upstream = run.folder
    return reasons[0] if reasons else None


def find_folder(phase: Phase, store: Store, workers: Workers) -> PhaseFolder:
    """Find the phase's folder, the same for all workers."""
    return PhaseFolder(store.files, workers.on_rank_zero(lambda: phase.folder(store).name))


def run_if_missing(
    trial: Trial, phase: Phase, run: PhaseRun, upstream: PhaseFolder | None, owner: str
) -> str | None:
    """Claim and run a phase that has no result yet; returns the reason if it failed."""
    if is_finished(run):
        return None
    if run.workers.broadcast(run.stop()):
        raise Stopped(f"stopped before {run.folder.name}")
    with hold_claim(run, owner):
        if is_finished(run):  # another run had the claim until now
            return None
        return run_phase(trial, phase, run, upstream)


def is_finished(run: PhaseRun) -> bool:
    """Tell whether the phase has a result."""
    return run.workers.on_rank_zero(lambda: run.folder.result() is not None)


@contextmanager
def hold_claim(run: PhaseRun, owner: str) -> Iterator[None]:
    """Hold the phase's claim during the block; rank zero takes it for all. Raises Busy."""
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
    Precision("float32", run.device)  # what an earlier phase of this process set ends with it
    try:
        workers.on_rank_zero(lambda: run.folder.begin(phase.document))
        result = train_phase(trial, phase, run, upstream)
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
    if run.device.startswith("cuda"):  # here the failed phase's tensors are no longer held
        gc.collect()
        torch.cuda.empty_cache()
    return reason


def explain_failure(kind: str, error: Exception) -> str:
    """Say in one line why a phase failed."""
    text = one_line(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        where = "GPU" if isinstance(error, torch.OutOfMemoryError) else "main"
        text = f"out of {where} memory; try a smaller --micro-batch ({text})"
    return f"{kind}: {text}"


def train_phase(trial: Trial, phase: Phase, run: PhaseRun, upstream: PhaseFolder | None) -> dict:
    """Run the phase's training; preparations run on rank zero while the others wait."""
    recipe, seed = phase.recipe, trial.seed
    if trial.source == "prepare":
        alone = replace(run, workers=Workers())
        return run.workers.on_rank_zero(lambda: prepare(recipe, alone))
    if phase.kind == "pretrain":
        return pretrain(recipe, seed, run, upstream)
    return evaluate(recipe, phase.kind, seed, run, source=trial.source, upstream=upstream)


def trains_encoder(phase: Phase) -> bool:
    return phase.is_evaluation and find_component("evaluation", phase.kind).cls.trains_encoder
