"""The runs of an experiment: one for every trial, found by the phases it shows, or made."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from mae_ablation.tracking.description import COLOUR
from mae_ablation.tracking.phase_tags import ERROR, TAG_KINDS
from mae_ablation.tracking.uploader import Uploader

PHASES_TAG = "phases"
"""Tag: identities of a run's phases, joined by commas."""

RUNS_PER_PAGE = 1000  # runs per search


@dataclass(slots=True)
class TrialRun:
    """Holds what matters of a run in MLflow: 10,000 whole ones would take 200 MB."""

    run_id: str
    phases: tuple[str, ...]
    status: str
    started: int
    """Milliseconds since 1970."""
    params: frozenset[str] = frozenset()
    colour: str = ""
    tag_hashes: dict[str, int] = field(default_factory=dict)
    """Hashes of the tags about its phases."""
    made: bool = False
    """This process has made it, and nothing is in it yet."""
    empty: bool = False
    """This process has made it, and MLflow has accepted nothing."""
    uploader: Uploader | None = None
    """Sends what is new while the trial is looked at; None before, and after a refusal."""
    results: dict[str, dict] = field(default_factory=dict)
    """Results by identity of phases that are all sent; nothing of them is read again."""


@dataclass(slots=True)
class Runs:
    """All runs of trials, from one search when the first is asked for."""

    client: MlflowClient
    experiment_id: str
    alone: bool
    """No other process makes runs here; else each new one is looked for again."""
    _by_phase: dict[str, list[TrialRun]] | None = field(default=None, init=False)

    def find(self, phases: tuple[str, ...]) -> TrialRun | None:
        """Find the run whose phases are all of these, or the first of them; of equals the
        oldest."""
        if self._by_phase is None:
            found = [_slim(run) for run in search_runs(self.client, self.experiment_id)]
            self._by_phase = {}  # not before the search has ended well
            for run in found:
                self._keep(run)

        # a run that lacks an evaluation goes on; one with another training in it does not
        near = [run for identity in phases for run in self._by_phase.get(identity, ())]
        fitting = [run for run in near if set(run.phases) <= set(phases)]
        if not fitting and not self.alone:
            fitting = self._same(phases)
        return max(fitting, key=lambda run: len(run.phases), default=None)

    def make(self, name: str, phases: tuple[str, ...], tags: dict[str, str]) -> TrialRun:
        """Make a new run; where another process has made the same one, the older is the one."""
        tags = {**tags, PHASES_TAG: ",".join(phases)}
        info = self.client.create_run(self.experiment_id, run_name=name, tags=tags).info
        run = TrialRun(info.run_id, phases, "RUNNING", info.start_time, made=True, empty=True)
        # MLflow has no lock: both make a run, then both see the same older one
        if not self.alone:
            oldest = self._same(phases)[0]
            if oldest.run_id != run.run_id:
                self.client.delete_run(run.run_id)
                run = oldest
        self._keep(run)
        return run

    def _same(self, phases: tuple[str, ...]) -> list[TrialRun]:
        """Return the runs of exactly these phases, the oldest first."""
        query = f"tags.{PHASES_TAG} = '{','.join(phases)}'"
        return [_slim(run) for run in search_runs(self.client, self.experiment_id, query)]

    def remove(self, run: TrialRun) -> None:
        """Delete a run that MLflow takes nothing for; it may be gone already."""
        with suppress(MlflowException):
            self.client.delete_run(run.run_id)
        for identity in run.phases:
            self._by_phase[identity].remove(run)

    def _keep(self, run: TrialRun) -> None:
        for identity in run.phases:
            self._by_phase.setdefault(identity, []).append(run)


def search_runs(client: MlflowClient, experiment_id: str, query: str = "") -> Iterator[Run]:
    """Yield the runs of an experiment that match a query, the oldest first."""
    pages, order = {"max_results": RUNS_PER_PAGE}, ["attributes.start_time ASC"]
    while True:
        page = client.search_runs([experiment_id], query, order_by=order, **pages)
        yield from page
        if not page.token:
            return
        pages["page_token"] = page.token


def _slim(run: Run) -> TrialRun:
    tags = run.data.tags
    about = {k: v for k, v in tags.items() if k == ERROR or k.startswith(TAG_KINDS)}
    return TrialRun(
        run_id=run.info.run_id,
        phases=phases_of(tags),
        status=run.info.status,
        started=run.info.start_time,
        params=frozenset(run.data.params),
        colour=tags.get(COLOUR, ""),
        tag_hashes={key: hash(value) for key, value in about.items()},
    )


def phases_of(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Return the identities that a run's tags name; a report's run has none."""
    return tuple(tags.get(PHASES_TAG, "").split(","))
