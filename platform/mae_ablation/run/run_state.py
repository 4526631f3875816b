"""The driver's knowledge of a run, which outlives a queue that is killed; and what queue, lanes and
driver tell each other. Trials are known by their numbers in the driver's list."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mae_ablation.study.trial import Trial

FAULTS = 2  # a GPU that has met so many hardware errors is left out for the run
DROPPED = "not wanted any more"
"""failure of a trial that a search, or a look, does not want any more; it is none"""


@dataclass(frozen=True, slots=True)
class Task:
    """The next trial of a lane."""

    number: int
    trial: Trial
    attempt: int = 1
    """number of times the trial has been started, this time included"""
    owner: str = ""
    """lane for whose claims in the store this one stands in: its own, or that of a dead one"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a task."""

    number: int
    failure: str | None = None
    """the reason; None: the trial is finished"""
    put_back: str = ""
    """"busy": another run is at work on it; "stopped": it was asked to leave"""


@dataclass(slots=True)
class Lease:
    """A trial in a lane's hands."""

    number: int
    attempt: int = 1
    progress: dict = field(default_factory=dict)


@dataclass(slots=True)
class WorkerDeaths:
    """Workers that died at a trial."""

    all: int = 0
    in_a_row: int = 0
    """without getting further; node losses do not count"""
    reached: dict[str, int] = field(default_factory=dict)
    """step of the furthest checkpoint of each phase"""


@dataclass(slots=True)
class Faults:
    """Hardware errors of a GPU."""

    trials: list[int] = field(default_factory=list)
    """number of the trial at work, for each of them; -1: none was"""
    reason: str = ""
    """the last one"""

    @property
    def is_left_out(self) -> bool:
        return len(self.trials) >= FAULTS


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of the queue at one moment; of what has ended, only the news."""

    knows: bool
    """False: it has just been started, and has to be given its trials"""
    waiting: int
    elsewhere: int
    """waiting trials that another run is at work on"""
    running: dict[str, Lease]
    """trial at work, by lane"""
    ended: list[tuple[int, str | None]]
    """number and failure of the trials that ended since the last snapshot, in order"""
    deaths: dict[int, WorkerDeaths]
    """those at each trial, by its number"""
    lanes: set[str]
    """lanes that have asked for a trial"""
    refusal: str | None
    """why the study cannot go on"""
    devices: dict[str, dict[str, str]]
    """GPUs that each lane has, "GPU 2 of 10.0.0.1", with what they are"""
    faults: dict[str, Faults]
    """hardware errors, by GPU"""
    parked: set[str]
    """lanes that hold a GPU that is left out, and take no trials"""


@dataclass(kw_only=True, slots=True)
class RunState:
    """Tells how the trials of a run stand, which are known by their numbers in the list."""

    trials: Sequence[Trial]
    wanted: int = 0
    """lanes that there is work for, and that were asked for"""
    live: int = 0
    """lanes that have been started and have not ended"""
    waiting: int = 0
    elsewhere: int = 0
    """waiting ones that another run is at work on"""
    running: dict[str, Lease] = field(default_factory=dict)
    """trial at work, by lane"""
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
    devices: dict[str, dict[str, str]] = field(default_factory=dict)
    """GPUs that each lane has, "GPU 2 of 10.0.0.1", with what they are"""
    faults: dict[str, Faults] = field(default_factory=dict)
    """hardware errors, by GPU"""
    parked: set[str] = field(default_factory=set)
    """lanes that hold a GPU that is left out, and take no trials"""
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

        # what has ended, in order; a queue that was started again tells it once more
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

        # the rest is as it is now
        self.waiting, self.elsewhere = snapshot.waiting, snapshot.elsewhere
        self.running = snapshot.running
        self.deaths.update(snapshot.deaths)
        self.entered |= snapshot.lanes
        self.refusal = self.refusal or snapshot.refusal
        self.devices, self.faults, self.parked = snapshot.devices, snapshot.faults, snapshot.parked
        return True
