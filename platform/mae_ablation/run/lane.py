"""A lane: a long-lived Ray Train worker group that pulls trials from the queue.

Starting Ray's and torch's processes costs 14 to 20 CPU seconds; a lane pays that once, and a
further trial in it a few hundredths of a second.
"""

import os
import threading
import time
from typing import Any

from mae_ablation.errors import one_line
from mae_ablation.run.capacity import ACCELERATOR
from mae_ablation.run.queue import ASK_AGAIN, WAIT, Outcome, Task

LANE_BEAT_S = 0.5
WAIT_S = 0.3  # until the queue is asked again by a lane whose trials wait for another lane's


class HardwareError(Exception):
    """A GPU does not work. The message is what is said of it."""


def lane_loop(config: dict) -> None:
    """Training function of the lane's TorchTrainer, on each of its workers.

    Args:
        config: `queue` (actor), `cache` (actor of shared data sets), `lane` (its name), `lanes`
            (their number), `store` (absolute path or URI), `store_id`, `threads`, `gpus`,
            `micro_batch`, `commit`, `plugins`, `run` (a name of its own for this run), `train`
            (stands in for run_trial, or None).
    """
    import ray
    import torch

    from mae_ablation.registry import install_plugins
    from mae_ablation.run.shared_store import sharing_error
    from mae_ablation.train.device import keep_freed_memory
    from mae_ablation.train.workers import Workers

    # the process: its GPU or none, and its place among the workers of the lane
    queue, lane = config["queue"], config["lane"]
    torch.set_num_threads(config["threads"])
    install_plugins(config["plugins"])
    keep_freed_memory()
    gpu = name_gpu() if config["gpus"] else ""
    try:
        device = find_device(queue, lane, gpu)
        share = min(1.0, config["gpus"]) if device == "cuda" else 1.0
        workers = Workers.connect(config["micro_batch"], share)
        if reason := sharing_error(config["store"], config["store_id"]):
            ray.get(queue.refuse.remote(reason))
        else:
            run_tasks(config, device, workers)
    except HardwareError as error:
        if not ray.get(queue.fault.remote(lane, gpu, str(error))):
            raise HardwareError(f"{gpu}: {error}") from None

        # the GPU is left out: it is held until the run is over, so that Ray gives it to nobody
        while (task := ray.get(queue.next.remote(lane))) is not None:
            if isinstance(task, Task):  # from a queue that was killed, and knows no better
                raise HardwareError(f"{gpu}: {error}") from None
            time.sleep(WAIT_S)


def run_tasks(config: dict, device: str, workers: Any) -> None:
    """Run one trial after the other; what became of one is told with the question for the next."""
    import ray
    import torch

    queue, lane, outcome = config["queue"], config["lane"], None
    with Heartbeat(queue, lane) as beat:
        while True:
            task = ray.get(queue.next.remote(lane, outcome)) if workers.rank == 0 else None
            task = workers.broadcast(task)

            # nothing to do, now or for good
            if task is None:
                return
            if task != ASK_AGAIN:
                outcome = None
            if task in (WAIT, ASK_AGAIN):
                time.sleep(WAIT_S)
                continue

            # the trial; a kernel that failed in it is met by every later call of this process
            beat.number, beat.progress = task.number, {}
            outcome = run_task(task, config, device, workers, beat)
            beat.number = None
            if outcome.failure and device == "cuda":
                try:
                    torch.cuda.synchronize()
                except RuntimeError:
                    ray.get(queue.take_back.remote(lane, outcome))
                    raise


def name_gpu() -> str:
    """Name the worker's GPU by its number on its machine: "GPU 2 of 10.0.0.1"."""
    import ray

    numbers = ",".join(map(str, ray.get_gpu_ids()))
    return f"GPU {numbers} of {ray.util.get_node_ip_address()}"


def find_device(queue: Any, lane: str, gpu: str) -> str:
    """Return the device to train on, "cuda" or "cpu", and tell the queue what it is.

    A GPU of a test is a number without a device, and its trials run on the CPU.

    Raises:
        HardwareError: the GPU that was promised cannot be used.
    """
    import ray
    import torch

    from mae_ablation.study.machine import processor, total_memory
    from mae_ablation.train.hardware import explain_missing_gpu

    # no GPU: none is seen, else libraries may open a context on the first one
    device, name = "cpu", f"CPU {processor()}, {total_memory() / 1e9:.0f} GB"
    here = ray.get_runtime_context().get_node_id()
    node = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    if not gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not any(resource.startswith(ACCELERATOR) for resource in node):
        name += f", as {gpu} is only a number"

    # a GPU that is broken, or not seen, says so at the first tensor
    else:
        try:
            if not torch.cuda.is_available():
                raise RuntimeError(explain_missing_gpu())
            torch.zeros(1, device="cuda")
            found = torch.cuda.get_device_properties(torch.cuda.current_device())
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            ray.get(queue.fault.remote(lane, gpu, reason, hopeless=True))
            raise HardwareError(reason) from None
        device, name = "cuda", f"{found.name}, {found.total_memory / 1e9:.0f} GB"
    ray.get(queue.enter.remote(lane, gpu, name))
    return device


def run_task(task: Task, config: dict, device: str, workers: Any, beat: "Heartbeat") -> Outcome:
    """Run a trial and return what became of it.

    An exception of one worker of several is raised: the others may wait for it, so that they are
    started again together. It may be the echo of another's death, so the trial is tried again.

    Raises:
        HardwareError: the trial is not to blame, and its GPU is good for nothing in this process.
    """
    from mae_ablation.run.dataset_cache import share_dataset
    from mae_ablation.train.hardware import is_hardware_error
    from mae_ablation.train.run import Busy, Stopped
    from mae_ablation.train.trial import run_trial

    # each exception says who is to try the trial next
    train = config["train"] or run_trial
    try:
        share_dataset(config["cache"], config["lane"], task.trial)
        failure = train(
            task.trial,
            config["store"],
            device=device,
            commit=config["commit"],
            lanes=config["lanes"],
            report=beat.report,
            stop=lambda: beat.stop_asked,
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
        if config["gpus"] and is_hardware_error(error):
            raise HardwareError(one_line(error)) from None
        if workers.size > 1:
            raise
        return Outcome(task.number, one_line(error))


class Heartbeat(threading.Thread):
    """Tells the queue how the lane's trial is doing, and hears whether to stop."""

    def __init__(self, queue: Any, lane: str) -> None:
        super().__init__(name="beat", daemon=True)
        self._queue, self._lane = queue, lane
        self._left = threading.Event()
        self.number: int | None = None
        """the trial at work"""
        self.progress: dict = {}
        self.stop_asked = False
        """True: the trial is to save and leave"""

    def report(self, progress: dict) -> None:
        """Take news of the trial, for the next beat."""
        self.progress = {**self.progress, **progress}

    def run(self) -> None:
        import ray

        # the number is read once: the lane changes it while this thread is at work
        while not self._left.wait(LANE_BEAT_S):
            if (number := self.number) is None:
                continue
            try:
                answer = self._queue.beat.remote(self._lane, number, self.progress)
                self.stop_asked = ray.get(answer)
            except ray.exceptions.RayError:  # the queue ended with its driver: save, and leave
                self.stop_asked = True

    def __enter__(self) -> "Heartbeat":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()
