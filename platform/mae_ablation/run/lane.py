"""A lane: a long-lived Ray Train worker group that pulls trials from the queue.

Starting Ray's and torch's processes costs 14 to 20 CPU seconds; a lane pays that once, and a
further trial in it a few hundredths of a second.
"""

import threading
import time
from typing import Any

from mae_ablation.errors import one_line
from mae_ablation.run.queue import AGAIN, WAIT, Outcome, Task

BEAT_S = 0.5
WAIT_S = 0.3  # until the queue is asked again by a lane whose trials wait for another lane's


def lane_loop(config: dict) -> None:
    """Training function of the lane's TorchTrainer, on each of its workers.

    Config: `queue` (actor), `cache` (actor of shared data sets), `lane` (its name), `lanes` (how
    many there are), `store` (absolute path or URI), `store_id`, `threads`, `gpu`
    (bool), `micro_batch`, `commit`, `run` (a name of its own for this run), `work` (stands in
    for run_trial, or None).
    """
    import ray
    import torch

    from mae_ablation.registry import install_plugins
    from mae_ablation.run.shared_store import sharing_error
    from mae_ablation.train.device import keep_freed_memory
    from mae_ablation.train.workers import Workers

    queue, lane = config["queue"], config["lane"]
    torch.set_num_threads(config["threads"])
    install_plugins(config["plugins"])
    keep_freed_memory()
    device = "cuda" if config["gpu"] and torch.cuda.is_available() else "cpu"
    workers = Workers.connect(config["micro_batch"])
    if reason := sharing_error(config["store"], config["store_id"]):
        ray.get(queue.refuse.remote(reason))
        return
    with Heartbeat(queue, lane) as beat:
        outcome = None
        while True:
            task = ray.get(queue.next.remote(lane, outcome)) if workers.rank == 0 else None
            task = workers.broadcast(task)
            if task is None:
                return
            if task != AGAIN:
                outcome = None
            if task in (WAIT, AGAIN):
                time.sleep(WAIT_S)
                continue
            beat.number, beat.progress = task.number, {}
            outcome = run_task(task, config, device, workers, beat)
            beat.number = None
            if outcome.failure and device == "cuda":
                try:
                    torch.cuda.synchronize()
                except RuntimeError:  # a kernel has failed: so will every call in this process
                    ray.get(queue.leave.remote(lane, outcome))
                    raise


def run_task(task: Task, config: dict, device: str, workers: Any, beat: "Heartbeat") -> Outcome:
    """Run a trial and return what became of it.

    An exception of one worker of several is raised: the others may wait for it, so that they are
    started again together. It may be the echo of another's death, so the trial is tried again.
    """
    from mae_ablation.run.dataset_cache import load_dataset
    from mae_ablation.train.run import Busy, Stopped
    from mae_ablation.train.trial import run_trial

    work = config["work"] or run_trial
    try:
        load_dataset(config["cache"], config["lane"], task.trial)
        failure = work(
            task.trial,
            config["store"],
            device=device,
            commit=config["commit"],
            lanes=config["lanes"],
            report=beat.report,
            stop=beat.stop,
            workers=workers,
            owner=f"{config['run']}-{task.owner}",
            attempt=task.attempt,
        )
        return Outcome(task.number, failure)
    except Busy:
        return Outcome(task.number, put_back="busy")
    except Stopped:
        return Outcome(task.number, put_back="stopped")
    except Exception as error:
        if workers.size > 1:
            raise
        return Outcome(task.number, one_line(error))


class Heartbeat(threading.Thread):
    """Tells the queue how the lane's trial is doing, and hears whether to stop."""

    def __init__(self, queue: Any, lane: str) -> None:
        super().__init__(name="beat", daemon=True)
        self._queue, self._lane = queue, lane
        self.number: int | None = None
        """the trial at work"""
        self.progress: dict = {}
        self._stop_asked = False
        self._left = threading.Event()

    def report(self, progress: dict) -> None:
        """Take news of the trial, for the next beat."""
        self.progress = {**self.progress, **progress}

    def stop(self) -> bool:
        """Tell whether the trial is to save and leave."""
        return self._stop_asked

    def run(self) -> None:
        import ray

        while not self._left.wait(BEAT_S):
            number = self.number
            if number is None:
                continue
            try:
                answer = self._queue.beat.remote(self._lane, number, self.progress)
                self._stop_asked = ray.get(answer)
            except ray.exceptions.RayError:  # the queue ended with its driver: save, and leave
                self._stop_asked = True

    def __enter__(self) -> "Heartbeat":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()
