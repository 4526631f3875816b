"""Queue: hands out trials on lease, one per lane, and knows how each of them is doing."""

from dataclasses import dataclass, field

from mae_ablation.study.plan import Trial

ATTEMPTS = 3  # a trial whose worker died so often is given up


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
    """A restarted lane gets its unfinished trial again, and goes on from its last checkpoint."""

    def __init__(self, trials: list[Trial]) -> None:
        self._waiting = list(trials)
        self._leases: dict[int, Lease] = {}
        self._finished: list[str] = []
        self._failed: dict[str, str] = {}

    def next(self, lane: int) -> Trial | None:
        """The lane's next trial; None when there is nothing left to do."""
        lease = self._leases.get(lane)
        if lease and lease.attempts < ATTEMPTS:
            lease.attempts += 1
            return lease.trial
        if lease:
            self.finish(lane, f"its worker died {ATTEMPTS} times")
        if self._waiting:
            self._leases[lane] = Lease(self._waiting.pop(0))
            return self._leases[lane].trial
        return None

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

    def snapshot(self) -> Snapshot:
        return Snapshot(
            waiting=len(self._waiting),
            running=dict(self._leases),
            finished=tuple(self._finished),
            failed=dict(self._failed),
        )
