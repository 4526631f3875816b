"""The runs of an experiment: one for every trial, found by the phases it shows, or made."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from mae_ablation.tracking.colours import COLOUR
from mae_ablation.tracking.phase_tags import RESULT, about_phases

PHASES = "phases"
"""tag: identities of a run's phases, joined by commas"""
PAGE = 1000  # runs per search


@dataclass(slots=True)
class Known:
    """What matters of a run that MLflow has: 10,000 whole ones would take 200 MB."""

    run_id: str
    phases: tuple[str, ...]
    status: str
    started: int
    """in milliseconds since 1970"""
    params: frozenset[str] = frozenset()
    colour: str = ""
    said: dict[str, int] = field(default_factory=dict)
    """hashes of the tags about its phases"""
    made: bool = False
    """by this process: nothing is in it yet"""
    empty: bool = False
    """made by this process, and nothing has been accepted"""

    def complete(self) -> bool:
        """Finished, with each phase's result: those of older versions have metrics only."""
        told = all(RESULT + identity in self.said for identity in self.phases)
        return self.status == "FINISHED" and told


@dataclass(slots=True)
class Runs:
    """All runs of trials, from one search when the first is asked for."""

    client: MlflowClient
    experiment_id: str
    alone: bool
    """no other process makes runs here; else each new one is looked for again"""
    _by_phase: dict[str, list[Known]] | None = field(default=None, init=False)

    def of(self, phases: tuple[str, ...]) -> Known | None:
        """The run whose phases are all of these, or the first of them; of equals the oldest."""
        if self._by_phase is None:
            found = [slim(run) for run in all_runs(self.client, self.experiment_id)]
            self._by_phase = {}
            for known in found:
                self._keep(known)
        near = [k for identity in phases for k in self._by_phase.get(identity, ())]
        fitting = [k for k in near if set(k.phases) <= set(phases)]
        if not fitting and not self.alone:
            fitting = self._same(phases)
        return max(fitting, key=lambda known: len(known.phases), default=None)

    def make(self, name: str, phases: tuple[str, ...], tags: dict[str, str]) -> Known:
        """A new run; where another process has made the same one, the older of the two."""
        tags = {**tags, PHASES: ",".join(phases)}
        run = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
        known = Known(run.info.run_id, phases, "RUNNING", run.info.start_time)
        known.made = known.empty = True
        if not self.alone:
            oldest = self._same(phases)[0]
            if oldest.run_id != known.run_id:
                self.client.delete_run(known.run_id)
                known = oldest
        self._keep(known)
        return known

    def _same(self, phases: tuple[str, ...]) -> list[Known]:
        """Runs of exactly these phases, the oldest first."""
        query = f"tags.{PHASES} = '{','.join(phases)}'"
        return [slim(run) for run in page_of(self.client, self.experiment_id, query)[0]]

    def remove(self, known: Known) -> None:
        """Delete a run that MLflow takes nothing for; it may be gone already."""
        with suppress(MlflowException):
            self.client.delete_run(known.run_id)
        for identity in known.phases:
            self._by_phase[identity].remove(known)

    def _keep(self, known: Known) -> None:
        for identity in known.phases:
            self._by_phase.setdefault(identity, []).append(known)


def all_runs(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    """Every run of an experiment, the oldest first."""
    token, more = None, True
    while more:
        page, token = page_of(client, experiment_id, "", token)
        yield from page
        more = bool(token)


def page_of(
    client: MlflowClient, experiment_id: str, query: str, token: str | None = None
) -> tuple[list[Run], str | None]:
    page = client.search_runs(
        [experiment_id],
        query,
        max_results=PAGE,
        order_by=["attributes.start_time ASC"],
        page_token=token,
    )
    return list(page), page.token


def slim(run: Run) -> Known:
    tags = run.data.tags
    return Known(
        run_id=run.info.run_id,
        phases=phases_of(tags),
        status=run.info.status,
        started=run.info.start_time,
        params=frozenset(run.data.params),
        colour=tags.get(COLOUR, ""),
        said={key: hash(value) for key, value in about_phases(tags).items()},
    )


def phases_of(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Of a run's tags: the first versions named one of a trial's phases; a report has none."""
    return tuple(tags.get(PHASES, tags.get("trial_id", "")).split(","))
