"""One study's experiment in MLflow: a run for every trial, one for the report."""

from datetime import datetime
from pathlib import Path

import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from mae_ablation.study.plan import Plan
from mae_ablation.study.study import Factor, Study
from mae_ablation.study.trial import Trial, training_images
from mae_ablation.tracking.uploader import PICTURES, PICTURES_LENT, Uploader
from mae_ablation.tracking.views import save_trials_view

PHASES = "phases"
"""tag: identities of a run's phases, joined by commas"""
LENT = "each patch has its true mean and contrast, removed ones too: the model predicts normalised"


class Experiment:
    """Brings a study's experiment up to the state of the store, again and again."""

    def __init__(self, client: MlflowClient, plan: Plan) -> None:
        self._client, self._plan = client, plan
        self.name = plan.study.experiment
        self.experiment_id: str | None = None
        self._uploaders: dict[tuple, tuple[str, Uploader]] = {}  # run and uploader, by result id
        self._closed: set[tuple] = set()  # result ids that need no further look
        self._failed: set[tuple] = set()
        self._logged: set[tuple[str, str]] = set()  # run and phase whose result is sent

    def look(self) -> None:
        """Send what is new in the store. Raises what MLflow raises; then nothing is lost."""
        if self.experiment_id is None:
            self.experiment_id = self._find_or_create()
        for trial in self._plan.cells:
            if trial.result_id not in self._closed and self._has_begun(trial):
                self._show(trial)

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
            results_of(study),
            list(dict.fromkeys(map(picture_key, trained))),
            last_step,
        )
        return experiment_id

    def _has_begun(self, trial: Trial) -> bool:
        return any(phase.folder(self._plan.store).exists() for phase in trial.phases)

    def _show(self, trial: Trial) -> None:
        if trial.result_id not in self._uploaders:
            run_id = self._run(trial)
            if run_id is None:
                self._closed.add(trial.result_id)
                return
            self._describe(run_id, trial)
            self._uploaders[trial.result_id] = (run_id, Uploader(self._client, run_id))
        run_id, uploader = self._uploaders[trial.result_id]
        folders = [phase.folder(self._plan.store) for phase in trial.phases]
        results = [folder.result() for folder in folders]  # before the journals: they end first
        failure = next((why for folder in folders if (why := folder.failure())), None)
        if trial.needs:
            uploader.pump(trial.needs.phases[0].folder(self._plan.store).journal)
        for folder in folders:
            uploader.pump(folder.journal)
            uploader.send_pictures(folder, picture_key(trial))
        self._log_results(run_id, trial, results)
        if all(results):
            ended = milliseconds(results[-1]["finished_at"])
            self._client.set_terminated(run_id, "FINISHED", end_time=ended)
            self._closed.add(trial.result_id)
        elif failure and trial.result_id not in self._failed:
            self._client.set_tag(run_id, "error", failure["reason"])
            self._client.set_terminated(run_id, "FAILED")
            self._failed.add(trial.result_id)
        elif not failure and trial.result_id in self._failed:  # it is being tried again
            self._client.update_run(run_id, status="RUNNING")
            self._failed.remove(trial.result_id)

    def _run(self, trial: Trial) -> str | None:
        """The trial's run: the one that has its phases, or a new one; None if complete.

        An evaluation more than last time goes on in the same run.
        """
        found = self._with_phases_of(trial)
        if found:
            run_id, tags = found.info.run_id, found.data.tags
            factors = self._plan.study.factors if trial.source == "pretrain" else ()
            described = all(f.name in found.data.params for f in factors)  # the study may grow
            whole = tags.get(PHASES) == ",".join(trial.result_id)
            if found.info.status == "FINISHED" and described and whole:
                return None
            self._client.update_run(run_id, status="RUNNING")
            return run_id
        study = self._plan.study
        pretrained = trial.source == "pretrain"
        run = self._client.create_run(
            self.experiment_id,
            run_name=trial.label.replace(" seed ", " · s").split("=", 1)[-1],
            tags={
                "kind": "trial" if pretrained else "reference",
                "study": study.name,
                "mlflow.source.name": str(study.path),
                "mlflow.source.type": "LOCAL",
            },
        )
        return run.info.run_id

    def _with_phases_of(self, trial: Trial) -> Run | None:
        """The run whose phases are all of this trial's, or the first of them."""
        runs = self._client.search_runs(
            [self.experiment_id], f"tags.{PHASES} LIKE '{trial.id}%'", max_results=100
        )
        mine = set(trial.result_id)
        known = [(set(run.data.tags[PHASES].split(",")), run) for run in runs]
        fitting = [(len(phases), run) for phases, run in known if phases <= mine]
        return max(fitting, key=lambda pair: pair[0], default=(0, None))[1]

    def _describe(self, run_id: str, trial: Trial) -> None:
        """Params, mirrored factors and config.yaml; the same again changes nothing."""
        study = self._plan.study
        self._client.set_tag(run_id, PHASES, ",".join(trial.result_id))
        self._client.set_tag(run_id, "trial_id", trial.id)
        if lends_statistics(trial):
            self._client.set_tag(run_id, "pictures", LENT)
        self._client.log_param(run_id, "seed", trial.seed)
        self._client.log_param(run_id, "recipe", " ".join([study.recipe_name, *study.changed]))
        for factor in study.factors if trial.source == "pretrain" else ():
            value = self._plan.level_label(trial, factor)
            self._client.log_param(run_id, factor.name, value)
            number = sort_key(value, factor)
            if number is not None:  # MLflow sorts params as text, metrics as numbers
                self._client.log_metric(
                    run_id, f"factor_{factor.name}", number, timestamp=0, step=0
                )
        documents = {phase.prefix: phase.document for phase in trial.phases}
        if trial.needs:
            needed = trial.needs.phases[0]
            documents = {needed.kind: needed.document, **documents}
        self._client.log_text(run_id, yaml.safe_dump(documents), "config.yaml")

    def _log_results(self, run_id: str, trial: Trial, results: list[dict | None]) -> None:
        """Each finished phase's results, once, at the time they were reached: the same again adds
        no point."""
        for phase, result in zip(trial.phases, results, strict=True):
            if result is None or (run_id, phase.identity) in self._logged:
                continue
            time = milliseconds(result["finished_at"])
            names = {"test_acc1": "acc1", "train_loss": "loss"}
            names |= {name: name for name in ("images_per_s", "seconds")}
            for name, shown in names.items():
                if name in result:
                    value = round(result[name], 4)
                    key = f"{phase.prefix}_{shown}"
                    self._client.log_metric(run_id, key, value, timestamp=time, step=0)
            commit = result["commit"].split("+")[0]
            self._client.set_tag(run_id, "mlflow.source.git.commit", commit)
            self._logged.add((run_id, phase.identity))
        for column in self._plan.study.columns:
            chosen = self._plan.chosen(trial, column)
            if chosen and chosen[0].prefix != column:
                time, value = milliseconds(chosen[1]["finished_at"]), chosen[1]["test_acc1"]
                self._client.log_metric(run_id, f"{column}_acc1", round(value, 4), time, step=0)

    def log_report(self, files: list[Path]) -> None:
        """Files of the report in the run REPORT of the experiment, which is made once."""
        found = self._client.search_runs(
            [self.experiment_id], "tags.kind = 'report'", max_results=1
        )
        run = found[0] if found else None
        if run is None:
            tags = {"kind": "report", "study": self._plan.study.name}
            run = self._client.create_run(self.experiment_id, run_name="REPORT", tags=tags)
        for file in files:
            self._client.log_artifact(run.info.run_id, str(file), "report")
        self._client.set_terminated(run.info.run_id, "FINISHED")


def results_of(study: Study) -> list[str]:
    """Metrics a study is about."""
    if study.measure == "hours":
        return ["pretrain_seconds"]
    return [f"{column}_acc1" for column in study.columns] or ["pretrain_loss"]


def sort_key(value: str, factor: Factor) -> float | None:
    """A level's number, or its place in the study where it is a name; None: neither."""
    try:
        return float(value)
    except ValueError:
        names = [level.name for level in factor.levels]
        return float(names.index(value)) if value in names else None


def lends_statistics(trial: Trial) -> bool:
    """Whether its pictures borrow each removed patch's true mean and contrast."""
    return trial.source == "pretrain" and trial.recipe.pretrain.target == "pixel_norm"


def picture_key(trial: Trial) -> str:
    return PICTURES_LENT if lends_statistics(trial) else PICTURES


def milliseconds(moment: str) -> int:
    """A moment such as 2026-01-31T12:00:00Z as MLflow counts time."""
    return int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() * 1000)
