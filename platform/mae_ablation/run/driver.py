"""Runs trials on lanes: starts them, watches over them, and knows when to stop."""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mae_ablation.errors import UserError, one_line
from mae_ablation.registry import plugins
from mae_ablation.run import capacity
from mae_ablation.run.dataset_cache import DatasetCache
from mae_ablation.run.lane_pool import LanePool, NodeRequest
from mae_ablation.run.lanes import Lanes
from mae_ablation.run.queue import TrialQueue
from mae_ablation.run.ray_session import RayDied, list_nodes, require_alive
from mae_ablation.run.run_state import RunState
from mae_ablation.run.seed_gate import Ask, SeedGate
from mae_ablation.run.shared_store import store_id
from mae_ablation.run.stopping import Interrupt, TimeLimit
from mae_ablation.store.folder import Store
from mae_ablation.study.work import OpenWork

if TYPE_CHECKING:
    from mae_ablation.run.progress import Progress

POLL_S = 0.5
QUEUE_ANSWER_S = 300.0  # the queue may have to be started again on a busy machine
LEAVE_S = 15.0  # for lanes that have nothing more to do


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Trials to be run, by which code and into which store, and who decides which of them start."""

    work: OpenWork
    """trials, and the tries of a search, whose trials start when it asks for them"""
    store: Store
    commit: str
    ask: Ask | None = None
    """says what growing studies ask for by now; None where none grows"""
    train: Callable[..., str | None] | None = None
    """stands in for run_trial, with its arguments"""


def fit_lanes(lanes: Lanes, address: str = "local", autoscale: int | None = None) -> Lanes:
    """Return the lanes with their number, and the threads and GPUs of each worker.

    To be called in a Ray session.

    Args:
        autoscale: lanes that a cluster starts nodes for, if it says nothing itself.

    Raises:
        UserError: there will never be room for those asked for.
    """
    # what is there, and what an autoscaler could add to it
    nodes = list_nodes()
    growth = capacity.read_growth() if address != "local" else None
    if growth is None and autoscale:
        growth = capacity.Growth(lanes=autoscale)
    every_kind = nodes + ([node for node, _ in growth.types] if growth else [])
    lanes = capacity.choose_gpus(lanes, nodes, growth)
    lanes = replace(lanes, gpu_type=capacity.find_gpu_type(lanes, every_kind))
    shape = capacity.fit_threads(lanes, every_kind)
    count = capacity.count_lanes(shape, nodes, growth)
    # lanes are added as nodes join, unless somebody has said how many there are to be
    scales = growth is not None and growth.is_stated
    return replace(shape, count=count, scales=scales, grows=lanes.count is None and not scales)


def run_trials(
    run: Run, lanes: Lanes, view: "Progress", time_limit: TimeLimit | None = None
) -> RunState:
    """Run all trials in a Ray session, until they have ended or the user wants to leave.

    Args:
        lanes: as `fit_lanes` gives them.

    Returns how they stand: `stopped` if the user left, `spent` if the time limit did.

    Raises:
        UserError: the store is not shared with a node, or no GPU is left.
        RayDied: Ray is gone.
    """
    import ray

    # actors, and what each lane is given
    place = run.store.files.root  # absolute: workers have other working directories
    forever = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    state = RunState(trials=run.work.trials)
    queue = ray.remote(**forever)(TrialQueue).remote()
    cache = ray.remote(**forever)(DatasetCache).remote()
    notes = tempfile.mkdtemp(prefix="mae-ablation-")
    config = {
        "queue": queue,
        "cache": cache,
        "run": f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}",
        "store": place,
        "store_id": store_id(place),
        "threads": lanes.cpus,
        "gpus": lanes.gpus,
        "micro_batch": lanes.micro_batch,
        "commit": run.commit,
        "plugins": plugins(),
        "train": run.train,
    }

    # lanes under watch, until their trials have ended
    pool = LanePool(lanes, config, notes, len(state.trials))
    search = None
    if searched := run.work.searched:
        from mae_ablation.run.search import Search  # Ray Tune takes seconds to import

        search = Search(searched, queue, store=place, notes=notes, lanes=lanes.count or 1)
        search.start()
    driver = Driver(
        state=state,
        queue=queue,
        kept=ray.put(state.trials),  # as long as the queue may have to be started again
        pool=pool,
        time_limit=time_limit or TimeLimit(),
        search=search,
        seed_gate=SeedGate(state.trials, run.ask) if run.ask else None,
        view=view,
    )
    try:
        with Interrupt() as interrupt, NodeRequest(lanes) as node_request:
            driver.watch(interrupt, node_request)
    except KeyboardInterrupt:
        pool.leave(0.0)
        raise
    except (RayDied, ray.exceptions.RayError) as error:
        if not interrupt.asked:
            raise as_ray_died(error) from None
        state.stopped = True  # SIGTERM to the whole process group ends Ray, too
    finally:
        if search:
            search.leave(LEAVE_S)
        shutil.rmtree(notes, ignore_errors=True)
    if state.refusal:
        raise UserError(state.refusal)
    return state


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """Watches over the trials of a run."""

    state: RunState
    queue: Any
    kept: Any
    """reference of the trials, which are large"""
    pool: LanePool
    time_limit: TimeLimit
    search: Any
    """run/search.py's, or None"""
    seed_gate: SeedGate | None
    view: "Progress"

    def watch(self, interrupt: Interrupt, node_request: NodeRequest) -> None:
        """Return when every trial has ended, or every lane has left."""
        state, say = self.state, self.view.say
        gates = [gate for gate in (self.search, self.seed_gate) if gate]
        while True:
            # how the trials stand, and what is decided by that
            self.update(gates)
            self.pool.tell_devices(state, say)
            if state.is_over:
                break
            for gate in gates:
                gate.follow(self.queue, state, say)
            self.pool.reap(state, say)

            # whether to leave
            if interrupt.asked and not state.stopped:
                state.stopped = True
                say("finishing the running step and saving; Ctrl-C again stops at once")
            if not state.stopped and (spent := self.time_limit.spent(len(self.pool.alive))):
                state.stopped, state.spent = True, spent
                say(f"the budget of {spent} is spent: finishing the running step and saving")

            # lanes leave, or come where there is room
            if state.stopped or state.refusal:
                self.queue.stop.remote()  # each time: it may have been started again
                if self.search:
                    self.search.leave(0.0)
                if not any(lane in state.entered for lane in self.pool.alive):
                    break
            else:
                state.wanted = self.pool.count_awaited(state)
                node_request.ask(state.wanted + len(state.parked))
                self.pool.fill(state)
                state.live = self.pool.count_working(state)
                if state.live < state.wanted:
                    node_request.tell_failed_launches(say)
            self.view.show(state)
            time.sleep(POLL_S)
        self.view.show(state)
        self.pool.leave(0.0 if state.stopped else LEAVE_S)

    def update(self, gates: Sequence[Any]) -> None:
        """Ask the queue how the trials stand; tell one that was just started what is known."""
        state, queue = self.state, self.queue
        if state.take(ask_queue(queue.snapshot.remote(state.since))):
            return
        held = frozenset().union(*(gate.held for gate in gates))  # until they are asked for
        known = (state.ended, state.deaths, held, state.devices, state.faults)
        queue.restore.remote(self.kept, *known)
        state.take(ask_queue(queue.snapshot.remote(state.since)))


def ask_queue(reference: Any) -> Any:
    """Wait for what the queue says; it may have to be started again. Raises RayDied."""
    import ray

    until = time.monotonic() + QUEUE_ANSWER_S
    while True:
        require_alive()
        try:
            return ray.get(reference, timeout=POLL_S)
        except ray.exceptions.GetTimeoutError:
            if time.monotonic() > until:
                raise


def as_ray_died(error: Exception) -> RayDied:
    """Turn an error of Ray's own into one line."""
    if isinstance(error, RayDied):
        return error
    try:
        require_alive()
    except RayDied as died:
        return died
    return RayDied(f"Ray does not answer: {one_line(error)}")
