"""Readings: what a store says of phases, each read once; light enough for a plan."""

from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.folder import Store
from mae_ablation.store.predictions import Predictions, predictions_of
from mae_ablation.study.plan import Plan
from mae_ablation.study.trial import Phase
from mae_ablation.study.tries import stopped


class Readings:
    """Results of phases, each read from the store once: many cells rest on the same training."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._results: dict[str, dict | None] = {}
        self._damaged: dict[str, dict] = {}
        self._answers: dict[str, Predictions | None] = {}

    def of(self, phase: Phase) -> dict | None:
        """None while there is none; a damaged one is none, and a failure."""
        if phase.identity not in self._results:
            try:
                self._results[phase.identity] = phase.folder(self._store).result()
            except Damaged as error:
                self._results[phase.identity] = None
                self._damaged[phase.identity] = {"reason": str(error)}
        return self._results[phase.identity]

    def answers(self, phase: Phase) -> Predictions | None:
        """What a finished evaluation answered to each test image; None where that was not kept, or
        is damaged, as `store verify` says."""
        if phase.identity not in self._answers:
            try:
                found = predictions_of(phase.folder(self._store), self.of(phase) or {})
            except (Damaged, ValueError):
                found = None
            self._answers[phase.identity] = found
        return self._answers[phase.identity]

    def failure(self, phases: list[Phase]) -> dict | None:
        """Why the first of the phases that failed did so; None if none did."""
        reasons = (
            self._damaged.get(phase.identity) or phase.folder(self._store).failure()
            for phase in phases
        )
        return next(filter(None, reasons), None)

    def stopped(self, phase: Phase) -> bool:
        """Whether the search that a phase belongs to has stopped it early."""
        return stopped(phase, self._store)

    def finished(self, plan: Plan) -> list[dict]:
        """The result of every finished training of a plan, each once."""
        phases = {phase.identity: phase for trial in plan.trials for phase in trial.phases}
        return [result for phase in phases.values() if (result := self.of(phase))]
