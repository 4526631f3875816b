"""Shows a plan in MLflow: one experiment per study, one flat run per trial, phases as prefixes.

The driver's thread is the only writer. It reads the store, so training never waits for it, and an
MLflow that is away delays the view and loses nothing: the same command again catches up.
"""

import threading
from datetime import datetime
from pathlib import Path

import yaml

from mae_ablation.study.plan import Plan, Trial

EVERY_S = 1.0


class Tracker(threading.Thread):
    """Keeps MLflow in step with the store until `close`."""

    def __init__(self, plan: Plan, root: Path) -> None:
        super().__init__(name="tracker", daemon=True)
        self._plan, self._root = plan, root
        self._closing = threading.Event()
        self._client = None
        self._uploaders: dict[str, object] = {}  # by result id
        self._closed: set[str] = set()  # result ids that need no further look
        self._failed: set[str] = set()
        self.experiment_id: str | None = None
        self.trouble: str | None = None
        """why the last look failed; None if it did not"""

    def run(self) -> None:
        while not self._closing.wait(EVERY_S):
            self._try(self._look)
        self._try(self._look)

    def close(self, report: list[Path]) -> None:
        """Wait for the last look, then log the report's files in a run of their own."""
        self._closing.set()
        self.join()
        if self.trouble is None:
            self._try(lambda: self._log_report(report))

    def _try(self, action) -> None:
        try:
            action()
            self.trouble = None
        except Exception as error:  # whatever MLflow, its database or the network may raise
            self.trouble = f"{type(error).__name__}: {error}".splitlines()[0]

    def _look(self) -> None:
        if self._client is None:
            from mae_ablation.tracking.client import connect

            self._client = connect(self._root)
        if self.experiment_id is None:
            self.experiment_id = self._experiment()
        for trial in self._plan.cells:
            if trial.result_id not in self._closed and self._has_begun(trial):
                self._show(trial)

    def _experiment(self) -> str:
        from mae_ablation.tracking.views import save_trials_view

        study = self._plan.study
        name = study.experiment
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            experiment_id = found.experiment_id
        else:
            experiment_id = self._client.create_experiment(
                name, artifact_location=f"mlflow-artifacts:/{name}"
            )
        self._client.set_experiment_tag(
            experiment_id, "mlflow.experimentKind", "custom_model_development"
        )
        save_trials_view(self._client, experiment_id, study.factors[0].name)
        return experiment_id

    def _has_begun(self, trial: Trial) -> bool:
        return any(phase.folder(self._plan.store).path.exists() for phase in trial.phases)

    def _show(self, trial: Trial) -> None:
        from mae_ablation.tracking.uploader import Uploader

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
        for folder in folders:
            uploader.pump(folder.journal)
        if all(results):
            for phase, result in zip(trial.phases, results, strict=True):
                self._log_result(run_id, phase.kind, result)
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
        """The trial's run: the one that carries its identity, or a new one; None if complete."""
        found = self._client.search_runs(
            [self.experiment_id], f"tags.trial_id = '{trial.result_id}'", max_results=1
        )
        if found:
            run_id = found[0].info.run_id
            factors = self._plan.study.factors if trial.source == "pretrain" else ()
            described = all(f.name in found[0].data.params for f in factors)  # the study may grow
            if found[0].info.status == "FINISHED" and described:
                return None
            self._client.update_run(run_id, status="RUNNING")
            return run_id
        study = self._plan.study
        pretrained = trial.source == "pretrain"
        run = self._client.create_run(
            self.experiment_id,
            run_name=trial.label.replace(" seed ", " · s").split("=")[-1],
            tags={
                "kind": "trial" if pretrained else "reference",
                "study": study.name,
                "trial_id": trial.result_id,
                "mlflow.source.name": str(study.path),
                "mlflow.source.type": "LOCAL",
            },
        )
        return run.info.run_id

    def _describe(self, run_id: str, trial: Trial) -> None:
        """Params, mirrored factors and config.yaml; the same again changes nothing."""
        study = self._plan.study
        self._client.log_param(run_id, "seed", trial.seed)
        self._client.log_param(run_id, "recipe", " ".join([study.recipe_name, *study.changed]))
        for factor in study.factors if trial.source == "pretrain" else ():
            section, name = factor.field.split(".")
            value = getattr(getattr(trial.phases[-1].recipe, section), name)
            self._client.log_param(run_id, factor.name, value)
            if isinstance(value, int | float):  # MLflow sorts params as text, metrics as numbers
                self._client.log_metric(run_id, f"factor_{factor.name}", value, timestamp=0, step=0)
        documents = {phase.kind: phase.document for phase in trial.phases}
        self._client.log_text(run_id, yaml.safe_dump(documents), "config.yaml")

    def _log_result(self, run_id: str, kind: str, result: dict) -> None:
        """Results once, at the time they were reached: the same again adds no point."""
        time = milliseconds(result["finished_at"])
        names = {"test_acc1": "acc1", "train_loss": "loss"}
        names |= {name: name for name in ("images_per_s", "seconds")}
        for name, shown in names.items():
            if name in result:
                value = round(result[name], 4)
                self._client.log_metric(run_id, f"{kind}_{shown}", value, timestamp=time, step=0)
        self._client.set_tag(run_id, "mlflow.source.git.commit", result["commit"].split("+")[0])

    def _log_report(self, files: list[Path]) -> None:
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


def milliseconds(moment: str) -> int:
    """A moment such as 2026-01-31T12:00:00Z as MLflow counts time."""
    return int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() * 1000)
