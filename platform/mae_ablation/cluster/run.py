"""Runs trials on lanes. The only home of Ray, with lane.py and its queue actor."""

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mae_ablation.cluster.queue import ATTEMPTS, Snapshot, TrialQueue
from mae_ablation.cluster.shelf import Shelf
from mae_ablation.store.files import files_at
from mae_ablation.study.errors import UserError
from mae_ablation.study.trial import Trial

POLL_S = 0.5

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a dead worker is seen at once
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # saves a process per lane
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # importing torch on a busy machine
    "RAY_worker_niceness": "0",  # at Ray's 15, lanes starve beside any other busy program
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Set for Ray's processes unless the user has set them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lanes:
    """How many trials run side by side, and what each of them has."""

    count: int
    cpus: int = 1
    gpus: float = 0.0

    @staticmethod
    def default(count: int | None, gpus: float, cpus_here: int) -> "Lanes":
        """One lane per core with one thread each, unless `count` says otherwise."""
        count = count or cpus_here
        return Lanes(count=count, cpus=max(1, cpus_here // count), gpus=gpus)

    def __str__(self) -> str:
        gpu = f" and {self.gpus:g} GPU" if self.gpus else ""
        return (
            f"{self.count} lane{'s' * (self.count > 1)} x "
            f"{self.cpus} thread{'s' * (self.cpus > 1)}{gpu}"
        )


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def run_trials(
    trials: list[Trial],
    lanes: Lanes,
    *,
    store: Path | str,
    commit: str,
    show: Callable[[Snapshot], None],
) -> Snapshot:
    """Run all trials and return the queue's last state. `show` is called twice a second."""
    import ray

    queue = ray.remote(num_cpus=0)(TrialQueue).remote(trials)
    shelf = ray.remote(num_cpus=0)(Shelf).remote()
    place = files_at(store).root  # workers have other working directories
    errors: list[BaseException] = []
    threads = [
        threading.Thread(
            target=keep_lane,
            args=(
                lane,
                lanes,
                queue,
                shelf,
                place,
                commit,
                ATTEMPTS * len(trials),
                errors,
            ),
            name=f"lane-{lane}",
            daemon=True,
        )
        for lane in range(min(lanes.count, len(trials)))
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        show(ray.get(queue.snapshot.remote()))
        time.sleep(POLL_S)
    last = ray.get(queue.snapshot.remote())
    show(last)
    if errors and (last.waiting or last.running):
        raise errors[0]
    return last


@contextmanager
def ray_session(lanes: Lanes, address: str = "local") -> Iterator[None]:
    """Ray for the block: the cluster at an address, or one on this machine for "local".

    Raises:
        UserError: no cluster there, or it lacks what the lanes ask for.
    """
    prepare_environment(address)
    import ray  # after: Ray reads its environment once, when it is imported

    try:
        start_ray(address)
        require_resources(lanes, ray.cluster_resources())
        yield
    finally:
        ray.shutdown()


def prepare_environment(address: str) -> None:
    """Settings of Ray's processes, where the user has none of their own."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address == "local" and "RAY_AUTH_MODE" not in os.environ:
        # a token for this session alone: Ray would write one into the home folder
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def start_ray(address: str) -> None:
    """Join the cluster at an address, or start a quiet "local" one."""
    import ray

    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        ray.init(address, num_cpus=cores(), include_dashboard=False, **quiet)
        return
    try:
        ray.init(address, **quiet)
    except ConnectionError:
        raise UserError(f"no Ray cluster answers at {address}") from None


def require_resources(lanes: Lanes, available: dict[str, float]) -> None:
    """Raises UserError if the lanes ask for more than the cluster has: Ray would wait for ever."""
    for name, each in (("CPU", lanes.cpus), ("GPU", lanes.gpus)):
        wanted, there = each * lanes.count, available.get(name, 0)
        if wanted > there:
            remedy = f"--lanes {int(there // each)}" if there >= each else "leave out --gpus"
            raise UserError(f"{lanes} need {wanted:g} {name}, the cluster has {there:g}: {remedy}")


def keep_lane(
    lane: int,
    lanes: Lanes,
    queue,
    shelf,
    store: str,
    commit: str,
    restarts: int,
    errors: list[BaseException],
) -> None:
    """One TorchTrainer for the lane's whole life; Ray Train restarts it when its worker dies."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from mae_ablation.cluster.lane import lane_loop

    resources = {"CPU": lanes.cpus} | ({"GPU": lanes.gpus} if lanes.gpus else {})
    trainer = TorchTrainer(
        lane_loop,
        train_loop_config={
            "queue": queue,
            "shelf": shelf,
            "lanes": lanes.count,
            "lane": lane,
            "store": store,
            "threads": lanes.cpus,
            "gpu": lanes.gpus > 0,
            "commit": commit,
        },
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(
            num_workers=1, use_gpu=lanes.gpus > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=f"lane-{lane}",
            storage_path=f"{store}/.lanes/{os.getpid()}-{lane}",
            failure_config=FailureConfig(max_failures=restarts),
        ),
    )
    try:
        trainer.fit()
    except BaseException as error:  # noqa: B036 - reported by the main thread, not lost in this one
        errors.append(error)
        for actor in (queue, shelf):
            actor.leave.remote(lane)
    finally:  # Ray Train's own notes; phases keep their state in the store
        files_at(store).remove(f".lanes/{os.getpid()}-{lane}")
