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
from collections.abc import Collection, Iterable, Sequence

from mae_ablation.run.run_state import (
    DROPPED,
    FAULTS,
    Faults,
    Lease,
    Outcome,
    Snapshot,
    Task,
    WorkerDeaths,
)
from mae_ablation.study.trial import Trial

MOST_DEATHS = 3  # a trial whose worker died so often without getting further is given up
SUSPECT = 3  # a trial that meets them on so many GPUs is their cause: it fails, and they are sound
BUSY_S = 5.0  # until a trial that another run is at work on is tried again
WAIT = "wait"
ASK_AGAIN = "again"
WAITING, LEASED, ENDED = "waiting", "leased", "ended"


class TrialQueue:
    """An actor. A trial waits for what it needs (a tokeniser, a PCA, the pre-training that several
    tries share) while that is to be run; one that others decide on, a search or the looks of a
    study that grows, is held until they ask for it."""

    def __init__(self, trials: Sequence[Trial] | None = None) -> None:
        """`trials`: the driver gives them later (`restore`), as Ray warns of actors that can be
        started again and have large arguments."""
        # trials: how each stands, and which of them may be handed out
        self._trials: Sequence[Trial] | None = None
        self._state: list[str] = []
        self._waiting = 0
        self._ready: list[int] = []  # a heap; entries that no longer wait are skipped
        self._aside: list[tuple[float, int]] = []  # a heap: when to try again, and what
        self._blocked: dict[int, list[int]] = defaultdict(list)  # by what they need
        self._needy: set[int] = set()  # all of those
        self._held: set[int] = set()  # until they are asked for
        self._dropped: set[int] = set()  # not wanted any more

        # lanes: what they have and had, and who of them is dead
        self._leases: dict[str, Lease] = {}
        self._ended: dict[int, str | None] = {}  # failure by number, in order
        self._deaths: dict[int, WorkerDeaths] = defaultdict(WorkerDeaths)
        self._owners: dict[int, str] = {}
        self._lanes: set[str] = set()
        self._gone: set[str] = set()

        # GPUs, and the lanes that hold them
        self._devices: dict[str, dict[str, str]] = defaultdict(dict)  # by lane
        self._faults: dict[str, Faults] = defaultdict(Faults)  # by GPU
        self._faulty: set[str] = set()  # lanes whose process has met one: it is good for no other
        self._stopping = False
        self._refusal: str | None = None
        if trials is not None:
            self._fill(trials)

    def _fill(self, trials: Sequence[Trial]) -> None:
        self._trials, self._waiting = trials, len(trials)
        self._state = [WAITING] * len(trials)
        # what a trial needs is looked up by identity: several tries share one pre-training
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

    def enter(self, lane: str, device: str, name: str) -> None:
        """Hear which GPU a worker of a lane has."""
        self._devices[lane][device] = name

    def next(self, lane: str, outcome: Outcome | None = None) -> Task | str | None:
        """Take back what became of the lane's task, and return its next one.

        WAIT while what is left waits for others, None when there is nothing more to do,
        ASK_AGAIN if it has to be told the same in a moment.
        """
        self._lanes.add(lane)
        if self._trials is None:
            return ASK_AGAIN
        self.take_back(lane, outcome)
        if self._stopping or lane in self._gone:
            return None

        # a lane that has met a hardware error takes no other trial
        parked = self._parked()
        if lane in parked:  # it holds the GPU as long as there may be trials for others
            return WAIT if self._waiting or self._leases else None
        if lane in self._faulty:
            return None

        # what met one on this lane's GPU is for the others, if there are any
        others = self._lanes - self._gone - parked - {lane}
        mine = [self._faults[device] for device in self._devices[lane] if device in self._faults]
        number = self._pop({n for each in mine for n in each.trials} if others else ())
        if number is None:
            return WAIT if self._waiting else None
        self._set(number, LEASED)
        attempt = self._deaths[number].all + 1 if number in self._deaths else 1
        self._leases[lane] = Lease(number, attempt)
        return Task(number, self._trials[number], attempt, self._owners.get(number, lane))

    def beat(self, lane: str, number: int, progress: dict) -> bool:
        """Hear how the trial of a lane is doing; returns True if it is to stop."""
        self._lanes.add(lane)
        if lane in self._gone | self._faulty or number in self._dropped:
            return True
        if self._trials is None:
            return self._stopping
        if lane not in self._leases and self._state[number] == WAITING:
            self._set(number, LEASED)  # handed out before the queue was killed
            self._leases[lane] = Lease(number)

        # a checkpoint further than any before: those who died on the way there were not in vain
        lease = self._leases.get(lane)
        if lease and lease.number == number and progress:
            lease.progress = progress
            deaths = self._deaths[number]
            for phase, step in progress.get("saved", {}).items():
                if step > deaths.reached.get(phase, 0):
                    deaths.reached[phase], deaths.in_a_row = step, 0
        return self._stopping

    def take_back(self, lane: str, outcome: Outcome | None) -> None:
        """Take back what became of the lane's task; a lane that leaves calls this itself."""
        lease = self._leases.pop(lane, None)
        if outcome is None:
            if lease:
                self._put_back(lease.number)
        elif outcome.put_back:
            self._put_back(outcome.number, BUSY_S if outcome.put_back == "busy" else 0.0)
        else:
            self._end(outcome.number, outcome.failure)

    def fault(self, lane: str, device: str, reason: str, *, hopeless: bool = False) -> bool:
        """Hear of a hardware error: the lane's trial is put back, and it counts against the GPU.

        Args:
            hopeless: the GPU cannot be used at all.

        Returns True if the GPU is left out: the lane is to hold it, so that nobody else gets it.
        """
        self._devices[lane].setdefault(device, "")
        lease = self._leases.pop(lane, None)
        faults, number = self._faults[device], lease.number if lease else -1
        if lane not in self._faulty or hopeless:  # one of several workers has said it already
            self._faulty.add(lane)
            faults.trials += [number] * (FAULTS if hopeless else 1)
            faults.reason = reason
        # met on several GPUs, an error is more likely the trial's than all of theirs
        where = [each for each in self._faults.values() if number in each.trials]
        if lease and len(where) >= SUSPECT:
            for each in where:
                each.trials = [other for other in each.trials if other != number]
            self._end(number, f"a hardware error on each of {SUSPECT} GPUs: {reason}")
        elif lease:
            self._put_back(number)
        return faults.is_left_out

    def refuse(self, reason: str) -> None:
        """End the run: a lane finds that the study cannot go on."""
        self._refusal, self._stopping = reason, True

    # what a search calls, or the driver for looks

    def follow(self, numbers: Sequence[int]) -> bool:
        """Hand out these trials, too, if that is not done yet; returns True if nothing is left to
        wait for: all of them have ended, or the run is being left."""
        if self._trials is None:  # to be asked again in a moment
            return False
        self.release(numbers)
        return self._stopping or self._ended.keys() >= set(numbers)

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
        # a worker that is taken away with its node (spot) says nothing about the trial
        deaths = self._deaths[lease.number]
        deaths.all += 1
        deaths.in_a_row += counts
        self._owners.setdefault(lease.number, lane)
        if deaths.in_a_row < MOST_DEATHS:
            self._put_back(lease.number)
            return
        often = f"its worker died {MOST_DEATHS} times without getting further"
        self._end(lease.number, f"{often} (attempt {deaths.all}): {reason}")

    def stop(self) -> None:
        """Have every lane save what it is at, and leave."""
        self._stopping = True

    def restore(
        self,
        trials: Sequence[Trial],
        ended: dict[int, str | None],
        deaths: dict[int, WorkerDeaths],
        held: frozenset[int] = frozenset(),
        devices: dict[str, dict[str, str]] | None = None,
        faults: dict[str, Faults] | None = None,
    ) -> None:
        """Take over what the driver knows, if this queue knows nothing.

        Args:
            held: trials that wait until they are asked for.
        """
        self._devices.update(devices or {})
        self._faults.update(faults or {})
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
            devices=dict(self._devices),
            faults=dict(self._faults),
            parked=self._parked(),
        )

    # bookkeeping

    def _parked(self) -> set[str]:
        out = {device for device, faults in self._faults.items() if faults.is_left_out}
        return {lane for lane, mine in self._devices.items() if out & mine.keys()} - self._gone

    def _put_back(self, number: int, wait_s: float = 0.0) -> None:
        # another lane may have it already, if this one was thought dead and came back
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

    def _pop(self, unwanted: Collection[int]) -> int | None:
        """Return the first trial that is ready; else one that was busy some seconds ago.

        Args:
            unwanted: trials that others are to take: they met hardware errors on this lane's GPU.
        """
        # the heap may name trials that were leased or ended since; they are skipped here
        found, passed = None, []
        while self._ready and found is None:
            number = heapq.heappop(self._ready)
            if self._state[number] == WAITING and number not in self._held:
                if number in unwanted:
                    passed.append(number)
                else:
                    found = number
        for number in passed:
            heapq.heappush(self._ready, number)
        while found is None and self._aside and self._aside[0][0] <= time.monotonic():
            _, number = heapq.heappop(self._aside)
            if self._state[number] == WAITING:
                found = number
        return found

    def _end(self, number: int, failure: str | None) -> None:
        """End the trial, and with a failed one those that need it."""
        if self._state[number] == ENDED:
            return
        self._set(number, ENDED)
        self._ended[number] = failure
        # entries without a death were only made by beats: keep what a snapshot sends small
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
