"""One trial: its phases in order, skipping what the store has. Knows nothing of Ray."""

import traceback
from collections.abc import Callable
from pathlib import Path

from mae_ablation.phases.linear_probe import linear_probe
from mae_ablation.phases.pretrain import pretrain
from mae_ablation.phases.run import PhaseRun
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.plan import Phase, Trial


def run_trial(
    trial: Trial,
    store: Path,
    *,
    device: str = "cpu",
    commit: str = "unknown",
    report: Callable[[dict], None] = lambda progress: None,
) -> str | None:
    """Run the unfinished phases of a trial.

    A phase that raises is marked failed in its folder, with the traceback. Without its
    pre-training no evaluation is tried; one evaluation that fails leaves the others alone.

    Returns the first reason in one line, None if all went well.
    """
    upstream: PhaseFolder | None = None
    reasons = []
    for phase in trial.phases:
        folder = phase.folder(Store(store))
        run = PhaseRun(folder=folder, device=device, commit=commit, report=report)
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
        if phase.kind == "pretrain":
            result = pretrain(phase.recipe, trial.seed, run)
        else:
            result = linear_probe(
                phase.recipe, trial.seed, run, source=trial.source, upstream=upstream
            )
        run.folder.finish({"phase": phase.kind, "identity": phase.identity, **result})
        return None
    except Exception as error:
        reason = f"{phase.kind}: {type(error).__name__}: {error}".splitlines()[0]
        run.folder.fail(reason, traceback.format_exc())
        return reason
