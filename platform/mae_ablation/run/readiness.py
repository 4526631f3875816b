"""Checks that Ray could start on this machine, by what it needs or by starting it."""

import os
import shutil
import tempfile
from pathlib import Path

SOCKET_AT_MOST = 107  # characters of a Unix socket's path, on Linux
BELOW = len("/session_2026-01-31_12-00-00_123456_1234567/sockets/plasma_store")
SHM = Path("/dev/shm")


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


def starts() -> str:
    """Start Ray as a run does, ask it for its cores, and stop it. Returns why it failed, or ""."""
    from mae_ablation.run.ray_session import RayDied, ray_session

    try:
        with ray_session("local"):
            import ray

            return "" if ray.cluster_resources().get("CPU") else "it has no cores"
    except RayDied as error:
        return str(error)
