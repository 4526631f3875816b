"""Shows plans in MLflow: one experiment per study, one flat run per trial, phases as prefixes.

The driver's thread is the only writer. It reads the store, so training never waits for it, and an
MLflow that is away delays the view and loses nothing: the same command again catches up.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

from mae_ablation.study.plan import Plan

EVERY_S = 1.0


class Tracker(threading.Thread):
    """Keeps MLflow in step with the store until `close`."""

    def __init__(self, plans: Sequence[Plan], root: Path) -> None:
        super().__init__(name="tracker", daemon=True)
        self._plans, self._root = plans, root
        self._closing = threading.Event()
        self._experiments: list = []
        self.trouble: str | None = None
        """why the last look failed; None if it did not"""

    def run(self) -> None:
        while not self._closing.wait(EVERY_S):
            self._try(self._look)
        self._try(self._look)

    def close(self, reports: dict[str, list[Path]]) -> None:
        """Wait for the last look, then log each experiment's report in a run of its own."""
        self._closing.set()
        self.join()
        for experiment in self._experiments if reports and self.trouble is None else ():
            files = reports[experiment.name]
            self._try(lambda experiment=experiment, files=files: experiment.log_report(files))

    def experiment_ids(self) -> list[str]:
        """Of the experiments that are there, in the order of the plans."""
        return [e.experiment_id for e in self._experiments if e.experiment_id]

    def _try(self, action) -> None:
        try:
            action()
            self.trouble = None
        except Exception as error:  # whatever MLflow, its database or the network may raise
            self.trouble = f"{type(error).__name__}: {error}".splitlines()[0]

    def _look(self) -> None:
        if not self._experiments:
            from mae_ablation.tracking.client import connect
            from mae_ablation.tracking.experiment import Experiment

            client = connect(self._root)
            self._experiments = [Experiment(client, plan) for plan in self._plans]
        for experiment in self._experiments:
            experiment.look()
