"""Queue: hands out trials on lease, one per lane, and knows how each of them is doing."""

from dataclasses import dataclass, field

from mae_ablation.study.trial import Trial

ATTEMPTS = 3  # a trial whose worker died so often is given up
WAIT = "wait"


@dataclass(slots=True)
class Lease:
    """A trial in a lane's hands."""

    trial: Trial
    attempts: int = 1
    progress: dict = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of the queue at one moment."""

    waiting: int
    running: dict[int, Lease]
    """by lane"""
    finished: tuple[str, ...]
    """labels, in order"""
    failed: dict[str, str]
    """reason by label"""


class TrialQueue:
    """A restarted lane gets its unfinished trial again, and goes on from its last checkpoint.

    A trial waits for what it needs (a tokeniser, a PCA) while that is still to be run.
    """

    def __init__(self, trials: list[Trial]) -> None:
        self._waiting = list(trials)
        self._leases: dict[int, Lease] = {}
        self._finished: list[str] = []
        self._failed: dict[str, str] = {}
        self._gone: dict[str, str] = {}  # reason by id of failed trials that others need

    def next(self, lane: int) -> Trial | str | None:
        """The lane's next trial, WAIT while others run what it needs, None when all is done."""
        lease = self._leases.get(lane)
        if lease and lease.attempts < ATTEMPTS:
            lease.attempts += 1
            return lease.trial
        if lease:
            self.finish(lane, f"its worker died {ATTEMPTS} times")
        for trial in self._ready():
            self._waiting.remove(trial)
            self._leases[lane] = Lease(trial)
            return trial
        return WAIT if self._waiting else None

    def _ready(self) -> list[Trial]:
        """Waiting trials whose needs are finished, in order; those whose needs failed are out."""
        open_ids = {trial.id for trial in self._waiting}
        open_ids |= {lease.trial.id for lease in self._leases.values()}
        for trial in [t for t in self._waiting if t.needs and t.needs.id in self._gone]:
            self._waiting.remove(trial)
            self._failed[trial.label] = (
                f"it needs the {trial.needs.label}: " + (self._gone[trial.needs.id])
            )
        return [t for t in self._waiting if not t.needs or t.needs.id not in open_ids]

    def progress(self, lane: int, progress: dict) -> None:
        if lane in self._leases:
            self._leases[lane].progress = progress

    def finish(self, lane: int, failure: str | None) -> None:
        """The lane's trial is over: finished if `failure` is None."""
        trial = self._leases.pop(lane).trial
        if failure is None:
            self._finished.append(trial.label)
        else:
            self._failed[trial.label] = failure
            self._gone[trial.id] = failure

    def leave(self, lane: int) -> None:
        """The lane is gone for good: its trial waits for another."""
        lease = self._leases.pop(lane, None)
        if lease:
            self._waiting.insert(0, lease.trial)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            waiting=len(self._waiting),
            running=dict(self._leases),
            finished=tuple(self._finished),
            failed=dict(self._failed),
        )
