"""Ray for one run: started here or joined, and noticed when it is gone."""

import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mae_ablation.errors import UserError, one_line
from mae_ablation.run.ray_private import dead_processes, silence_dead_workers
from mae_ablation.study.machine import cores

STARTS = 5  # Ray itself waits 30 s for its processes: too little on a busy machine
VITAL = ("gcs_server", "raylet")
SOCKET_AT_MOST = 107  # characters of a Unix socket's path, on Linux
BELOW = len("/session_2026-01-31_12-00-00_123456_1234567/sockets/plasma_store")
SHM = Path("/dev/shm")

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a dead worker is seen at once
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # saves a process per lane
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",  # a lane that has no room is given up then
    "RAY_worker_niceness": "0",  # at Ray's 15, lanes starve beside any other busy program
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # who asks for no GPU sees none
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Set for Ray's processes unless the user has set them."""


class RayDied(Exception):
    """Ray is gone, and with it every lane; what they had saved is in the store."""


@contextmanager
def ray_session(address: str = "local") -> Iterator[None]:
    """Ray for the block: the cluster at an address, or one on this machine for "local".

    Raises:
        UserError: no cluster answers there.
        RayDied: Ray does not start on this machine.
    """
    prepare_environment(address)
    import ray  # after: Ray reads its environment once, when it is imported

    try:
        start_ray(address)
        yield
    finally:
        with suppress(RayDied):  # what is left of it ends with this process, and not before
            require_alive()
            ray.shutdown()


def prepare_environment(address: str) -> None:
    """Set what Ray's processes read, where the user has set nothing."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address == "local" and "RAY_AUTH_MODE" not in os.environ:
        # a token for this session alone: Ray would write one into the home folder
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def list_nodes() -> list[dict[str, float]]:
    """Return the resources of the cluster's nodes that are alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def start_ray(address: str) -> None:
    """Join the cluster at an address, or start a quiet "local" one."""
    import ray

    # a cluster that runs already
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    silence_dead_workers()
    if address != "local":
        try:
            ray.init(address, **quiet)
        except ConnectionError:
            raise UserError(f"no Ray cluster answers at {address}") from None
        return

    # one of our own; its processes may time out on a busy machine
    for tried in range(1, STARTS + 1):
        try:
            with hangups_held_back():
                ray.init(address, num_cpus=cores(), include_dashboard=False, **quiet)
            return
        except Exception as error:  # of many types: what fails is one of several processes
            ray.shutdown()
            if tried == STARTS:
                reason = one_line(error)
                look = "`mae-ablation doctor --start` looks why"
                raise RayDied(f"Ray does not start on this machine: {reason}; {look}") from None
            print(f"Ray did not start ({type(error).__name__}): trying again", file=sys.stderr)


@contextmanager
def hangups_held_back() -> Iterator[None]:
    """Have processes that the block starts outlive this terminal: the driver lets them save."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def require_alive() -> None:
    """Raises RayDied if a process that Ray cannot do without has ended on this machine.

    To be asked often: some seconds later Ray ends this process, too, without a word.
    """
    if gone := [name for name in dead_processes() if name in VITAL]:
        raise RayDied(f"Ray on this machine died: its {' and '.join(gone)} ended")


# what the doctor asks


def socket_path_left() -> int:
    """Count the characters left for Ray's socket paths under its temporary folder; below 0: too
    long."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or tempfile.gettempdir()
    return SOCKET_AT_MOST - len(f"{folder}/ray") - BELOW


def shared_memory() -> int | None:
    """Return the free bytes of /dev/shm, where Ray keeps objects; None: there is no such place."""
    try:
        return shutil.disk_usage(SHM).free
    except OSError:
        return None


def try_start() -> str:
    """Start Ray as a run does, ask it for its cores, and stop it. Returns why it failed, or ""."""
    try:
        with ray_session("local"):
            return "" if any(node.get("CPU") for node in list_nodes()) else "it has no cores"
    except RayDied as error:
        return str(error)
