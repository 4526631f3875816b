"""One study's experiment in MLflow: a run for every trial, one for the report."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from mae_ablation.store.checkpoint import Damaged
from mae_ablation.study.owner import another_study, path_from
from mae_ablation.study.plan import Plan, unfinished
from mae_ablation.study.trial import Phase, Trial, steps_per_epoch, training_images
from mae_ablation.study.tries import stopped_by
from mae_ablation.study.trouble import AGAIN, MEND, remedy_of
from mae_ablation.tracking.address import run_url
from mae_ablation.tracking.colours import COLOUR, colours
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
from mae_ablation.tracking.phase_tags import outdated, tags_about
from mae_ablation.tracking.report_run import show_report
from mae_ablation.tracking.runs import PHASES, Known, Runs
from mae_ablation.tracking.turn import Turn
from mae_ablation.tracking.uploader import Uploader
from mae_ablation.tracking.views import save_views

ANOTHER = "another run is writing it"
STUDY_FILE = "study_file"
"""tag: path of the study whose report and note these are"""
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")
"""of one trial's data, such as a param that already has another value; the others go on"""


@dataclass(slots=True)
class Shown:
    """A trial that has a run."""

    run_id: str
    uploader: Uploader
    status: str
    started: int
    said: dict[str, int]
    """hashes of the tags about its phases"""
    results: dict[str, dict] = field(default_factory=dict)
    """by identity, of phases that are all sent: neither they nor their journals are read again"""


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
        self.remedy = AGAIN
        self._owner: Path | None = None
        """another study's file of the same name, whose report and note the experiment has"""
        self._runs: Runs | None = None
        self._open = list(plan.cells)  # trials that need a further look
        self._shown: dict[tuple, Shown] = {}
        self._known: dict[tuple, Known] = {}
        self._places = places_of(plan.study)
        self._colours = colours(plan)

    def look(self) -> None:
        """Send what is new in the store. Raises what MLflow raises; then nothing is lost."""
        if self._turn and not self._turn.take():
            self.trouble, self.remedy = ANOTHER, AGAIN
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
                self._say(str(error), MEND)
                return False
            if not isinstance(error, MlflowException) or error.error_code not in REFUSALS:
                raise
            first = str(error).splitlines()[0]
            self._say(f"{trial.label} is not shown: {first}", remedy_of(error))
            known = self._known.get(trial.result_id)
            if known and known.empty:  # no run that says "running" for ever and nothing else
                self._runs.remove(known)
                del self._known[trial.result_id]
            return True

    def _say(self, trouble: str, remedy: str) -> None:
        """Keep the first trouble, which the others may come from."""
        if self.trouble is None:
            self.trouble, self.remedy = trouble, remedy

    def _show(self, trial: Trial) -> bool:
        """Bring a trial's run up to date; returns whether it needs no further look."""
        shown = self._shown.get(trial.result_id)
        tags, params, facts = {}, [], []
        if shown is None:
            known = self._run(trial)
            if known.status == "FINISHED":
                return True
            if not known.made:  # a new run has them
                tags = {**self._tags(trial), PHASES: ",".join(trial.result_id)}
            params = params_of(self._plan, trial)
            facts = factor_metrics(params, self._places)
            self._client.log_text(known.run_id, settings_of(trial), "config.yaml")
            uploader = Uploader(self._client, known.run_id, empty=known.made)
            shown = Shown(known.run_id, uploader, known.status, known.started, dict(known.said))
            known.made = False
        working = [phase for phase in trial.phases if phase.identity not in shown.results]
        new, failures, stops = self._ended(working)  # before the journals: they end first
        results = {**shown.results, **new}
        if new:
            facts += result_metrics(trial, results, set(new), self._plan.study.columns)
            tags |= result_tags([results[i] for i in trial.result_id if i in results])
        about = tags_about(new, failures, stops)
        tags |= {key: text for key, text in about.items() if shown.said.get(key) != hash(text)}
        self._send(trial, shown, working, facts, params, tags)
        self._known[trial.result_id].empty = False
        self._take_back(shown, working, about)
        shown.said |= {key: hash(text) for key, text in about.items()}
        self._shown[trial.result_id] = shown
        shown.results = results
        if len(results) == len(trial.phases):
            ended = finished_at(results[trial.result_id[-1]])
            ended = max(ended, shown.started)  # a run made later has no negative duration
            self._client.set_terminated(shown.run_id, "FINISHED", end_time=ended)
            del self._shown[trial.result_id]
            return True
        self._mark(shown, "FAILED" if failures else "KILLED" if stops else "RUNNING")
        return False

    def _ended(self, phases: list[Phase]) -> tuple[dict[str, dict], ...]:
        """Results, and of those without one failures and what searches stopped, by identity.
        A damaged result is a failure, as in a report from the store."""
        results, failures, stops = {}, {}, {}
        for phase in phases:
            folder = phase.folder(self._plan.store)
            try:
                result, failure = folder.result(), None
            except Damaged as error:
                result, failure = None, {"reason": str(error)}
                self._say(str(error), MEND)
            if result:
                results[phase.identity] = result
            elif failure := failure or folder.failure():
                failures[phase.identity] = failure
            elif phase.search and stopped_by(phase, stop := folder.stopped()):
                stops[phase.identity] = stop
        return results, failures, stops

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

    def _take_back(self, shown: Shown, working: list[Phase], about: dict[str, str]) -> None:
        """What the run says of these phases and the store no longer does: a failure of a phase
        that is tried again."""
        for key in outdated(shown.said, [phase.identity for phase in working], about):
            try:
                self._client.delete_tag(shown.run_id, key)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # another driver was quicker
                    raise
            del shown.said[key]

    def _mark(self, shown: Shown, status: str) -> None:
        if status == shown.status:
            return
        if status != "RUNNING":
            self._client.set_terminated(shown.run_id, status)
        else:
            self._client.update_run(shown.run_id, status=status)
        shown.status = status

    def _run(self, trial: Trial) -> Known:
        """The trial's run: the one that has its phases, or a new one; its status is FINISHED where
        nothing is to be added.

        An evaluation more than last time goes on in the same run.
        """
        known = self._runs.of(trial.result_id)
        if known is None:
            known = self._runs.make(run_name(trial), trial.result_id, self._tags(trial))
        self._known[trial.result_id] = known
        if self._settled(known, trial):
            colour = self._colours[trial.result_id]
            if known.colour != colour:  # the study has other levels now
                self._client.set_tag(known.run_id, COLOUR, colour)
                known.colour = colour
            return known
        if known.status == "FINISHED":
            self._client.update_run(known.run_id, status="RUNNING")
            known.status = "RUNNING"
        known.phases = trial.result_id
        return known

    def _settled(self, known: Known, trial: Trial) -> bool:
        """Whether the run says all there is of the trial, now and for good."""
        factors = self._plan.study.factors if trial.source == "pretrain" else ()
        keys = self._plan.study.tracking_keys
        described = all(keys[f.name] in known.params for f in factors)  # the study may grow
        same = known.complete() and described and known.phases == trial.result_id
        return same and not unfinished(trial, self._plan.store)  # one may be trained again

    def _tags(self, trial: Trial) -> dict[str, str]:
        return tags_of(self._plan, trial, self._colours[trial.result_id])

    def links(self) -> dict[str, str]:
        """The page of each trial's run, by its result_id joined by commas."""
        return {
            ",".join(phases): run_url(self.experiment_id, known.run_id)
            for phases, known in self._known.items()
        }

    def _find_or_create(self) -> str:
        found = self._client.get_experiment_by_name(self.name)
        if found is not None and found.lifecycle_stage != "active":
            raise ValueError(f"the experiment {self.name} is in the deleted state")
        if found is not None:
            experiment_id = found.experiment_id
            self._owner = self._other_owner(found.tags.get(STUDY_FILE))
        else:
            experiment_id = self._client.create_experiment(
                self.name, artifact_location=f"mlflow-artifacts:/{self.name}"
            )
        self._client.set_experiment_tag(
            experiment_id, "mlflow.experimentKind", "custom_model_development"
        )
        if self._owner:
            words = f"the report and note of experiment {self.name} are those of {self._owner}"
            self._say(f"{words} and stay", "rename one of the two study files")
            return experiment_id
        self._client.set_experiment_tag(experiment_id, STUDY_FILE, self._study_file())
        self._save_views(experiment_id)
        return experiment_id

    def _study_file(self) -> str:
        """The study's path: from the folder of the database, or whole for a server's."""
        study = self._plan.study.path
        return path_from(self._turn.folder, study) if self._turn else os.path.realpath(study)

    def _other_owner(self, recorded: str | None) -> Path | None:
        folder = self._turn.folder if self._turn else Path("/")
        return another_study(recorded, folder, self._plan.study.path)

    def _save_views(self, experiment_id: str) -> None:
        study = self._plan.study
        recipe = study.baseline
        steps = steps_per_epoch(recipe, training_images(recipe, self._plan.data))
        trained = [trial for trial in self._plan.cells if trial.source == "pretrain"]
        varied = [self._varied(trial) for trial in trained]
        names = list(dict.fromkeys(name for each in varied for name in each))
        groups = dict.fromkeys(tuple(each.get(name, "null") for name in names) for each in varied)
        save_views(
            self._client,
            experiment_id,
            names,
            list(groups),
            metrics_of(study),
            list(dict.fromkeys(map(picture_key, trained))),
            recipe.pretrain.epochs * steps,
        )

    def _varied(self, trial: Trial) -> dict[str, str]:
        """A trial's level of each factor, and its value of what is tuned."""
        plan = self._plan
        keys = plan.study.tracking_keys
        levels = {keys[f.name]: plan.level_label(trial, f) for f in plan.study.factors}
        return levels | {name: str(value) for name, value in plan.tuned(trial)}

    def log_report(self, files: Sequence[Path], note: str) -> None:
        """The report's files in the run REPORT, and its text as the experiment's note; nothing
        while another process writes here, or where another study's are."""
        if self.experiment_id is not None and self._owner is None:
            study = self._plan.study.name
            show_report(self._client, self.experiment_id, study, files, note)
