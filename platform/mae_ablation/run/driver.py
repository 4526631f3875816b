"""Runs trials on lanes: starts them, watches over them, and knows when to stop."""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mae_ablation.errors import UserError, one_line
from mae_ablation.registry import plugins
from mae_ablation.run import capacity
from mae_ablation.run.dataset_cache import DatasetCache
from mae_ablation.run.lane_pool import LanePool, LaneThread, NodeRequest
from mae_ablation.run.lanes import Lanes
from mae_ablation.run.queue import TrialQueue
from mae_ablation.run.ray_session import RayDied, cores, ray_session, require_alive
from mae_ablation.run.run_state import RunState
from mae_ablation.run.seed_gate import SeedGate
from mae_ablation.run.shared_store import store_id
from mae_ablation.run.stopping import Interrupt, TimeLimit
from mae_ablation.store.files import files_at
from mae_ablation.study.trial import Trial
from mae_ablation.study.work import Searched

__all__ = ["Lanes", "RayDied", "cores", "fit_lanes", "ray_session", "run_trials"]

POLL_S = 0.5
ANSWER_S = 300.0  # the queue's: it may have to be started again on a busy machine
LEAVE_S = 15.0  # for lanes that have nothing more to do


def nodes() -> list[capacity.Node]:
    """Return the resources of the cluster's nodes that are alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def fit_lanes(lanes: Lanes, address: str = "local") -> tuple[Lanes, bool]:
    """Return the lanes with their number and each worker's threads, and whether the cluster scales.

    To be called in a Ray session.

    Raises:
        UserError: there will never be room for those asked for.
    """
    there = nodes()
    cluster = capacity.cluster_file() if address != "local" else None
    shape = capacity.fitted(lanes, there + capacity.worker_types(cluster or {}))
    count = capacity.limit(shape, there, cluster)
    scales = cluster is not None and capacity.states_resources(cluster)
    return replace(shape, count=count, grows=lanes.count is None and not scales), scales


def run_trials(
    trials: Sequence[Trial],
    lanes: Lanes,
    *,
    store: Path | str,
    commit: str,
    show: Callable[[RunState], None],
    say: Callable[[str], None] = print,
    scales: bool = False,
    work: Callable[..., str | None] | None = None,
    searched: Sequence[Searched] = (),
    seed_gate: SeedGate | None = None,
    time_limit: TimeLimit | None = None,
) -> RunState:
    """Run all trials in a Ray session, until they have ended or the user wants to leave.

    Args:
        lanes: as `fit_lanes` gives them.
        show: called twice a second.
        say: told what happens to lanes, a line at a time.
        scales: whether the cluster starts nodes where they are asked for.
        work: stands in for run_trial, with its arguments.
        searched: tries whose trials start when the search asks for them.
        seed_gate: has trials of later seeds start when rows ask for them.
        time_limit: the run is left when it is spent.

    Returns how they stand: `stopped` if the user left, `spent` if the time limit did.

    Raises:
        UserError: the store is not shared with a node.
        RayDied: Ray is gone.
    """
    import ray

    # actors, and what each lane is given
    place = files_at(store).root  # workers have other working directories
    forever = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    state = RunState(trials=list(trials))
    kept = ray.put(state.trials)  # as long as the queue may have to be started again
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
        "gpu": lanes.gpus > 0,
        "micro_batch": lanes.micro_batch,
        "commit": commit,
        "plugins": plugins(),
        "work": work,
    }

    # lanes under watch, until their trials have ended
    pool = LanePool(
        [queue, cache],
        room=lambda: capacity.room(nodes(), lanes),
        limit=len(state.trials) if lanes.grows else lanes.count or 1,
        expected=lanes.count or 1,
        make=lambda lane, count: LaneThread(
            lane, lanes, {**config, "lanes": count}, notes, capacity.backend(lanes, nodes())
        ),
    )
    try:
        with Interrupt() as interrupt, NodeRequest(lanes, scales=scales) as node_request:
            search = start_search(searched, queue, place, notes, lanes.count or 1)
            driver = Driver(
                state=state,
                queue=queue,
                kept=kept,
                pool=pool,
                node_request=node_request,
                interrupt=interrupt,
                time_limit=time_limit or TimeLimit(),
                search=search,
                seed_gate=seed_gate,
                show=show,
                say=say,
            )
            try:
                driver.watch()
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
    finally:
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
    node_request: NodeRequest
    interrupt: Interrupt
    time_limit: TimeLimit
    search: Any = None
    seed_gate: SeedGate | None = None
    show: Callable[[RunState], None]
    say: Callable[[str], None]

    def watch(self) -> None:
        """Return when every trial has ended, or every lane has left."""
        state = self.state
        while True:
            # how the trials stand, and what is decided by that
            self.update()
            if state.is_over:
                break
            if self.search:
                self.search.look(state, self.say)
            if self.seed_gate:
                self.seed_gate.look(self.queue, state, self.say)
            self.pool.reap(state, self.say)

            # whether to leave
            if self.interrupt.asked and not state.stopped:
                state.stopped = True
                self.say("finishing the running step and saving; Ctrl-C again stops at once")
            if not state.stopped and (spent := self.time_limit.spent(len(self.pool.alive))):
                state.stopped, state.spent = True, spent
                self.say(f"the budget of {spent} is spent: finishing the running step and saving")

            # lanes leave, or come where there is room
            if state.stopped or state.refusal:
                self.queue.stop.remote()  # each time: it may have been started again
                if self.search:
                    self.search.leave(0.0)
                if not any(lane in state.entered for lane in self.pool.alive):
                    break
            else:
                state.wanted = self.pool.awaited(state)
                self.node_request.ask(state.wanted)
                self.pool.fill(state)
                state.live = len(self.pool.alive)
            self.show(state)
            time.sleep(POLL_S)
        self.show(state)
        self.pool.leave(0.0 if state.stopped else LEAVE_S)

    def update(self) -> None:
        """Ask the queue how the trials stand; tell one that was just started what is known."""
        state, queue = self.state, self.queue
        if state.take(ask_queue(queue.snapshot.remote(state.since))):
            return
        gates = [gate.held for gate in (self.search, self.seed_gate) if gate]
        held = frozenset().union(*gates)  # trials that wait until they are asked for
        queue.restore.remote(self.kept, state.ended, state.deaths, held)
        state.take(ask_queue(queue.snapshot.remote(state.since)))


def start_search(
    searched: Sequence[Searched], queue: Any, store: str, notes: str, lanes: int
) -> Any:
    """Start the search over these tries; None where there are none."""
    if not searched:
        return None
    from mae_ablation.run.search import Search  # Ray Tune takes seconds to import

    search = Search(searched, queue, store=store, notes=notes, lanes=lanes)
    search.start()
    return search


def ask_queue(reference: Any) -> Any:
    """Wait for what the queue says; it may have to be started again. Raises RayDied."""
    import ray

    until = time.monotonic() + ANSWER_S
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
