"""A random process of a study is killed at random moments, fifty times; nothing is lost.

python tests/test_chaos.py FOLDER [SEED]   does it in a new folder, and tells what it kills
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import (
    CONTROLLER,
    PATIENCE_S,
    QUEUE,
    WORKER,
    descendants,
    start,
    wait_for,
    write_place,
)
from stores import require_every_point_once, require_same, run_undisturbed

KILLS = 50
PAUSE_S = (0.5, 6.0)  # between two kills; a study takes 20 s to start: some hit it then
STUDY = "recipe: toy\nseeds: 3\nfactors:\n  mask_ratio: [0.5, 0.75]\n"
VICTIMS = {"worker": WORKER, "controller": CONTROLLER, "queue": QUEUE}


class Servers:
    """The study's driver and its MLflow server, which are started again whenever they are dead."""

    def __init__(self, place: Path) -> None:
        self.place = place
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.mlflow = self.driver = None

    def start_again(self) -> None:
        if self.mlflow is None or self.mlflow.poll() is not None:
            self.mlflow = self._start_mlflow()
        if self.driver is None or self.driver.poll() is not None:
            self.driver = self.start_driver()

    def start_driver(self) -> subprocess.Popen:
        return start(self.place, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{self.port}")

    def _start_mlflow(self) -> subprocess.Popen:
        words = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{self.place}/mlflow.db"]
        words += ["--artifacts-destination", str(self.place / "mlartifacts")]
        with open(self.place / "mlflow.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words],
                cwd=self.place,
                stdout=log,
                stderr=log,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
            )

    def victims(self) -> dict[str, int]:
        """Those alive, by what they are; of several of a kind, one."""
        found = {"driver": self.driver.pid, "mlflow": self.mlflow.pid}
        for kind, name in VICTIMS.items():
            if pids := descendants(self.driver.pid, name):
                found[kind] = random.choice(pids)
        return found

    def kill(self, kind: str, pid: int) -> None:
        if kind == "mlflow":
            os.killpg(pid, signal.SIGKILL)  # its web worker is a process of its own
            self.mlflow.wait()
        else:
            os.kill(pid, signal.SIGKILL)
        if kind == "driver":
            self.driver.wait()


def chaos(place: Path, seed: int) -> list[str]:
    """Run the study of a folder to its end, killing all the while; what was killed, in order."""
    random.seed(seed)
    servers, killed = Servers(place), []
    while len(killed) < KILLS:
        servers.start_again()
        time.sleep(random.uniform(*PAUSE_S))
        if servers.driver.poll() == 0:
            break
        kind, pid = random.choice(sorted(servers.victims().items()))
        try:
            servers.kill(kind, pid)
        except ProcessLookupError:  # it ended in this moment
            continue
        killed.append(kind)
        print(f"{len(killed)}: {kind}", flush=True)
    servers.start_again()
    while servers.driver.wait(timeout=PATIENCE_S) != 0:
        servers.driver = servers.start_driver()
        killed.append("the driver gave up")
        assert killed.count("the driver gave up") < 3, (place / "driver.log").read_text()
    os.killpg(servers.mlflow.pid, signal.SIGTERM)
    wait_for(lambda: servers.mlflow.poll() is not None, "MLflow to end")
    return killed


def disturb_and_compare(place: Path, seed: int) -> list[str]:
    study = write_place(place, STUDY, epochs=120, checkpoint_every_s=0.5)
    run_undisturbed(study, place / "undisturbed")
    killed = chaos(place, seed)
    require_same(place / "store", place / "undisturbed")
    require_every_point_once(place / "mlflow.db", place / "store")
    return killed


@pytest.mark.slow
def test_fifty_kills(tmp_path):
    killed = disturb_and_compare(tmp_path, seed=0)
    assert len(killed) >= KILLS, f"the study was done after {len(killed)} kills: make it longer"
    assert "the driver gave up" not in killed


if __name__ == "__main__":
    folder, seed = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    print(" ".join(disturb_and_compare(folder, seed)))
