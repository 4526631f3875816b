"""Crew: the lanes that are alive: started where there is room, missed when they die."""

import itertools
import time
from collections.abc import Callable
from typing import Any

from mae_ablation.run.leftovers import kill_controllers, remove_leftovers
from mae_ablation.run.life import End, Life
from mae_ablation.run.ray_session import RayDied
from mae_ablation.run.tally import Tally

LOOK_S = 2.0  # between two looks at the cluster's nodes
ROUNDS = 3  # of lanes that never came to their first trial, one after the other, and no other alive
ENDED_S = 10.0  # for lanes that were ended; one may only now be starting
LOOK_AGAIN_S = 1.0
NO_ROOM_S = 20.0  # until a lane that found no room is tried again


class Crew:
    """Starts lanes while there are trials and room for them.

    Args:
        actors: the queue and the shelf, which are told when a lane is lost.
        room: lanes that the cluster's nodes have room for at this moment.
        limit: lanes there may be at most.
        expected: lanes there will be, as far as is known; nodes that join may make it more.
        make: a lane's life, from its name and the number of lanes.
    """

    def __init__(
        self,
        actors: list[Any],
        *,
        room: Callable[[], int],
        limit: int,
        expected: int,
        make: Callable[[str, int], Life],
    ) -> None:
        self._actors, self._room, self._limit, self._make = actors, room, limit, make
        self._expected = expected
        self._alive: dict[int, Life] = {}  # by slot
        self._numbers = itertools.count(1)
        self._failed_starts = 0
        self._looked, self._not_before = -LOOK_S, 0.0

    @property
    def alive(self) -> list[str]:
        return [life.lane for life in self._alive.values()]

    def wanted(self, tally: Tally) -> int:
        return min(self._limit, tally.waiting + len(tally.running))

    def awaited(self, tally: Tally) -> int:
        """Lanes that will be there once their nodes are."""
        return min(self._expected, self.wanted(tally))

    def reap(self, tally: Tally, say: Callable[[str], None]) -> None:
        """Let go of the lanes that have ended; their trials wait for others.

        Raises:
            RayDied: lanes keep dying before their first trial.
        """
        if any(life.lane in tally.entered for life in self._alive.values()):
            self._failed_starts = 0
        for slot, life in list(self._alive.items()):
            if life.is_alive():
                continue
            del self._alive[slot]
            end = life.end
            for actor in self._actors:
                actor.lost.remote(life.lane, end.reason if end else "", bool(end and end.blame))
            if end:
                self._looked = -LOOK_S
                self._note(life, end, tally, say)

    def _note(self, life: Life, end: End, tally: Tally, say: Callable[[str], None]) -> None:
        slot = slot_of(life.lane)
        if end.no_room:
            self._not_before = time.monotonic() + NO_ROOM_S
        elif life.lane in tally.entered:
            then = "" if tally.stopped else "; it starts again where there is room"
            say(f"lane {slot}: {end.reason}{then}")
        else:
            self._failed_starts += 1
            self._not_before = time.monotonic() + 1.0
            say(f"lane {slot} did not start: {end.reason}")
            if not self._alive and self._failed_starts >= ROUNDS * max(1, self.awaited(tally)):
                raise RayDied(f"no lane can be started: {end.reason}")

    def fill(self, tally: Tally) -> None:
        """Start lanes for which there are trials and room."""
        now = time.monotonic()
        if now - self._looked < LOOK_S or now < self._not_before:
            return
        self._looked = now
        remove_leftovers()
        number = min(self.wanted(tally), self._room())
        while len(self._alive) < number:
            slot = next(slot for slot in itertools.count() if slot not in self._alive)
            self._alive[slot] = self._make(f"{slot}.{next(self._numbers)}", number)
            self._alive[slot].start()

    def leave(self, seconds: float) -> None:
        """Wait so long for the lanes to end by themselves, then end them.

        Ray ends this process on the spot if it is shut down while a thread waits for a lane.
        """
        self._join(seconds)
        until = time.monotonic() + ENDED_S
        while any(life.is_alive() for life in self._alive.values()) and time.monotonic() < until:
            kill_controllers()  # again: that of a lane that was starting is there only now
            self._join(LOOK_AGAIN_S)

    def _join(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for life in self._alive.values():
            life.join(max(0.0, until - time.monotonic()))


def slot_of(lane: str) -> str:
    """What a person calls a lane: it keeps its number when it is started again."""
    return lane.split(".")[0]
