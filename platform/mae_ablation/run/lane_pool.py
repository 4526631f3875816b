"""The lanes of a run: started where there is room, and started again when they die.

Ray Train could restart a worker group itself. It is not asked to: a lane that has lost a worker
ends, and the driver, who knows the reason and what room is left, starts it again. That costs some
seconds more after a death, and there is one way back from everything: a killed worker, a killed
controller, a lost node, a start-up that failed, a cluster that has shrunk.
"""

import contextlib
import itertools
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mae_ablation.errors import one_line
from mae_ablation.run.capacity import choose_backend, count_room
from mae_ablation.run.lanes import Lanes
from mae_ablation.run.ray_private import (
    kill_controllers,
    list_failed_launches,
    remove_orphaned_groups,
)
from mae_ablation.run.ray_session import RayDied, list_nodes
from mae_ablation.run.run_state import RunState

LOOK_S = 2.0  # between two looks at the cluster's nodes
ROUNDS = 3  # of lanes that never came to their first trial, one after the other, and no other alive
ENDED_S = 10.0  # for lanes that were ended; one may only now be starting
LOOK_AGAIN_S = 1.0
LOOK_FOR_NODES_S = 30.0  # between two questions why nodes do not come
NO_ROOM_S = 20.0  # until a lane that found no room is tried again

LOST, KILLED = "its node was lost", "its worker was killed (by hand, or by the system for want of "
RAYS_WORDS = (  # on a dead worker; ours, and whether its trial may have caused it
    (
        "running low on memory|OutOfMemory",
        "out of memory: Ray stopped its worker as the node was running low on it",
        True,
    ),
    ("node has died|node was terminated|NodeDied", LOST, False),
    ("ActorUnavailable", f"{LOST}, or is out of reach", False),  # Ray does not know why yet
    ("worker process has died", f"{KILLED}memory)", True),
)


@dataclass(frozen=True, slots=True)
class LaneEnd:
    """Why a lane ended, if not of itself."""

    reason: str
    blame: bool = True
    """True: its trial may have caused it"""
    no_room: bool = False
    """True: its workers never had a place"""


class LaneThread(threading.Thread):
    """Runs a lane until it has nothing more to do, or dies.

    Args:
        config: what `lane_loop` is given.
        notes: a folder of this machine for Ray Train's notes.
    """

    def __init__(self, lanes: Lanes, config: dict, notes: str) -> None:
        super().__init__(name=f"lane-{config['lane']}", daemon=True)
        self.key = config["lane"]
        """its slot, and which start of a lane of this run it is: "0.3" """
        self._lanes, self._config, self._notes = lanes, config, notes
        self._backend = choose_backend(lanes, list_nodes())
        self.end: LaneEnd | None = None

    def run(self) -> None:
        try:
            self._make_trainer().fit()
        except BaseException as error:  # the main thread decides, it is not lost in this one
            self.end = explain_end(error)

    def _make_trainer(self) -> Any:
        """Make the lane's TorchTrainer, which gives up at the first death."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        from mae_ablation.run.lane import lane_loop

        lanes = self._lanes
        return TorchTrainer(
            lane_loop,
            train_loop_config=self._config,
            torch_config=TorchConfig(backend=self._backend),
            scaling_config=ScalingConfig(
                num_workers=lanes.workers,
                use_gpu=lanes.gpus > 0,
                resources_per_worker={n: v for n, v in lanes.need.items() if n in ("CPU", "GPU")},
                accelerator_type=lanes.accelerator,
            ),
            run_config=RunConfig(
                name=self.name,
                storage_path=self._notes,  # of the controller, which is on this machine
                failure_config=FailureConfig(
                    max_failures=0, controller_failure_limit=0, max_preemption_failures=0
                ),
            ),
        )


def explain_end(error: BaseException) -> LaneEnd:
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
        return LaneEnd(LOST, blame=False)
    for death in [*deaths, cause or error]:
        for words, reason, blame in RAYS_WORDS:
            if re.search(words, f"{type(death).__name__}: {death}"):
                return LaneEnd(reason, blame)
    first = next(iter(deaths), cause or error)
    return LaneEnd(one_line(getattr(first, "_base_exc", first)))  # without it: a traceback's words


class LanePool:
    """Starts lanes while there are trials and room for them.

    Args:
        config: what every lane is given, with the actors that are told when one is lost: the
            queue, and the cache of data sets.
        notes: a folder of this machine for Ray Train's notes.
        trials: number of trials of the run.
    """

    def __init__(self, lanes: Lanes, config: dict, notes: str, trials: int) -> None:
        self._lanes, self._config, self._notes = lanes, config, notes
        self._expected = lanes.count or 1
        self._limit = trials if lanes.grows else self._expected
        self._alive: dict[int, LaneThread] = {}  # by slot
        self._numbers = itertools.count(1)
        self._failed_starts = 0
        self._told: set[str] = set()  # devices, and those that are left out
        self._looked, self._not_before = -LOOK_S, 0.0

    @property
    def alive(self) -> list[str]:
        """Keys of the lanes that have not ended."""
        return [lane.key for lane in self._alive.values()]

    def count_working(self, state: RunState) -> int:
        """Count the lanes that take trials: all but those that hold a GPU that is left out."""
        return len(set(self.alive) - state.parked)

    def _count_wanted(self, state: RunState) -> int:
        """Count the lanes that there are trials for."""
        return min(self._limit, state.waiting + len(state.running))

    def count_awaited(self, state: RunState) -> int:
        """Count the lanes that there will be once their nodes are there, as far as is known."""
        lost = 0 if self._lanes.scales else len(state.parked)
        return min(self._expected - lost, self._count_wanted(state))

    def reap(self, state: RunState, say: Callable[[str], None]) -> None:
        """Let go of the lanes that have ended; their trials wait for others.

        Raises:
            RayDied: lanes keep dying before their first trial.
        """
        if any(key in state.entered for key in self.alive):
            self._failed_starts = 0
        for slot, lane in list(self._alive.items()):
            if lane.is_alive():
                continue
            del self._alive[slot]
            end = lane.end
            for actor in (self._config["queue"], self._config["cache"]):
                actor.lost.remote(lane.key, end.reason if end else "", bool(end and end.blame))
            if end:
                self._looked = -LOOK_S
                self._note_end(lane, end, state, say)

    def _note_end(
        self, lane: LaneThread, end: LaneEnd, state: RunState, say: Callable[[str], None]
    ) -> None:
        """Say why a lane ended, and put off its next start."""
        if end.no_room:
            self._not_before = time.monotonic() + NO_ROOM_S
        elif lane.key in state.entered:
            then = "" if state.stopped else "; it starts again where there is room"
            say(f"lane {slot_of(lane.key)}: {end.reason}{then}")
        else:
            self._failed_starts += 1
            self._not_before = time.monotonic() + 1.0
            say(f"lane {slot_of(lane.key)} did not start: {end.reason}")
            rounds = ROUNDS * max(1, self.count_awaited(state))
            if not self._alive and self._failed_starts >= rounds:
                raise RayDied(f"no lane can be started: {end.reason}")

    def fill(self, state: RunState) -> None:
        """Start lanes for which there are trials and room."""
        now = time.monotonic()
        if now - self._looked < LOOK_S or now < self._not_before:
            return
        self._looked = now
        remove_orphaned_groups()

        # lanes that hold a GPU that is left out take up room, and do no work
        working = self.count_working(state)
        parked = len(self._alive) - working
        room = min(self._limit, count_room(list_nodes(), self._lanes)) - parked
        may_grow = self._lanes.scales and parked < self._limit
        if parked and not working and room < 1 and not may_grow:
            reasons = dict.fromkeys(each.reason for each in state.faults.values())
            state.refusal = f"no GPU is left: {'; '.join(reasons)}"

        # a lane that is started again has its old slot
        number = parked + min(self._count_wanted(state), room)
        while len(self._alive) < number:
            slot = next(slot for slot in itertools.count() if slot not in self._alive)
            key = f"{slot}.{next(self._numbers)}"
            config = {**self._config, "lane": key, "lanes": number - parked}
            self._alive[slot] = LaneThread(self._lanes, config, self._notes)
            self._alive[slot].start()

    def tell_devices(self, state: RunState, say: Callable[[str], None]) -> None:
        """Say once what each kind of device is, and which GPU is left out."""
        for name in {name: None for mine in state.devices.values() for name in mine.values()}:
            if name and name not in self._told:
                self._told.add(name)
                say(f"device: {name}")
        for gpu, faults in state.faults.items():
            if faults.is_left_out and gpu not in self._told:
                self._told.add(gpu)
                say(f"{gpu} is left out of this run: {faults.reason}")

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

    def __init__(self, lanes: Lanes) -> None:
        self._lanes, self._asked = lanes, 0
        self._looked = time.monotonic()
        self._told: set[str] = set()  # reasons why nodes do not come

    def ask(self, lanes: int) -> None:
        """Have room for so many lanes; fewer let idle nodes go."""
        if self._lanes.scales and lanes != self._asked:
            from ray.autoscaler.sdk import request_resources

            request_resources(bundles=[self._lanes.need] * (lanes * self._lanes.workers))
            self._asked = lanes

    def tell_failed_launches(self, say: Callable[[str], None]) -> None:
        """Say each reason of the autoscaler's why nodes do not come, once."""
        if not self._lanes.scales or time.monotonic() - self._looked < LOOK_FOR_NODES_S:
            return
        self._looked = time.monotonic()
        with contextlib.suppress(Exception):  # a reason that is not to be had stops no run
            for reason in list_failed_launches():
                if reason not in self._told:
                    self._told.add(reason)
                    say(f"a node did not start, the autoscaler says: {reason}")

    def __enter__(self) -> "NodeRequest":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(Exception):  # Ray may be what has ended
            self.ask(0)
