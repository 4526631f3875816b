"""Queue: hands out trials on lease, one per lane, and knows how each of them is doing.

Trials are known by their numbers in the driver's list. A queue that is killed is started again by
Ray with no memory: the driver gives it the list and what had ended (run_state.py), lanes tell
it what they are at, and the store is the truth: a trial that is handed out twice is claimed once,
or found finished.
"""

import heapq
import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mae_ablation.study.trial import Trial

ATTEMPTS = 3  # a trial whose worker died so often without getting further is given up
BUSY_S = 5.0  # until a trial that another run is at work on is tried again
WAIT = "wait"
AGAIN = "again"
WAITING, LEASED, ENDED = "waiting", "leased", "ended"
DROPPED = "not wanted any more"
"""failure of a trial that a search, or a look, does not want any more; it is none"""


@dataclass(frozen=True, slots=True)
class Task:
    """What a lane is to do next."""

    number: int
    trial: Trial
    attempt: int = 1
    """how often the trial has been started, this time included"""
    owner: str = ""
    """lane for whose claims in the store this one stands in: its own, or that of a dead one"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task."""

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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of the queue at one moment; of what has ended, only the news."""

    knows: bool
    """False: it has just been started, and has to be given its trials"""
    waiting: int
    elsewhere: int
    """those of them that another run is at work on"""
    running: dict[str, Lease]
    """by lane"""
    ended: list[tuple[int, str | None]]
    """number and failure of the trials that ended since the last snapshot, in order"""
    deaths: dict[int, WorkerDeaths]
    """by number, of trials whose worker has died"""
    lanes: set[str]
    """that have asked for a trial"""
    refusal: str | None
    """why the study cannot go on"""


@dataclass(frozen=True, slots=True)
class SearchNews:
    """How trials that a search asked for are doing."""

    ended: dict[int, str | None]
    """failure by number, of those that have ended"""
    stopping: bool
    """whether the run is being left"""


class TrialQueue:
    """An actor. A trial waits for what it needs (a tokeniser, a PCA, the pre-training that several
    tries share) while that is to be run; one that others decide on, a search or the looks of a
    study that grows, is held until they ask for it."""

    def __init__(self, trials: Sequence[Trial] | None = None) -> None:
        """`trials`: the driver gives them later (`restore`), as Ray warns of actors that can be
        started again and have large arguments."""
        self._trials: Sequence[Trial] | None = None
        self._state: list[str] = []
        self._waiting = 0
        self._ready: list[int] = []  # a heap; entries that no longer wait are skipped
        self._aside: list[tuple[float, int]] = []  # a heap: when to try again, and what
        self._blocked: dict[int, list[int]] = defaultdict(list)  # by what they need
        self._needy: set[int] = set()  # all of those
        self._held: set[int] = set()  # until they are asked for
        self._dropped: set[int] = set()  # not wanted any more
        self._leases: dict[str, Lease] = {}
        self._ended: dict[int, str | None] = {}  # failure by number, in order
        self._deaths: dict[int, WorkerDeaths] = defaultdict(WorkerDeaths)
        self._owners: dict[int, str] = {}
        self._lanes: set[str] = set()
        self._gone: set[str] = set()
        self._stopping = False
        self._refusal: str | None = None
        if trials is not None:
            self._fill(trials)

    def _fill(self, trials: Sequence[Trial]) -> None:
        self._trials, self._waiting = trials, len(trials)
        self._state = [WAITING] * len(trials)
        needed = {trial.needs.id for trial in trials if trial.needs}
        by_id = {trial.id: n for n, trial in enumerate(trials) if trial.id in needed}
        for number, trial in enumerate(trials):
            need = by_id.get(trial.needs.id) if trial.needs else None
            if need is None:
                self._ready.append(number)
            else:
                self._blocked[need].append(number)
                self._needy.add(number)

    # what lanes call

    def next(self, lane: str, outcome: Outcome | None = None) -> Task | str | None:
        """Take back what became of the lane's task, and return its next one.

        WAIT while what is left waits for others, None when there is nothing more to do, AGAIN if
        it has to be told the same in a moment.
        """
        self._lanes.add(lane)
        if self._trials is None:
            return AGAIN
        self._take_back(lane, outcome)
        if self._stopping or lane in self._gone:
            return None
        number = self._pop()
        if number is None:
            return WAIT if self._waiting else None
        self._set(number, LEASED)
        attempt = self._deaths[number].all + 1 if number in self._deaths else 1
        self._leases[lane] = Lease(number, attempt)
        return Task(number, self._trials[number], attempt, self._owners.get(number, lane))

    def beat(self, lane: str, number: int, progress: dict) -> bool:
        """Hear how the trial of a lane is doing; returns whether it is to stop."""
        self._lanes.add(lane)
        if lane in self._gone or number in self._dropped:
            return True
        if self._trials is None:
            return self._stopping
        if lane not in self._leases and self._state[number] == WAITING:
            self._set(number, LEASED)  # handed out before the queue was killed
            self._leases[lane] = Lease(number)
        lease = self._leases.get(lane)
        if lease and lease.number == number and progress:
            lease.progress = progress
            self._note_progress(number, progress)
        return self._stopping

    def leave(self, lane: str, outcome: Outcome) -> None:
        """Take back what became of the lane's task; the lane takes no other."""
        self._take_back(lane, outcome)

    def refuse(self, reason: str) -> None:
        """End the run: a lane finds that the study cannot go on."""
        self._refusal, self._stopping = reason, True

    # what a search calls, or the driver for looks

    def follow(self, numbers: Sequence[int]) -> SearchNews | None:
        """Hand out these trials, too, if that is not done yet, and say how they are doing.

        None: the queue has just been started; to be asked again in a moment.
        """
        if self._trials is None:
            return None
        self.release(numbers)
        ended = {number: self._ended[number] for number in numbers if number in self._ended}
        return SearchNews(ended, self._stopping)

    def drop(self, numbers: Iterable[int]) -> None:
        """End these trials, at work or not: they are not wanted any more."""
        self._dropped.update(numbers)
        for number in list(numbers) if self._trials is not None else ():
            if self._state[number] == WAITING:
                self._end(number, DROPPED)

    def release(self, numbers: Iterable[int]) -> None:
        """Hand out these trials, too."""
        for number in self._held & set(numbers):
            self._held.discard(number)
            if number not in self._needy:
                heapq.heappush(self._ready, number)

    # what the driver calls

    def lost(self, lane: str, reason: str, counts: bool = True) -> None:
        """Have the trial of a lost lane wait for another, unless it has killed too many workers.

        `counts`: the worker's death may be the trial's fault.
        """
        self._gone.add(lane)
        lease = self._leases.pop(lane, None)
        if lease is None:
            return
        deaths = self._deaths[lease.number]
        deaths.all += 1
        deaths.in_a_row += counts
        self._owners.setdefault(lease.number, lane)
        if deaths.in_a_row >= ATTEMPTS:
            self._end(
                lease.number,
                f"its worker died {ATTEMPTS} times without getting further "
                f"(attempt {deaths.all}): {reason}",
            )
        else:
            self._put_back(lease.number)

    def stop(self) -> None:
        """Have every lane save what it is at, and leave."""
        self._stopping = True

    def restore(
        self,
        trials: Sequence[Trial],
        ended: dict[int, str | None],
        deaths: dict[int, WorkerDeaths],
        held: frozenset[int] = frozenset(),
    ) -> None:
        """Take over what the driver knows, if this queue knows nothing.

        Args:
            held: trials that wait until they are asked for.
        """
        self._held = set(held)
        self._fill(trials)
        self.drop(self._dropped)
        self._deaths.update(deaths)
        for number, failure in ended.items():
            self._end(number, failure)

    def snapshot(self, since: int = 0) -> Snapshot:
        """Return the state now, `since`: how many ended trials the driver knows of this queue."""
        return Snapshot(
            knows=self._trials is not None,
            waiting=self._waiting,
            elsewhere=sum(self._state[number] == WAITING for _, number in self._aside),
            running=dict(self._leases),
            ended=list(itertools.islice(self._ended.items(), since, None)),
            deaths={number: deaths for number, deaths in self._deaths.items() if deaths.all},
            lanes=self._lanes,
            refusal=self._refusal,
        )

    # bookkeeping

    def _take_back(self, lane: str, outcome: Outcome | None) -> None:
        lease = self._leases.pop(lane, None)
        if outcome is None:
            if lease:
                self._put_back(lease.number)
        elif outcome.put_back:
            self._put_back(outcome.number, BUSY_S if outcome.put_back == "busy" else 0.0)
        else:
            self._end(outcome.number, outcome.failure)

    def _put_back(self, number: int, wait_s: float = 0.0) -> None:
        held = any(lease.number == number for lease in self._leases.values())
        if held or self._state[number] == ENDED:
            return
        if number in self._dropped:
            self._end(number, DROPPED)
            return
        self._set(number, WAITING)
        if wait_s:
            heapq.heappush(self._aside, (time.monotonic() + wait_s, number))
        else:
            heapq.heappush(self._ready, number)

    def _pop(self) -> int | None:
        """Return the first trial that is ready; else one that was busy some seconds ago."""
        while self._ready:
            number = heapq.heappop(self._ready)
            if self._state[number] == WAITING and number not in self._held:
                return number
        while self._aside and self._aside[0][0] <= time.monotonic():
            _, number = heapq.heappop(self._aside)
            if self._state[number] == WAITING:
                return number
        return None

    def _end(self, number: int, failure: str | None) -> None:
        """End the trial, and with a failed one those that need it."""
        if self._state[number] == ENDED:
            return
        self._set(number, ENDED)
        self._ended[number] = failure
        if number in self._deaths and not self._deaths[number].all:
            del self._deaths[number]
        for other in self._blocked.pop(number, ()):
            self._needy.discard(other)
            if failure is None:
                heapq.heappush(self._ready, other)
            else:
                self._end(other, f"it needs the {self._trials[number].label}: {failure}")

    def _set(self, number: int, state: str) -> None:
        self._waiting += (state == WAITING) - (self._state[number] == WAITING)
        self._state[number] = state

    def _note_progress(self, number: int, progress: dict) -> None:
        deaths = self._deaths[number]
        for phase, step in progress.get("saved", {}).items():
            if step > deaths.reached.get(phase, 0):
                deaths.reached[phase] = step
                deaths.in_a_row = 0
