"""Life of a lane: one TorchTrainer.fit(), and why it ended.

Ray Train could restart a worker group itself. It is not asked to: a lane that has lost a worker
ends, and the driver, who knows the reason and what room is left, starts it again (crew.py). That
costs some seconds more after a death, and there is one way back from everything: a killed worker,
a killed controller, a lost node, a start-up that failed, a cluster that has shrunk.
"""

import threading
from dataclasses import dataclass
from typing import Any

from mae_ablation.errors import one_line
from mae_ablation.run.lanes import Lanes


@dataclass(frozen=True, slots=True)
class End:
    """Why a lane's life ended, if not of itself."""

    reason: str
    blame: bool = True
    """whether its trial may have caused it"""
    no_room: bool = False
    """its workers never had a place"""


class Life(threading.Thread):
    """Runs a lane until it has nothing more to do, or dies."""

    def __init__(self, name: str, lanes: Lanes, config: dict, notes: str, backend: str) -> None:
        """`config`: lane_loop's; `notes`: folder of this machine for Ray Train's own notes."""
        super().__init__(name=f"lane-{name}", daemon=True)
        self.lane = name
        self._arguments = (name, lanes, {**config, "lane": name}, notes, backend)
        self.end: End | None = None

    def run(self) -> None:
        try:
            trainer(*self._arguments).fit()
        except BaseException as error:  # the main thread decides, it is not lost in this one
            self.end = end_of(error)


def trainer(lane: str, lanes: Lanes, config: dict, notes: str, backend: str) -> Any:
    """The lane's TorchTrainer, which gives up at the first death."""
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
            name=f"lane-{lane}",
            storage_path=notes,  # read and written by the controller, which is on this machine
            failure_config=FailureConfig(
                max_failures=0, controller_failure_limit=0, max_preemption_failures=0
            ),
        ),
    )


def end_of(error: BaseException) -> End:
    """Why `fit` raised, in one line."""
    cause = getattr(error, "controller_failure", None)
    if type(cause).__name__ == "WorkerGroupStartupTimeoutError":
        return End("no room for its workers", blame=False, no_room=True)
    if type(error).__name__ == "ActorDiedError":
        return End("its controller was killed", blame=False)
    failures = getattr(error, "worker_failures", None) or {}
    deaths = [getattr(f, "health_check_failure", f) for f in failures.values()]
    if any(is_preempted(death) for death in deaths):
        return End("its node was lost", blame=False)
    for death in [*deaths, cause or error]:
        if reason := reason_of(f"{type(death).__name__}: {death}"):
            return reason
    first = next(iter(deaths), cause or error)
    first = getattr(first, "_base_exc", first)  # else its words are those of a traceback
    return End(one_line(first))


def is_preempted(death: BaseException) -> bool:
    return bool(getattr(death, "preempted", False))


def reason_of(text: str) -> End | None:
    """What Ray's words on a dead worker come to."""
    if "running low on memory" in text or "OutOfMemory" in text:
        return End("out of memory: Ray stopped its worker as the node was running low on it")
    if "node has died" in text or "node was terminated" in text or "NodeDied" in text:
        return End("its node was lost", blame=False)
    if "ActorUnavailable" in text:  # the connection ended before Ray knew why
        return End("its node was lost, or is out of reach", blame=False)
    if "worker process has died" in text:
        return End("its worker was killed (by hand, or by the system for want of memory)")
    return None
