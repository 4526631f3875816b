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
from mae_ablation.run import capacity
from mae_ablation.run.budget import Budget
from mae_ablation.run.crew import Crew
from mae_ablation.run.demand import Demand
from mae_ablation.run.interrupt import Interrupt
from mae_ablation.run.lanes import Lanes
from mae_ablation.run.life import Life
from mae_ablation.run.looks import Looks
from mae_ablation.run.marker import mark
from mae_ablation.run.queue import TrialQueue
from mae_ablation.run.ray_session import RayDied, cores, ray_session, require_alive
from mae_ablation.run.shelf import Shelf
from mae_ablation.run.tally import Tally
from mae_ablation.store.files import files_at
from mae_ablation.study.trial import Trial
from mae_ablation.study.work import Searched

__all__ = ["Lanes", "RayDied", "cores", "fit_lanes", "ray_session", "run_trials"]

POLL_S = 0.5
ANSWER_S = 300.0  # the queue's: it may have to be started again on a busy machine
LEAVE_S = 15.0  # for lanes that have nothing more to do


def nodes() -> list[capacity.Node]:
    """Resources of the cluster's nodes that are alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def fit_lanes(lanes: Lanes, address: str = "local") -> tuple[Lanes, bool]:
    """The lanes with their number and the threads of each worker; whether the cluster scales.

    In a Ray session.

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
    show: Callable[[Tally], None],
    say: Callable[[str], None] = print,
    scales: bool = False,
    work: Callable[..., str | None] | None = None,
    searched: Sequence[Searched] = (),
    looks: Looks | None = None,
    budget: Budget | None = None,
) -> Tally:
    """Run all trials in a Ray session, until they have ended or the user wants to leave.

    Args:
        lanes: as `fit_lanes` gives them.
        show: called twice a second.
        say: told what happens to lanes, a line at a time.
        scales: whether the cluster starts nodes where they are asked for.
        work: stands in for run_trial, with its arguments.
        searched: tries whose trials start when the search asks for them.
        looks: has trials of later seeds start when rows ask for them.
        budget: the run is left when it is spent.

    Returns how they stand; `stopped` says whether the user left, or `spent` the budget.

    Raises:
        UserError: the store is not shared with a node.
        RayDied: Ray is gone.
    """
    import ray

    place = files_at(store).root  # workers have other working directories
    forever = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    tally = Tally(trials=list(trials))
    kept = ray.put(tally.trials)  # as long as the queue may have to be started again
    queue = ray.remote(**forever)(TrialQueue).remote()
    shelf = ray.remote(**forever)(Shelf).remote()
    notes = tempfile.mkdtemp(prefix="mae-ablation-")
    config = {
        "queue": queue,
        "shelf": shelf,
        "run": f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}",
        "store": place,
        "marker": mark(place),
        "threads": lanes.cpus,
        "gpu": lanes.gpus > 0,
        "micro_batch": lanes.micro_batch,
        "commit": commit,
        "work": work,
    }
    crew = Crew(
        [queue, shelf],
        room=lambda: capacity.room(nodes(), lanes),
        limit=len(tally.trials) if lanes.grows else lanes.count or 1,
        expected=lanes.count or 1,
        make=lambda lane, count: Life(
            lane, lanes, {**config, "lanes": count}, notes, capacity.backend(lanes, nodes())
        ),
    )
    try:
        with Interrupt() as interrupt, Demand(lanes, scales=scales) as demand:
            search = start_search(searched, queue, place, notes, lanes.count or 1)
            try:
                gates = Gates(queue=queue, search=search, looks=looks)
                left = budget or Budget()
                watch(tally, queue, kept, crew, demand, interrupt, show, say, gates, left)
            except KeyboardInterrupt:
                crew.leave(0.0)
                raise
            except (RayDied, ray.exceptions.RayError) as error:
                if not interrupt.asked:
                    raise as_ray_died(error) from None
                tally.stopped = True  # SIGTERM to the whole process group ends Ray, too
            finally:
                if search:
                    search.leave(LEAVE_S)
    finally:
        shutil.rmtree(notes, ignore_errors=True)
    if tally.refusal:
        raise UserError(tally.refusal)
    return tally


@dataclass(frozen=True, kw_only=True, slots=True)
class Gates:
    """What trials of a run wait for in the queue, beside a free lane."""

    queue: Any
    search: Any = None
    looks: Looks | None = None

    @property
    def held(self) -> frozenset[int]:
        """Numbers of the trials that wait."""
        mine = [gate.held for gate in (self.search, self.looks) if gate]
        return frozenset().union(*mine)

    def look(self, tally: Tally, say: Callable[[str], None]) -> None:
        """Have the queue hand out and drop what is decided by now."""
        if self.search:
            self.search.look(tally, say)
        if self.looks:
            self.looks.look(self.queue, tally, say)

    def leave(self, seconds: float) -> None:
        if self.search:
            self.search.leave(seconds)


def watch(
    tally: Tally,
    queue: Any,
    kept: Any,
    crew: Crew,
    demand: Demand,
    interrupt: Interrupt,
    show: Callable[[Tally], None],
    say: Callable[[str], None],
    gates: Gates,
    budget: Budget,
) -> None:
    """Until every trial has ended, or every lane has left."""
    while True:
        look(tally, queue, kept, gates.held)
        if tally.is_over:
            break
        gates.look(tally, say)
        crew.reap(tally, say)
        if interrupt.asked and not tally.stopped:
            tally.stopped = True
            say("finishing the running step and saving; Ctrl-C again stops at once")
        if not tally.stopped and (spent := budget.spent(len(crew.alive))):
            tally.stopped, tally.spent = True, spent
            say(f"the budget of {spent} is spent: finishing the running step and saving")
        if tally.stopped or tally.refusal:
            queue.stop.remote()  # each time: it may have been started again
            gates.leave(0.0)
            if not any(lane in tally.entered for lane in crew.alive):
                break
        else:
            tally.wanted = crew.awaited(tally)
            demand.ask(tally.wanted)
            crew.fill(tally)
            tally.live = len(crew.alive)
        show(tally)
        time.sleep(POLL_S)
    show(tally)
    crew.leave(0.0 if tally.stopped else LEAVE_S)


def start_search(
    searched: Sequence[Searched], queue: Any, store: str, notes: str, lanes: int
) -> Any:
    """The search over these tries, at work; None where there are none."""
    if not searched:
        return None
    from mae_ablation.run.search import Search  # Ray Tune takes seconds to import

    search = Search(searched, queue, store=store, notes=notes, lanes=lanes)
    search.start()
    return search


def look(tally: Tally, queue: Any, kept: Any, held: frozenset[int] = frozenset()) -> None:
    """Ask the queue how the trials stand; tell one that has just been started what is known.

    Args:
        kept: reference of the trials, which are large.
        held: numbers of those that wait until they are asked for.
    """
    if not tally.take(answer(queue.snapshot.remote(tally.since))):
        queue.restore.remote(kept, tally.ended, tally.deaths, held)
        tally.take(answer(queue.snapshot.remote(tally.since)))


def answer(reference: Any) -> Any:
    """What the queue says; it may have to be started again. Raises RayDied."""
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
    """What an error of Ray's own comes to, in one line."""
    if isinstance(error, RayDied):
        return error
    try:
        require_alive()
    except RayDied as died:
        return died
    return RayDied(f"Ray does not answer: {one_line(error)}")
