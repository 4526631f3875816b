"""Results of phases as a store has them, each read once; light enough for a plan."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.folder import Store
from mae_ablation.store.predictions import Predictions, predictions_of
from mae_ablation.study.plan import Plan, Row, is_stopped, pick_best
from mae_ablation.study.trial import Phase, Trial

if TYPE_CHECKING:
    import pandas as pd


class Readings:
    """Results of phases, each read from the store once: many cells rest on the same training."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._results: dict[str, dict | None] = {}
        self._damaged: dict[str, dict] = {}
        self._answers: dict[str, Predictions | None] = {}

    def read_result(self, phase: Phase) -> dict | None:
        """Return a phase's result; None while there is none, or where it is damaged."""
        if phase.identity not in self._results:
            try:
                self._results[phase.identity] = phase.folder(self._store).result()
            except Damaged as error:
                self._results[phase.identity] = None
                self._damaged[phase.identity] = {"reason": str(error)}
        return self._results[phase.identity]

    def read_predictions(self, phase: Phase) -> Predictions | None:
        """Return an evaluation's answers to the test images; None where none are kept."""
        if phase.identity not in self._answers:
            try:
                found = predictions_of(phase.folder(self._store), self.read_result(phase) or {})
            except (Damaged, ValueError):
                found = None
            self._answers[phase.identity] = found
        return self._answers[phase.identity]

    def find_failure(self, phases: list[Phase]) -> dict | None:
        """Return why the first of the phases that failed did so; None if none did."""
        for phase in phases:
            folder = phase.folder(self._store)
            if reason := self._damaged.get(phase.identity) or folder.failure():
                return reason
        return None

    def is_stopped(self, phase: Phase) -> bool:
        """Say whether the search that a phase belongs to has stopped it early."""
        return is_stopped(phase, self._store)


class FreshReadings(Readings):
    """Readings that look again for what was missing."""

    def read_result(self, phase: Phase) -> dict | None:
        if self._results.get(phase.identity) is None:
            self._results.pop(phase.identity, None)
        return super().read_result(phase)


def finished_results(plan: Plan, readings: Any) -> list[dict]:
    """Return the result of every finished training of a plan, each once."""
    phases = {phase.identity: phase for trial in plan.trials for phase in trial.phases}
    return [result for phase in phases.values() if (result := readings.read_result(phase))]


def phases_behind(trial: Trial, column: str) -> list[Phase]:
    """Return the phases that have to be finished for a value, pre-training first."""
    return [p for p in trial.phases if p.kind == "pretrain" or p.column == column]


def shown_result(trial: Trial, column: str, readings: Any) -> tuple[Phase, dict] | None:
    """Return the evaluation that a table shows and its result, chosen on validation where several
    were tried; None while one of the phases behind it has no result."""
    phases = phases_behind(trial, column)
    results = [readings.read_result(phase) for phase in phases]
    if not all(results):
        return None
    return pick_best(
        [pair for pair in zip(phases, results, strict=True) if pair[0].column == column]
    )


def read_accuracies(row: Row, column: str, seeds: Sequence[int], readings: Any) -> dict[int, float]:
    """Return a row's finished test accuracies by seed."""
    found = ((seed, shown_result(row.trials[seed], column, readings)) for seed in seeds)
    return {seed: pair[1]["test_acc1"] for seed, pair in found if pair is not None}


def is_tested(row: Row, baseline: Row, column: str) -> bool:
    """Say whether a row is compared with the baseline: references have some evaluations only, and
    the baseline's own training is no test."""
    mine, theirs = (
        [phase.identity for phase in each.tries[0].some.phases if phase.column == column]
        for each in (row, baseline)
    )
    return bool(mine) and mine != theirs


def trials_behind(
    plan: Plan, results: "pd.DataFrame", metric: str, number: int
) -> dict[int, Trial]:
    """Return by seed the trial whose value a row shows; until a try is chosen the first one's.

    Args:
        number: of the row in the plan, references after levels.
    """
    tries = (*plan.rows, *plan.references)[number].tries
    mine = results[(results["metric"] == metric) & (results["row"] == number)]
    found = {}
    for seed, identity in mine[["seed", "trial_id"]].itertuples(index=False):
        tried = [each.trials[seed] for each in tries]
        shown = (t for t in tried if any(phase.identity == identity for phase in t.phases))
        found[seed] = next(shown, tried[0])
    return found
