"""One study's experiment in MLflow: a run for every trial, one for the report."""

import os
from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from mae_ablation.store.checkpoint import Damaged
from mae_ablation.study.places import another_study, path_from
from mae_ablation.study.plan import Plan, is_stopped_by, unfinished
from mae_ablation.study.trial import Phase, Trial
from mae_ablation.study.trouble import MEND, SAME_COMMAND, remedy_of
from mae_ablation.tracking.address import run_url
from mae_ablation.tracking.client import WriteLock
from mae_ablation.tracking.description import (
    COLOUR,
    choose_colours,
    dump_settings,
    factor_metrics,
    finished_at,
    make_params,
    make_tags,
    number_levels,
    picture_key,
    result_metrics,
    result_tags,
    run_name,
)
from mae_ablation.tracking.phase_tags import ERROR, TAG_KINDS, make_phase_tags
from mae_ablation.tracking.report_run import show_report
from mae_ablation.tracking.runs import PHASES_TAG, Runs, TrialRun
from mae_ablation.tracking.uploader import Uploader
from mae_ablation.tracking.views import save_view

ANOTHER = "another run is writing it"
STUDY_FILE = "study_file"
"""Tag: path of the study whose report and note these are."""

GONE = "RESOURCE_DOES_NOT_EXIST"
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", GONE)
"""Errors of one trial's data, such as a param that already has another value; the others go on."""


class Experiment:
    """Brings a study's experiment up to the state of the store, again and again.

    Whoever runs the trials: what counts is what is in the store.
    """

    def __init__(self, client: MlflowClient, plan: Plan, lock: WriteLock | None = None) -> None:
        """`lock`: held by the one process that may write; None: a server, where several may."""
        self._client, self._plan, self._lock = client, plan, lock
        self.name = plan.study.experiment
        self.experiment_id: str | None = None
        self.trouble: str | None = None
        """Why something is not shown, where MLflow itself is well."""
        self.remedy = SAME_COMMAND
        self._owner: Path | None = None
        """Another study's file of the same name, whose report and note the experiment has."""
        self._runs: Runs | None = None
        self._open = list(plan.cells)  # trials that need a further look
        self._known: dict[tuple[str, ...], TrialRun] = {}
        self._numbers = number_levels(plan.study)
        self._colours = choose_colours(plan)

    def look(self) -> None:
        """Send what is new in the store. Raises what MLflow raises; then nothing is lost."""
        # whose turn it is
        if self._lock and not self._lock.take():
            self.trouble, self.remedy = ANOTHER, SAME_COMMAND
            return
        if self.trouble == ANOTHER:
            self.trouble = None
        if self._runs is None:
            self.experiment_id = self._find_or_create()
            self._runs = Runs(self._client, self.experiment_id, alone=self._lock is not None)

        # phases that have a folder: a listing per kind, however many trials
        kinds = {phase.kind for trial in self._open for phase in trial.phases}
        files = self._plan.store.files
        begun = {name.rsplit("-", 1)[-1] for kind in kinds for name in files.names(kind)}
        closed = set()
        try:
            for trial in self._open:
                if not begun.isdisjoint(trial.result_id) and self._try_to_show(trial):
                    closed.add(trial.result_id)
        finally:
            self._open = [trial for trial in self._open if trial.result_id not in closed]

    def close(self) -> None:
        """Let another process write."""
        if self._lock:
            self._lock.give_back()

    def _try_to_show(self, trial: Trial) -> bool:
        """Show a trial; returns whether it needs no further look, as it is finished or refused."""
        try:
            return self._show(trial)
        except Exception as error:
            # what of it arrived, MLflow knows: the next look asks
            run = self._known.get(trial.result_id)
            if run:
                run.uploader = None
            if isinstance(error, Damaged):  # the store's fault: the other trials are shown
                self._say(str(error), MEND)
                return False
            if not isinstance(error, MlflowException) or error.error_code not in REFUSALS:
                raise
            first = str(error).splitlines()[0]
            self._say(f"{trial.label} is not shown: {first}", remedy_of(error))
            if run and run.empty:  # no run that says "running" for ever and nothing else
                self._runs.remove(run)
                del self._known[trial.result_id]
            return True

    def _say(self, trouble: str, remedy: str) -> None:
        """Keep the first trouble, which the others may come from."""
        if self.trouble is None:
            self.trouble, self.remedy = trouble, remedy

    def _show(self, trial: Trial) -> bool:
        """Bring a trial's run up to date; returns whether it needs no further look."""
        # what a run has from its beginning
        run = self._known.get(trial.result_id)
        tags, params, facts = {}, [], []
        if run is None or run.uploader is None:
            run = self._find_or_make(trial)
            if run.status == "FINISHED":
                return True
            if not run.made:  # a new run has them
                tags = {**self._tags(trial), PHASES_TAG: ",".join(trial.result_id)}
            params = make_params(self._plan, trial)
            facts = factor_metrics(params, self._numbers)
            self._client.log_text(run.run_id, dump_settings(trial), "config.yaml")
            run.uploader = Uploader(self._client, run.run_id, empty=run.made)
            run.made, run.results = False, {}

        # results, failures and stops that are new; before the journals, which end first
        working = [phase for phase in trial.phases if phase.identity not in run.results]
        new, failures, stops = self._read_ended(working)
        results = {**run.results, **new}
        if new:
            facts += result_metrics(trial, results, set(new), self._plan.study.columns)
            tags |= result_tags([results[i] for i in trial.result_id if i in results])
        about = make_phase_tags(new, failures, stops)
        tags |= {key: text for key, text in about.items() if run.tag_hashes.get(key) != hash(text)}

        # what the journals have more, with everything else in one call; then the pictures
        needed = trial.needs.phases if trial.needs and not run.results else ()
        folders = [phase.folder(self._plan.store) for phase in (*needed, *working)]
        journals = [folder.journal for folder in folders]
        run.uploader.send(journals, facts, params, [RunTag(*tag) for tag in tags.items()])
        run.empty = False
        for phase, folder in zip(working, folders[len(needed) :], strict=True):
            if phase.kind == "pretrain":
                run.uploader.send_pictures(folder, picture_key(trial))

        # tags that no longer hold: a failure of a phase that is tried again
        names = {ERROR, *(kind + phase.identity for kind in TAG_KINDS for phase in working)}
        for key in names & run.tag_hashes.keys() - about.keys():
            try:
                self._client.delete_tag(run.run_id, key)
            except MlflowException as error:
                if error.error_code != GONE:  # another driver was quicker
                    raise
            del run.tag_hashes[key]
        run.tag_hashes |= {key: hash(text) for key, text in about.items()}
        run.results = results

        # the run's state
        if len(results) == len(trial.phases):
            ended = finished_at(results[trial.result_id[-1]])
            ended = max(ended, run.started)  # a run made later has no negative duration
            self._client.set_terminated(run.run_id, "FINISHED", end_time=ended)
            run.status = "FINISHED"
            return True
        status = "FAILED" if failures else "KILLED" if stops else "RUNNING"
        if status != run.status:
            self._set_status(run, status)
        return False

    def _read_ended(self, phases: list[Phase]) -> tuple[dict[str, dict], ...]:
        """Read results, failures, and what searches stopped, each by identity. A damaged result is
        a failure, as in a report from the store."""
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
            elif phase.search and is_stopped_by(phase, stop := folder.stopped()):
                stops[phase.identity] = stop
        return results, failures, stops

    def _set_status(self, run: TrialRun, status: str) -> None:
        if status == "RUNNING":
            self._client.update_run(run.run_id, status=status)
        else:
            self._client.set_terminated(run.run_id, status)
        run.status = status

    def _find_or_make(self, trial: Trial) -> TrialRun:
        """Find the run that has the trial's phases, or make it; its status is FINISHED where
        nothing is to be added.

        An evaluation more than last time goes on in the same run.
        """
        run = self._runs.find(trial.result_id)
        if run is None:
            run = self._runs.make(run_name(trial), trial.result_id, self._tags(trial))
        self._known[trial.result_id] = run

        # told to its end: all that may change is its level's colour, when the study grows
        if self._is_settled(run, trial):
            colour = self._colours[trial.result_id]
            if run.colour != colour:
                self._client.set_tag(run.run_id, COLOUR, colour)
                run.colour = colour
            return run

        # an evaluation more, or again
        if run.status == "FINISHED":
            self._set_status(run, "RUNNING")
        run.phases = trial.result_id
        return run

    def _is_settled(self, run: TrialRun, trial: Trial) -> bool:
        """Say whether the run tells all there is of the trial, now and for good."""
        factors = self._plan.study.factors if trial.source == "pretrain" else ()
        keys = self._plan.study.tracking_keys
        described = all(keys[f.name] in run.params for f in factors)  # the study may grow
        same = run.status == "FINISHED" and described and run.phases == trial.result_id
        return same and not unfinished(trial, self._plan.store)  # one may be trained again

    def _tags(self, trial: Trial) -> dict[str, str]:
        return make_tags(self._plan, trial, self._colours[trial.result_id])

    def links(self) -> dict[str, str]:
        """Return the page of each trial's run, by its result_id joined by commas."""
        return {
            ",".join(phases): run_url(self.experiment_id, run.run_id)
            for phases, run in self._known.items()
        }

    def _find_or_create(self) -> str:
        """Return the experiment's id; its note and view are this study's, if nobody else's."""
        # the experiment, which another study of the same name may own
        study = self._plan.study.path
        found = self._client.get_experiment_by_name(self.name)
        if found is not None and found.lifecycle_stage != "active":
            raise ValueError(f"the experiment {self.name} is in the deleted state")
        if found is not None:
            experiment_id, recorded = found.experiment_id, found.tags.get(STUDY_FILE)
            folder = self._lock.folder if self._lock else Path("/")
            self._owner = another_study(recorded, folder, study)
        else:
            place = f"mlflow-artifacts:/{self.name}"
            experiment_id = self._client.create_experiment(self.name, artifact_location=place)
        kind = ("mlflow.experimentKind", "custom_model_development")
        self._client.set_experiment_tag(experiment_id, *kind)
        if self._owner:
            words = f"the report and note of experiment {self.name} are those of {self._owner}"
            self._say(f"{words} and stay", "rename one of the two study files")
            return experiment_id

        # its file, from the folder of the database, or whole for a server's
        path = path_from(self._lock.folder, study) if self._lock else os.path.realpath(study)
        self._client.set_experiment_tag(experiment_id, STUDY_FILE, path)
        save_view(self._client, experiment_id, self._plan)
        return experiment_id

    def log_report(self, files: Sequence[Path], note: str) -> None:
        """Show the report's files in the run REPORT, and its text as the experiment's note; nothing
        while another process writes here, or where another study's are."""
        if self.experiment_id is not None and self._owner is None:
            show_report(self._client, self.experiment_id, self._plan.study.name, files, note)
