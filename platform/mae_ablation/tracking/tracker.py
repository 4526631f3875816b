"""Shows plans in MLflow: one experiment per study, one flat run per trial, phases as prefixes.

The driver's thread is the only writer. It reads the store, so training never waits for it, and an
MLflow that is away delays the view and loses nothing: it is tried again, and the same command
catches up. What comes again at every try is said with what to do about it.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from mae_ablation.errors import one_line
from mae_ablation.store.waiting import waiting
from mae_ablation.study.names import cut
from mae_ablation.study.plan import Plan
from mae_ablation.study.trouble import SAME_COMMAND, remedy_of
from mae_ablation.tracking.address import find_trouble, server_uri, tracking_place

EVERY_S = 1.0
AT_MOST_S = 10.0  # between two tries of an MLflow that is away
REST_PER_LOOK = 4  # a look that took a second is followed by four of rest
MOST_OF_TROUBLE = 200  # characters of a trouble


class Tracker(threading.Thread):
    """Keeps MLflow in step with the store until `close`."""

    def __init__(self, plans: Sequence[Plan], root: Path) -> None:
        super().__init__(name="tracker", daemon=True)
        self._plans, self._root = plans, root
        self._closing = threading.Event()
        self._experiments: list = []
        self._answers = False  # what MLflow did last
        self.trouble: str | None = None
        """Why not everything is shown, in a line; None if it is."""
        self.remedy = SAME_COMMAND
        """Remedy of the trouble."""

    def run(self) -> None:
        # an MLflow that is slow or away is asked less and less often
        pause = EVERY_S
        while not self._closing.wait(pause):
            began = time.monotonic()
            if self._try(self._look):
                pause = min(max(EVERY_S, REST_PER_LOOK * (time.monotonic() - began)), AT_MOST_S)
            else:
                pause = min(2 * pause, AT_MOST_S)
        self._try(self._look)  # what came since

    def finish(self) -> None:
        """Wait for the last look, which shows what is in the store by now."""
        self._closing.set()
        with waiting(f"MLflow to show what is in the store: {tracking_place(self._root)}"):
            self.join()

    def links(self, experiment: str) -> dict[str, str]:
        """Return, after `finish`, the page of each of its trials' runs by result_id joined by
        commas; none of an MLflow that is away."""
        shown = [e for e in self._experiments if e.name == experiment and self._answers]
        return {phases: url for e in shown for phases, url in e.links().items()}

    def close(self, reports: Mapping[str, Sequence[Path]], notes: Mapping[str, str]) -> None:
        """Finish, then log each experiment's report in a run of its own, with its note.

        An MLflow that is away is waited for as long as one call takes to give up, about 5 s.
        """
        self.finish()
        # an MLflow that is away gets no report: the same command catches up
        for experiment in self._experiments:
            files = reports.get(experiment.name)
            if files and self._answers:
                note = notes.get(experiment.name, "")
                self._try(partial(experiment.log_report, files, note))
            experiment.close()

    def leave(self) -> None:
        """Close without a report what was started: a run may end in many ways."""
        if self.ident is not None:
            self.close({}, {})

    def experiment_ids(self) -> list[str]:
        """List the ids of the experiments that are there, in the order of the plans."""
        return [e.experiment_id for e in self._experiments if e.experiment_id]

    def _try(self, action: Callable[[], None]) -> bool:
        """Say whether MLflow did what it was asked to."""
        try:
            action()
        except Exception as error:  # whatever MLflow, its database or the network may raise
            self.trouble, self.remedy = cut(one_line(error), MOST_OF_TROUBLE), remedy_of(error)
            self._answers = False
            return False

        # MLflow is well, but may have refused something of a study
        self._answers = True
        troubled = next((e for e in self._experiments if e.trouble), None)
        self.trouble = troubled.trouble if troubled else None
        self.remedy = troubled.remedy if troubled else SAME_COMMAND
        return True

    def _look(self) -> None:
        if not self._experiments:
            self._experiments = self._connect()
        for experiment in self._experiments:
            experiment.look()

    def _connect(self) -> list:
        from mae_ablation.tracking.client import LocalClient, WriteLock, open_client
        from mae_ablation.tracking.experiment import Experiment

        if server_uri() is None and (why := find_trouble(self._root)):
            raise OSError(why)  # MLflow itself would try for minutes

        # a database has one writer for each experiment, a server any number
        client = open_client(self._root)
        file = client.database if isinstance(client, LocalClient) else None
        locks = [file and WriteLock(file, plan.study.experiment) for plan in self._plans]
        return [Experiment(client, *pair) for pair in zip(self._plans, locks, strict=True)]
