"""One trial: its phases in order, skipping what the store has. Knows nothing of Ray."""

import traceback
from collections.abc import Callable
from pathlib import Path

from mae_ablation.phases.linear_probe import linear_probe
from mae_ablation.phases.pretrain import pretrain
from mae_ablation.phases.run import PhaseRun
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.plan import Trial


def run_trial(
    trial: Trial,
    store: Path,
    *,
    device: str = "cpu",
    commit: str = "unknown",
    report: Callable[[dict], None] = lambda progress: None,
) -> str | None:
    """Run the unfinished phases of a trial.

    A phase that raises is marked failed in its folder, with the traceback; the phases after it are
    not tried. Returns the reason in one line, None if all went well.
    """
    upstream: PhaseFolder | None = None
    for phase in trial.phases:
        folder = phase.folder(Store(store))
        if folder.result() is None:
            try:
                folder.begin(phase.document)
                run = PhaseRun(folder=folder, device=device, commit=commit, report=report)
                if phase.kind == "pretrain":
                    result = pretrain(trial.recipe, trial.seed, run)
                else:
                    result = linear_probe(
                        trial.recipe, trial.seed, run, source=trial.source, upstream=upstream
                    )
                folder.finish({"phase": phase.kind, "identity": phase.identity, **result})
            except Exception as error:
                reason = f"{phase.kind}: {type(error).__name__}: {error}".splitlines()[0]
                folder.fail(reason, traceback.format_exc())
                return reason
        upstream = folder
    return None
