"""Reads results from MLflow alone, for whoever has the study and the code but no store."""

from pathlib import Path

from mae_ablation.errors import UserError, unknown
from mae_ablation.store.waiting import waiting
from mae_ablation.study.plan import Plan, is_stopped_by
from mae_ablation.study.trial import Phase
from mae_ablation.tracking.address import hide_password, run_url, server_uri, tracking_place
from mae_ablation.tracking.client import client_to_read
from mae_ablation.tracking.phase_tags import FAILURE, RESULT, STOPPED, read_phase_tags
from mae_ablation.tracking.runs import phases_of, search_runs

MOST_OF_FAILURE = 200  # characters of what MLflow says of a failure


class MlflowReadings:
    """Reads from one study's experiment what `report.readings.Readings` reads from the store.

    One query when it is made (in pages of 1,000 runs), none later. What is not there is missing.
    """

    def __init__(self, plan: Plan, root: Path) -> None:
        """`root`: folder of mlflow.db, where MLFLOW_TRACKING_URI does not say otherwise.

        Raises:
            UserError: MLflow does not answer, or does not know the study.
        """
        self._results: dict[str, dict] = {}
        self._failures: dict[str, dict] = {}
        self._stops: dict[str, dict] = {}
        self._links: dict[str, str] = {}
        # SQLite would make a file that is not there
        place = tracking_place(root)
        if not server_uri() and not Path(place).exists():
            raise UserError("there is no such file, so no study to report of", place)
        try:
            with waiting(f"MLflow at {place}"):
                self._read(plan, root, place)
        except UserError:
            raise
        except Exception as error:  # whatever MLflow, its database or the network may raise
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            line = hide_password(line)[:MOST_OF_FAILURE]
            raise UserError(f"cannot read MLflow: {line}", place) from None

    def read_result(self, phase: Phase) -> dict | None:
        """Return a phase's result; None while there is none."""
        return self._results.get(phase.identity)

    def read_predictions(self, phase: Phase) -> None:
        """Return None: answers to single test images are in the store alone."""

    def find_failure(self, phases: list[Phase]) -> dict | None:
        """Return why the first of the phases that failed did so; None if none did."""
        reasons = (self._failures.get(phase.identity) for phase in phases)
        return next(filter(None, reasons), None)

    def is_stopped(self, phase: Phase) -> bool:
        """Say whether the search that a phase belongs to has stopped it early."""
        return is_stopped_by(phase, self._stops.get(phase.identity))

    def links(self) -> dict[str, str]:
        """Return the run's page by a trial's result_id, joined by commas."""
        return self._links

    def _read(self, plan: Plan, root: Path, place: str) -> None:
        client = client_to_read(root)
        experiment = client.get_experiment_by_name(plan.study.experiment)
        if experiment is None or experiment.lifecycle_stage != "active":
            known = [each.name for each in client.search_experiments()]
            raise UserError(unknown("experiment", plan.study.experiment, known), place)

        # runs of the study's trials; others are the report's, or a level's that it no longer has
        wanted = {identity for trial in plan.cells for identity in trial.result_id}
        for run in search_runs(client, experiment.experiment_id):
            phases, tags = phases_of(run.data.tags), run.data.tags
            if not wanted.isdisjoint(phases):
                self._results |= read_phase_tags(tags, RESULT)
                self._failures |= read_phase_tags(tags, FAILURE)
                self._stops |= read_phase_tags(tags, STOPPED)
                self._links[",".join(phases)] = run_url(experiment.experiment_id, run.info.run_id)
        self._failures = {i: f for i, f in self._failures.items() if i not in self._results}
