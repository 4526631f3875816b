"""What the driver knows of a run. It outlives a queue that is killed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mae_ablation.run.queue import DROPPED, Lease, Snapshot, WorkerDeaths
from mae_ablation.study.trial import Trial


@dataclass(kw_only=True, slots=True)
class RunState:
    """How the trials of a run stand. Trials are known by their numbers in the list."""

    trials: Sequence[Trial]
    wanted: int = 0
    """lanes that there is work for, and that were asked for"""
    live: int = 0
    """lanes that have been started and have not ended"""
    waiting: int = 0
    elsewhere: int = 0
    """waiting ones that another run is at work on"""
    running: dict[str, Lease] = field(default_factory=dict)
    """by lane"""
    finished: list[int] = field(default_factory=list)
    """numbers, in order"""
    failed: dict[int, str] = field(default_factory=dict)
    """reason by number"""
    dropped: list[int] = field(default_factory=list)
    """numbers of those that a search or a look does not want any more"""
    held: frozenset[int] = frozenset()
    """numbers of those that wait for a look, or that no look asks for any more"""
    deaths: dict[int, WorkerDeaths] = field(default_factory=dict)
    entered: set[str] = field(default_factory=set)
    """lanes that have asked for a trial"""
    refusal: str | None = None
    stopped: bool = False
    """true once the user asked to leave, or the budget is spent"""
    spent: str = ""
    """the budget that is spent; "" while there is some left"""
    ended: dict[int, str | None] = field(default_factory=dict)
    """failure by number: what a queue that was started again has to be told"""
    since: int = 0
    """ended trials that this queue has told"""

    @property
    def is_over(self) -> bool:
        """True once every trial has ended."""
        return len(self.ended) == len(self.trials)

    @property
    def asked(self) -> int:
        """Number of trials that are asked for by now."""
        return len(self.trials) - len(self.held - {*self.dropped}) - len(self.dropped)

    def label(self, number: int) -> str:
        return self.trials[number].label

    def take(self, snapshot: Snapshot) -> bool:
        """Take over what a snapshot says.

        False: it is of a queue that has just been started and has yet to be told what is known.
        """
        if not snapshot.knows:
            self.since = 0
            return False
        self.since += len(snapshot.ended)
        for number, failure in snapshot.ended:
            if number in self.ended:
                continue
            self.ended[number] = failure
            if failure is None:
                self.finished.append(number)
            elif failure == DROPPED:
                self.dropped.append(number)
            else:
                self.failed[number] = failure
        self.waiting, self.elsewhere = snapshot.waiting, snapshot.elsewhere
        self.running = snapshot.running
        self.deaths.update(snapshot.deaths)
        self.entered |= snapshot.lanes
        self.refusal = self.refusal or snapshot.refusal
        return True
