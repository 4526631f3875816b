"""One trial: its phases in order, skipping what the store has. Knows nothing of Ray."""

import traceback
from collections.abc import Callable
from pathlib import Path

from mae_ablation.phases.knn import knn
from mae_ablation.phases.linear_probe import linear_probe
from mae_ablation.phases.pca import pca
from mae_ablation.phases.pretrain import pretrain
from mae_ablation.phases.run import PhaseRun
from mae_ablation.phases.supervised import supervised
from mae_ablation.phases.tokenizer import tokenizer
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.trial import Phase, Trial


def run_trial(
    trial: Trial,
    store: Path | str,
    *,
    device: str = "cpu",
    commit: str = "unknown",
    lanes: int = 1,
    report: Callable[[dict], None] = lambda progress: None,
) -> str | None:
    """Run the unfinished phases of a trial.

    A phase that raises is marked failed in its folder, with the traceback. Without its
    pre-training no evaluation is tried; one evaluation that fails leaves the others alone.

    Returns the first reason in one line, None if all went well.
    """
    needed = trial.needs.phases[0] if trial.needs else None
    upstream: PhaseFolder | None = needed.folder(Store(store)) if needed else None
    reasons = []
    for phase in trial.phases:
        folder = phase.folder(Store(store))
        run = PhaseRun(
            folder=folder,
            device=device,
            commit=commit,
            prefix=phase.prefix,
            lanes=lanes,
            report=report,
        )
        if folder.result() is None and (reason := run_phase(trial, phase, run, upstream)):
            reasons.append(reason)
            if phase.kind == "pretrain":
                break
        if phase.kind == "pretrain":
            upstream = folder
    return reasons[0] if reasons else None


def run_phase(
    trial: Trial, phase: Phase, run: PhaseRun, upstream: PhaseFolder | None
) -> str | None:
    """Run one phase into its folder; returns the reason if it failed."""
    try:
        run.folder.begin(phase.document)
        result = result_of(trial, phase, run, upstream)
        run.folder.finish({"phase": phase.kind, "identity": phase.identity, **result})
        return None
    except Exception as error:
        reason = f"{phase.kind}: {type(error).__name__}: {error}".splitlines()[0]
        run.folder.fail(reason, traceback.format_exc())
        return reason


def result_of(trial: Trial, phase: Phase, run: PhaseRun, upstream: PhaseFolder | None) -> dict:
    """What the phase's training returns."""
    recipe, seed = phase.recipe, trial.seed
    if phase.kind == "pca":
        return pca(recipe, run)
    if phase.kind == "tokenizer":
        return tokenizer(recipe, run)
    if phase.kind == "pretrain":
        return pretrain(recipe, seed, run, upstream)
    if phase.kind in ("linear_probe", "knn"):
        evaluation = linear_probe if phase.kind == "linear_probe" else knn
        return evaluation(recipe, seed, run, source=trial.source, upstream=upstream)
    return supervised(recipe, phase.kind, seed, run, upstream)
