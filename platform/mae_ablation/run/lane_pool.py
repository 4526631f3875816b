"""The lanes of a run: started where there is room, and started again when they die.

Ray Train could restart a worker group itself. It is not asked to: a lane that has lost a worker
ends, and the driver, who knows the reason and what room is left, starts it again. That costs some
seconds more after a death, and there is one way back from everything: a killed worker, a killed
controller, a lost node, a start-up that failed, a cluster that has shrunk.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mae_ablation.errors import one_line
from mae_ablation.run.lanes import Lanes
from mae_ablation.run.ray_private import kill_controllers, remove_orphaned_groups
from mae_ablation.run.ray_session import RayDied
from mae_ablation.run.run_state import RunState

LOOK_S = 2.0  # between two looks at the cluster's nodes
ROUNDS = 3  # of lanes that never came to their first trial, one after the other, and no other alive
ENDED_S = 10.0  # for lanes that were ended; one may only now be starting
LOOK_AGAIN_S = 1.0
NO_ROOM_S = 20.0  # until a lane that found no room is tried again


@dataclass(frozen=True, slots=True)
class LaneEnd:
    """Why a lane ended, if not of itself."""

    reason: str
    blame: bool = True
    """whether its trial may have caused it"""
    no_room: bool = False
    """its workers never had a place"""


class LaneThread(threading.Thread):
    """Runs a lane until it has nothing more to do, or dies."""

    def __init__(self, key: str, lanes: Lanes, config: dict, notes: str, backend: str) -> None:
        """Take what `lane_loop` is given, and a folder of this machine for Ray Train's notes."""
        super().__init__(name=f"lane-{key}", daemon=True)
        self.key = key
        """its slot, and which start of a lane of this run it is: "0.3" """
        self._arguments = (key, lanes, {**config, "lane": key}, notes, backend)
        self.end: LaneEnd | None = None

    def run(self) -> None:
        try:
            lane_trainer(*self._arguments).fit()
        except BaseException as error:  # the main thread decides, it is not lost in this one
            self.end = end_of(error)


def lane_trainer(key: str, lanes: Lanes, config: dict, notes: str, backend: str) -> Any:
    """Make the lane's TorchTrainer, which gives up at the first death."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from mae_ablation.run.lane import lane_loop

    resources = {name: lanes.need[name] for name in ("CPU", "GPU") if name in lanes.need}
    return TorchTrainer(
        lane_loop,
        train_loop_config=config,
        torch_config=TorchConfig(backend=backend),
        scaling_config=ScalingConfig(
            num_workers=lanes.workers,
            use_gpu=lanes.gpus > 0,
            resources_per_worker=resources,
            accelerator_type=lanes.accelerator,
        ),
        run_config=RunConfig(
            name=f"lane-{key}",
            storage_path=notes,  # read and written by the controller, which is on this machine
            failure_config=FailureConfig(
                max_failures=0, controller_failure_limit=0, max_preemption_failures=0
            ),
        ),
    )


def end_of(error: BaseException) -> LaneEnd:
    """Say why `fit` raised, in one line."""
    # the controller's end, or a place that never came
    cause = getattr(error, "controller_failure", None)
    if type(cause).__name__ == "WorkerGroupStartupTimeoutError":
        return LaneEnd("no room for its workers", blame=False, no_room=True)
    if type(error).__name__ == "ActorDiedError":
        return LaneEnd("its controller was killed", blame=False)

    # the workers' deaths, in Ray's words where we know them
    failures = getattr(error, "worker_failures", None) or {}
    deaths = [getattr(f, "health_check_failure", f) for f in failures.values()]
    if any(getattr(death, "preempted", False) for death in deaths):
        return LaneEnd("its node was lost", blame=False)
    for death in [*deaths, cause or error]:
        if reason := reason_of(f"{type(death).__name__}: {death}"):
            return reason
    first = next(iter(deaths), cause or error)
    first = getattr(first, "_base_exc", first)  # else its words are those of a traceback
    return LaneEnd(one_line(first))


def reason_of(text: str) -> LaneEnd | None:
    """Translate Ray's words on a dead worker; None: they are others than we know."""
    if "running low on memory" in text or "OutOfMemory" in text:
        return LaneEnd("out of memory: Ray stopped its worker as the node was running low on it")
    if "node has died" in text or "node was terminated" in text or "NodeDied" in text:
        return LaneEnd("its node was lost", blame=False)
    if "ActorUnavailable" in text:  # the connection ended before Ray knew why
        return LaneEnd("its node was lost, or is out of reach", blame=False)
    if "worker process has died" in text:
        return LaneEnd("its worker was killed (by hand, or by the system for want of memory)")
    return None


class LanePool:
    """Starts lanes while there are trials and room for them.

    Args:
        actors: the queue and the cache of data sets, which are told when a lane is lost.
        room: lanes that the cluster's nodes have room for at this moment.
        limit: lanes there may be at most.
        expected: lanes there will be, as far as is known; nodes that join may make it more.
        make: makes a lane of its key and the number of lanes.
    """

    def __init__(
        self,
        actors: list[Any],
        *,
        room: Callable[[], int],
        limit: int,
        expected: int,
        make: Callable[[str, int], LaneThread],
    ) -> None:
        self._actors, self._room, self._limit, self._make = actors, room, limit, make
        self._expected = expected
        self._alive: dict[int, LaneThread] = {}  # by slot
        self._numbers = itertools.count(1)
        self._failed_starts = 0
        self._looked, self._not_before = -LOOK_S, 0.0

    @property
    def alive(self) -> list[str]:
        """Keys of the lanes that have not ended."""
        return [lane.key for lane in self._alive.values()]

    def wanted(self, state: RunState) -> int:
        """Return how many lanes there are trials for."""
        return min(self._limit, state.waiting + len(state.running))

    def awaited(self, state: RunState) -> int:
        """Return how many lanes there will be once their nodes are there."""
        return min(self._expected, self.wanted(state))

    def reap(self, state: RunState, say: Callable[[str], None]) -> None:
        """Let go of the lanes that have ended; their trials wait for others.

        Raises:
            RayDied: lanes keep dying before their first trial.
        """
        if any(lane.key in state.entered for lane in self._alive.values()):
            self._failed_starts = 0
        for slot, lane in list(self._alive.items()):
            if lane.is_alive():
                continue
            del self._alive[slot]
            end = lane.end
            for actor in self._actors:
                actor.lost.remote(lane.key, end.reason if end else "", bool(end and end.blame))
            if end:
                self._looked = -LOOK_S
                self._note(lane, end, state, say)

    def _note(
        self, lane: LaneThread, end: LaneEnd, state: RunState, say: Callable[[str], None]
    ) -> None:
        slot = slot_of(lane.key)
        if end.no_room:
            self._not_before = time.monotonic() + NO_ROOM_S
        elif lane.key in state.entered:
            then = "" if state.stopped else "; it starts again where there is room"
            say(f"lane {slot}: {end.reason}{then}")
        else:
            self._failed_starts += 1
            self._not_before = time.monotonic() + 1.0
            say(f"lane {slot} did not start: {end.reason}")
            if not self._alive and self._failed_starts >= ROUNDS * max(1, self.awaited(state)):
                raise RayDied(f"no lane can be started: {end.reason}")

    def fill(self, state: RunState) -> None:
        """Start lanes for which there are trials and room."""
        now = time.monotonic()
        if now - self._looked < LOOK_S or now < self._not_before:
            return
        self._looked = now
        remove_orphaned_groups()
        number = min(self.wanted(state), self._room())
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
        while any(lane.is_alive() for lane in self._alive.values()) and time.monotonic() < until:
            kill_controllers()  # again: that of a lane that was starting is there only now
            self._join(LOOK_AGAIN_S)

    def _join(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for lane in self._alive.values():
            lane.join(max(0.0, until - time.monotonic()))


def slot_of(key: str) -> str:
    """Return what a person calls a lane, "0" of "0.3": it keeps that when it is started again."""
    return key.split(".")[0]


class NodeRequest:
    """Asks an autoscaling cluster for nodes as long as the block lasts, and another for nothing."""

    def __init__(self, lanes: Lanes, *, scales: bool = False) -> None:
        self._lanes, self._scales = lanes, scales
        self._asked = 0

    def ask(self, lanes: int) -> None:
        """Have room for so many lanes; fewer let idle nodes go."""
        if self._scales and lanes != self._asked:
            from ray.autoscaler.sdk import request_resources

            bundles = [self._lanes.need] * (lanes * self._lanes.workers)
            request_resources(bundles=bundles)
            self._asked = lanes

    def __enter__(self) -> "NodeRequest":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(Exception):  # Ray may be what has ended
            self.ask(0)
