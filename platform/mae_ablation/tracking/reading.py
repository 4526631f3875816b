"""Results of phases from MLflow alone, for whoever has the study and the code but no store."""

from pathlib import Path

from mae_ablation.study.errors import UserError, unknown
from mae_ablation.study.plan import Plan
from mae_ablation.study.trial import Phase
from mae_ablation.tracking.address import database, run_url, server
from mae_ablation.tracking.client import client_to_read
from mae_ablation.tracking.phase_tags import FAILURE, RESULT, read
from mae_ablation.tracking.runs import PHASES, all_runs

LINE = 200  # characters of what MLflow says of a failure


class MlflowReadings:
    """What `report.results.Readings` reads from the store, from one study's experiment.

    One query when it is made (in pages of 1,000 runs), none later. What is not there is missing.
    """

    def __init__(self, plan: Plan, root: Path) -> None:
        """`root`: folder of mlflow.db, where MLFLOW_TRACKING_URI does not say otherwise.

        Raises:
            UserError: MLflow does not answer, or does not know the study, or an older version of
                this package has logged it.
        """
        self._results: dict[str, dict] = {}
        self._failures: dict[str, dict] = {}
        self._links: dict[str, str] = {}
        place = server() or str(database(root))
        if not server() and not Path(place).exists():
            raise UserError("there is no such file, so no study to report of", place)
        try:
            self._read(plan.study.experiment, root, place)
        except UserError:
            raise
        except Exception as error:  # whatever MLflow, its database or the network may raise
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"cannot read MLflow: {line[:LINE]}", place) from None

    def of(self, phase: Phase) -> dict | None:
        """Result of a finished phase."""
        return self._results.get(phase.identity)

    def failure(self, phases: list[Phase]) -> dict | None:
        """Why the first of the phases that failed did so; None if none did."""
        reasons = (self._failures.get(phase.identity) for phase in phases)
        return next(filter(None, reasons), None)

    def finished(self, plan: Plan) -> list[dict]:
        """The result of every finished training of a plan, each once."""
        phases = {phase.identity: phase for trial in plan.trials for phase in trial.phases}
        return [result for phase in phases.values() if (result := self.of(phase))]

    def links(self) -> dict[str, str]:
        """The run's page by a trial's result_id, joined by commas."""
        return self._links

    def _read(self, name: str, root: Path, place: str) -> None:
        client = client_to_read(root)
        experiment = client.get_experiment_by_name(name)
        if experiment is None or experiment.lifecycle_stage != "active":
            known = [each.name for each in client.search_experiments()]
            raise UserError(unknown("experiment", name, known), place)
        older = 0
        for run in all_runs(client, experiment.experiment_id):
            tags = run.data.tags
            if PHASES not in tags:
                continue
            results = read(tags, RESULT)
            self._results |= results
            self._failures |= read(tags, FAILURE)
            self._links[tags[PHASES]] = run_url(experiment.experiment_id, run.info.run_id)
            told = set(tags[PHASES].split(",")) <= results.keys()
            older += run.info.status == "FINISHED" and not told
        self._failures = {i: f for i, f in self._failures.items() if i not in self._results}
        if older:
            message = (
                f"{older} runs of {name} were logged by an older version, which said too little: "
                f"run the study once more where its store is"
            )
            raise UserError(message, place)
