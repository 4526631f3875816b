"""Processes of a running study, as a kill script sees them; Linux only."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

PATIENCE_S = 600  # a guard against hanging, not a bound on speed
WORKER, CONTROLLER, QUEUE = "ray::RayTrainWorker", "ray::TrainController", "ray::TrialQueue"


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return 0


def descendants(root: int, name: str = "") -> list[int]:
    """Processes started by `root`, directly or not, whose command line begins with `name`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_text()
        except OSError:
            continue
        pid = ancestor = int(entry.name)
        while ancestor not in (0, 1, root):
            ancestor = parent(ancestor)
        if ancestor == root and pid != root and command.startswith(name):
            found.append(pid)
    return found


def wait_for(condition, what: str):
    until = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < until, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.05)
    return value


def kill(root: int, name: str) -> None:
    """Kill one process of a study without warning."""
    os.kill(wait_for(lambda: descendants(root, name), name)[0], signal.SIGKILL)


def start(place: Path, *words: str, study: str = "studies/x.yaml", **environment: str):
    """The study's driver, in a process group of its own; its words go to `driver.log`."""
    with open(place / "driver.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "mae_ablation", "run", study, *words],
            cwd=place,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            start_new_session=True,
        )


def finish(driver: subprocess.Popen, place: Path) -> str:
    """Wait for the driver's end, which is to be a good one; what it said."""
    status = driver.wait(timeout=PATIENCE_S)
    said = (place / "driver.log").read_text()
    assert status == 0, f"exit status {status}:\n{said}"
    return said


def start_mlflow(place: Path, port: int) -> subprocess.Popen:
    """MLflow's server on the database of a folder, in a process group of its own."""
    words = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{place}/mlflow.db"]
    words += ["--artifacts-destination", str(place / "mlartifacts")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with open(place / "mlflow.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            cwd=place,
            stdout=log,
            stderr=log,
            env={**os.environ, **quiet},
            start_new_session=True,
        )


def serve_mlflow(place: Path, port: int) -> subprocess.Popen:
    """The same, once it answers."""
    process = start_mlflow(place, port)
    wait_for(lambda: answers(port), "MLflow to answer")
    return process


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def kill_group(process: subprocess.Popen) -> None:
    """Kill a process and what it started, as MLflow does its web worker."""
    with suppress(ProcessLookupError):  # it is gone
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def journal_lines(place: Path) -> int:
    return sum(p.read_bytes().count(b"\n") for p in place.glob("store/*/*/journal.jsonl"))
