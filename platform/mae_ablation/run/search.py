"""Search: Ray Tune decides which tries of tuned values start, and which are stopped early.

The only home of ray.tune. A Tune trial is one try of a row, all seeds. It trains nothing: a light
actor without CPUs asks the queue to hand out its trials to the lanes, reads their journals and
tells Tune what it finds. Such an actor is used again for the next try, so that a try costs no
process. The store is the truth: Tune's own notes lie in a temporary folder, and a search that is
begun again hears of finished tries at once.

`scheduler: asha` stops a try on its first seed, by its validation accuracy after an epoch among the
tries of the same row; the other seeds of a try are run if the first one gets through.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from mae_ablation.errors import one_line
from mae_ablation.run.run_state import RunState
from mae_ablation.store.folder import Store
from mae_ablation.study.plan import is_stopped
from mae_ablation.study.work import Searched

JOURNAL_POLL_S = 0.3
METRIC = "validation_acc1"
HALVING = 3
"""asha: of the tries that reach a rung the best third goes on to the next, three times as far"""
RUNGS = 2
TUNES_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # else a box is printed whatever the verbosity
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
}
"""set unless the user has set them"""

LEAVING = threading.Event()
"""set when the driver leaves; no part of `DriverLeft`, which Tune copies"""


class Search(threading.Thread):
    """Runs Ray Tune beside the driver's watch over the lanes.

    Args:
        notes: a folder that Tune may write to.
        lanes: trials that run side by side.
    """

    def __init__(
        self, searched: Sequence[Searched], queue: Any, *, store: str, notes: str, lanes: int
    ) -> None:
        super().__init__(name="search", daemon=True)
        LEAVING.clear()
        self._searched, self._queue, self._store = list(searched), queue, store
        self._notes, self._lanes = notes, lanes
        self._numbers = frozenset(n for each in searched for n in (*each.first, *each.rest))
        self._trouble: str | None = None

    @property
    def held(self) -> frozenset[int]:
        """Numbers of the trials that wait for the search; none once it is over."""
        return self._numbers if self.is_alive() else frozenset()

    def follow(self, queue: Any, state: RunState, say: Callable[[str], None]) -> None:
        """Hand out what is left, if the search is over: it may have missed some, or have died."""
        if self.is_alive():
            return
        queue.release.remote(self._numbers)
        if self._trouble:
            say(f"the search ended ({self._trouble}): every try is run to its end")
            self._trouble = None

    def leave(self, seconds: float) -> None:
        """End the search, and wait so long for it: Ray ends this process if it is shut down
        before."""
        LEAVING.set()
        self.join(seconds)

    def run(self) -> None:
        try:
            self._make_tuner().fit()
        except BaseException as error:  # the main thread goes on without a search
            self._trouble = one_line(error)

    def _make_tuner(self) -> tune.Tuner:
        for name, value in TUNES_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import ray

        # Tune's trials are light: they take no CPU from the lanes, and stay where its notes are
        here = f"node:{ray.util.get_node_ip_address()}"
        following = tune.with_parameters(
            FollowedTry, searched=self._searched, queue=self._queue, store=self._store
        )
        stop = StopTry(self._searched, self._queue, self._store)
        return tune.Tuner(
            tune.with_resources(following, tune.PlacementGroupFactory([{here: 0.0001}])),
            param_space={"number": tune.grid_search(list(range(len(self._searched))))},
            tune_config=tune.TuneConfig(
                metric=METRIC,
                mode="max",
                scheduler=RowScheduler(self._searched, stop),
                max_concurrent_trials=min(self._lanes + 1, len(self._searched)),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                stop=DriverLeft(),
                storage_path=self._notes,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=3),
            ),
        )


@dataclass(frozen=True, slots=True)
class StopTry:
    """Stops a try early: in the store, then in the queue.

    Never the last one of its row: a search that is begun again hears of the tries in another order,
    and what fell behind in one order may have led in the other.
    """

    searched: Sequence[Searched]
    queue: Any
    store: str

    def __call__(self, number: int, epoch: int) -> bool:
        """Return True if it was stopped."""
        each = self.searched[number]
        others = [o for o in self.searched if o.row == each.row and o is not each]
        if all(self._is_stopped(other) for other in others):
            return False
        reason = f"stopped early by the search at epoch {epoch} of {each.epochs}"
        for phase in each.phases:
            folder = phase.folder(Store(self.store))
            if not folder.finished():
                why = {"search": phase.search, "epoch": epoch, "reason": reason}
                folder.stop(phase.document, why)
        self.queue.drop.remote([*each.first, *each.rest])
        return True

    def _is_stopped(self, each: Searched) -> bool:
        store = Store(self.store)
        return any(is_stopped(p, store) and not p.folder(store).finished() for p in each.phases)


class DriverLeft(tune.Stopper):
    """Tells Tune when the driver leaves."""

    def __call__(self, trial_id: str, result: dict) -> bool:
        return False

    def stop_all(self) -> bool:
        return LEAVING.is_set()


class FollowedTry(tune.Trainable):
    """Follows one try: has its trials run by the lanes, and tells how it is doing."""

    def setup(self, config: dict, searched: Sequence[Searched], queue: Any, store: str) -> None:
        self._searched, self._queue, self._store = searched, queue, Store(store)
        self.reset_config(config)

    def reset_config(self, new_config: dict) -> bool:
        """Go over to another try."""
        self._try = self._searched[new_config["number"]]
        self._told = 0  # validations
        self._last = {METRIC: float("nan"), "epoch": 0}
        return True

    def step(self) -> dict:
        """Return the next news: a further epoch of the first seed, or the end."""
        while True:
            ended = self._has_ended()
            if news := self._next_epoch():
                return news
            if ended:
                return {**self._last, "done": True}
            time.sleep(JOURNAL_POLL_S)

    def _has_ended(self) -> bool:
        """Ask for the try's trials: where it may be stopped, first for its first seed's."""
        first, rest = self._try.first, self._try.rest
        if self._try.may_be_stopped and not self._are_over(first):
            return False
        return self._are_over((*first, *rest))

    def _are_over(self, numbers: Sequence[int]) -> bool:
        """Tell if these trials have ended, or the run is being left."""
        import ray

        return not numbers or ray.get(self._queue.follow.remote(list(numbers)))

    def _next_epoch(self) -> dict | None:
        """Return the first validation in the journal that has not been told; None: there is none.

        A scheduler is to see every one; without one the last is enough.
        """
        phase = self._try.watched
        name, epoch = f"{phase.prefix}/{METRIC}", f"{phase.prefix}/epoch"
        points = [row["m"] for row in phase.folder(self._store).journal.read()]
        found = [point for point in points if name in point]
        if len(found) <= self._told:
            return None
        self._told = self._told + 1 if self._try.may_be_stopped else len(found)
        last = found[self._told - 1]
        self._last = {METRIC: last[name], "epoch": last[epoch]}
        return self._last

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save: the store has it all."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load."""


class RowScheduler(FIFOScheduler):
    """Tune's scheduler: first come, first served, and for each row its own ASHA where it asks.

    Rows are not compared: a poor level is what a study wants to know.
    """

    def __init__(self, searched: Sequence[Searched], stop: Callable[[int, int], bool]) -> None:
        """`stop`: stops a try by its number at an epoch, and tells whether it did."""
        super().__init__()
        self._searched, self._stop = searched, stop
        self._rows: dict[int, TrialScheduler] = {}
        for each in searched:
            if each.row not in self._rows:
                early = each.may_be_stopped and each.epochs > 1
                self._rows[each.row] = asha(each.epochs) if early else FIFOScheduler()

    def _row(self, trial: Any) -> TrialScheduler:
        return self._rows[self._searched[trial.config["number"]].row]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._row(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        decision = self._row(trial).on_trial_result(tune_controller, trial, result)
        if decision != TrialScheduler.STOP:
            return decision
        done = self._stop(trial.config["number"], result["epoch"])
        return decision if done else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict) -> None:
        self._row(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._row(trial).on_trial_remove(tune_controller, trial)


def asha(epochs: int) -> AsyncHyperBandScheduler:
    """ASHA with rungs after a ninth and a third of the epochs (two or more); the last is none."""
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=METRIC,
        mode="max",
        max_t=epochs - 1,
        grace_period=max(1, min(epochs // HALVING**RUNGS, epochs - 1)),
        reduction_factor=HALVING,
        stop_last_trials=False,
    )
