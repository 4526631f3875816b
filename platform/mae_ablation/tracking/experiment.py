"""One study's experiment in MLflow: a run for every trial, one for the report."""

from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from mae_ablation.store.checkpoint import Damaged
from mae_ablation.study.plan import Plan
from mae_ablation.study.trial import Phase, Trial, training_images
from mae_ablation.study.tries import stopped
from mae_ablation.tracking.description import (
    factor_metrics,
    finished_at,
    metrics_of,
    params_of,
    picture_key,
    places_of,
    result_metrics,
    result_tags,
    run_name,
    settings_of,
    tags_of,
)
from mae_ablation.tracking.runs import PHASES, Known, Runs
from mae_ablation.tracking.turn import Turn
from mae_ablation.tracking.uploader import Uploader
from mae_ablation.tracking.views import save_trials_view

ANOTHER = "another run is writing it"
REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
"""of one trial's data, such as a param that already has another value; the others go on"""


@dataclass(slots=True)
class Shown:
    """A trial that has a run."""

    run_id: str
    uploader: Uploader
    results: dict[str, dict] = field(default_factory=dict)
    """by identity, of phases that are all sent: neither they nor their journals are read again"""
    failed: bool = False
    """or stopped by a search"""


class Experiment:
    """Brings a study's experiment up to the state of the store, again and again.

    Whoever runs the trials: what counts is what is in the store.
    """

    def __init__(self, client: MlflowClient, plan: Plan, turn: Turn | None = None) -> None:
        """`turn`: held by the one process that may write; None: a server, where several may."""
        self._client, self._plan, self._turn = client, plan, turn
        self.name = plan.study.experiment
        self.experiment_id: str | None = None
        self.trouble: str | None = None
        """why something is not shown, where MLflow itself is well"""
        self._runs: Runs | None = None
        self._open = list(plan.cells)  # trials that need a further look
        self._shown: dict[tuple, Shown] = {}
        self._places = places_of(plan.study)

    def look(self) -> None:
        """Send what is new in the store. Raises what MLflow raises; then nothing is lost."""
        if self._turn and not self._turn.take():
            self.trouble = ANOTHER
            return
        if self.trouble == ANOTHER:
            self.trouble = None
        if self._runs is None:
            self.experiment_id = self._find_or_create()
            self._runs = Runs(self._client, self.experiment_id, alone=self._turn is not None)
        begun = self._begun()
        closed = set()
        try:
            for trial in self._open:
                if begun.isdisjoint(trial.result_id):
                    continue
                if self._try_to_show(trial):
                    closed.add(trial.result_id)
        finally:
            self._open = [trial for trial in self._open if trial.result_id not in closed]

    def close(self) -> None:
        """Let another process write."""
        if self._turn:
            self._turn.give_back()

    def _begun(self) -> set[str]:
        """Identities of the phases that have a folder: a listing per kind, however many trials."""
        kinds = {phase.kind for trial in self._open for phase in trial.phases}
        files = self._plan.store.files
        return {name.rsplit("-", 1)[-1] for kind in kinds for name in files.names(kind)}

    def _try_to_show(self, trial: Trial) -> bool:
        try:
            return self._show(trial)
        except Exception as error:
            self._shown.pop(trial.result_id, None)  # what of it arrived, MLflow knows
            if isinstance(error, Damaged):  # the store's fault: the other trials are shown
                self.trouble = self.trouble or str(error)
                return False
            if not isinstance(error, MlflowException) or error.error_code not in REFUSALS:
                raise
            first = str(error).splitlines()[0]
            self.trouble = self.trouble or f"{trial.label} is not shown: {first}"
            return True

    def _show(self, trial: Trial) -> bool:
        """Bring a trial's run up to date; returns whether it needs no further look."""
        shown = self._shown.get(trial.result_id)
        tags, params, facts = {}, [], []
        if shown is None:
            known = self._run(trial)
            if known.status == "FINISHED":
                return True
            if not known.made:  # a new run has them
                tags = {**tags_of(self._plan, trial), PHASES: ",".join(trial.result_id)}
            params = params_of(self._plan, trial)
            facts = factor_metrics(params, self._places)
            self._client.log_text(known.run_id, settings_of(trial), "config.yaml")
            shown = Shown(known.run_id, Uploader(self._client, known.run_id, empty=known.made))
            known.made = False
        working = [phase for phase in trial.phases if phase.identity not in shown.results]
        new = self._results(working)  # before the journals: they end first
        results = {**shown.results, **new}
        if new:
            facts += result_metrics(trial, results, set(new), self._plan.study.columns)
            tags |= result_tags([results[i] for i in trial.result_id if i in results])
        self._send(trial, shown, working, facts, params, tags)
        self._shown[trial.result_id] = shown
        shown.results = results
        if len(results) == len(trial.phases):
            self._client.set_terminated(
                shown.run_id, "FINISHED", end_time=finished_at(results[trial.result_id[-1]])
            )
            del self._shown[trial.result_id]
            return True
        self._mark(shown, [phase for phase in working if phase.identity not in new])
        return False

    def _results(self, phases: list[Phase]) -> dict[str, dict]:
        found = {phase.identity: phase.folder(self._plan.store).result() for phase in phases}
        return {identity: result for identity, result in found.items() if result}

    def _send(
        self, trial: Trial, shown: Shown, working: list[Phase], facts: list, params: list, tags
    ) -> None:
        """What the journals have more, with everything else, in one call; then the pictures."""
        needed = list(trial.needs.phases) if trial.needs and not shown.results else []
        journals = [phase.folder(self._plan.store).journal for phase in needed + working]
        tags = [RunTag(key, value) for key, value in tags.items()]
        shown.uploader.send(journals, facts, params, tags)
        for phase in working:
            if phase.kind == "pretrain":
                folder = phase.folder(self._plan.store)
                shown.uploader.send_pictures(folder, picture_key(trial))

    def _mark(self, shown: Shown, unfinished: list[Phase]) -> None:
        """A trial that failed as failed, one that a search stopped as killed, one that is tried
        again as running."""
        store = self._plan.store
        folders = [phase.folder(store) for phase in unfinished]
        failure = next((why for folder in folders if (why := folder.failure())), None)
        early = [phase for phase in unfinished if stopped(phase, store)]
        if failure and not shown.failed:
            self._client.set_tag(shown.run_id, "error", failure["reason"])
            self._client.set_terminated(shown.run_id, "FAILED")
        elif early and not shown.failed:
            failure = early[0].folder(store).stopped()
            self._client.set_tag(shown.run_id, "stopped", failure["reason"])
            self._client.set_terminated(shown.run_id, "KILLED")
        elif early:
            return
        elif shown.failed and not failure:
            self._client.update_run(shown.run_id, status="RUNNING")
        shown.failed = bool(failure)

    def _run(self, trial: Trial) -> Known:
        """The trial's run: the one that has its phases, or a new one; its status is FINISHED where
        nothing is to be added.

        An evaluation more than last time goes on in the same run.
        """
        known = self._runs.of(trial.result_id)
        if known is None:
            return self._runs.make(run_name(trial), trial.result_id, tags_of(self._plan, trial))
        factors = self._plan.study.factors if trial.source == "pretrain" else ()
        described = all(factor.name in known.params for factor in factors)  # the study may grow
        if known.status == "FINISHED" and described and known.phases == trial.result_id:
            return known
        if known.status != "RUNNING":
            self._client.update_run(known.run_id, status="RUNNING")
        known.status, known.phases = "RUNNING", trial.result_id
        return known

    def _find_or_create(self) -> str:
        found = self._client.get_experiment_by_name(self.name)
        if found is not None:
            experiment_id = found.experiment_id
        else:
            experiment_id = self._client.create_experiment(
                self.name, artifact_location=f"mlflow-artifacts:/{self.name}"
            )
        self._client.set_experiment_tag(
            experiment_id, "mlflow.experimentKind", "custom_model_development"
        )
        study = self._plan.study
        recipe = study.baseline
        steps = training_images(recipe, self._plan.data) // recipe.pretrain.batch_size
        last_step = recipe.pretrain.epochs * steps
        trained = [trial for trial in self._plan.cells if trial.source == "pretrain"]
        save_trials_view(
            self._client,
            experiment_id,
            study.factors[0].name,
            metrics_of(study),
            list(dict.fromkeys(map(picture_key, trained))),
            last_step,
        )
        return experiment_id

    def log_report(self, files: list[Path]) -> None:
        """Files of the report in the run REPORT of the experiment, which is made once."""
        found = self._client.search_runs(
            [self.experiment_id],
            "tags.kind = 'report'",
            max_results=1,
            order_by=["attributes.start_time ASC"],
        )
        run = found[0] if found else None
        if run is None:
            tags = {"kind": "report", "study": self._plan.study.name}
            run = self._client.create_run(self.experiment_id, run_name="REPORT", tags=tags)
        for file in files:
            self._client.log_artifact(run.info.run_id, str(file), "report")
        self._client.set_terminated(run.info.run_id, "FINISHED")
