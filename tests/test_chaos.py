"""A random process of a study is killed at random moments, many times; nothing is lost.

python tests/test_chaos.py FOLDER [SEED]   fifty times in a new folder; tells what it kills
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_place
from processes import (
    CONTROLLER,
    PATIENCE_S,
    QUEUE,
    WORKER,
    descendants,
    free_port,
    kill_group,
    start,
    start_mlflow,
    wait_for,
)
from toys import require_every_point_once, require_same, run_undisturbed

PAUSE_S = (0.0, 1.5)  # from a victim's appearance to its death; recovery is not waited for
STUDY = "recipe: toy\nseeds: {}\nfactors:\n  mask_ratio: [0.5, 0.75]\n"
SEEDS = 6  # and as many more whenever the study is done before the last kill
VICTIMS = {"worker": WORKER, "controller": CONTROLLER, "queue": QUEUE}
FIFTY = {"worker": 20, "queue": 18, "controller": 4, "driver": 4, "mlflow": 4}
"""kills; a driver's costs 20 s and more until there is something to kill again"""


class Servers:
    """The study's driver and its MLflow server, which are started again whenever they are dead."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.port = free_port()
        self.mlflow = self.driver = None
        self.seeds = SEEDS

    def start_again(self) -> None:
        if self.driver is not None and self.driver.poll() == 0:
            self.seeds += SEEDS
            (self.place / "studies" / "x.yaml").write_text(STUDY.format(self.seeds))
        if self.mlflow is None or self.mlflow.poll() is not None:
            self.mlflow = start_mlflow(self.place, self.port)
        if self.driver is None or self.driver.poll() is not None:
            self.driver = self.start_driver()

    def start_driver(self) -> subprocess.Popen:
        return start(self.place, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{self.port}")

    def victim(self, kind: str) -> int | None:
        """Process of one of this kind; None while there is none."""
        if kind in ("driver", "mlflow"):
            return getattr(self, kind).pid
        pids = descendants(self.driver.pid, VICTIMS[kind])
        return random.choice(pids) if pids else None

    def kill(self, kind: str, pid: int) -> None:
        if kind == "mlflow":
            kill_group(self.mlflow)
        else:
            os.kill(pid, signal.SIGKILL)
        if kind == "driver":
            self.driver.wait()


def chaos(place: Path, seed: int, kills: dict[str, int]) -> list[str]:
    """Run the study of a folder to its end, killing all the while; what was killed, in order."""
    random.seed(seed)
    kinds = random.sample(list(kills), counts=list(kills.values()), k=sum(kills.values()))
    servers, killed = Servers(place), []
    while kinds:
        servers.start_again()
        pid = servers.victim(kinds[-1])
        if not pid:
            time.sleep(0.05)
            continue
        time.sleep(random.uniform(*PAUSE_S))
        try:
            servers.kill(kinds[-1], pid)
        except ProcessLookupError:  # it ended in this moment
            continue
        killed.append(kinds.pop())
        print(f"{len(killed)}: {killed[-1]}", flush=True)
    servers.start_again()
    while servers.driver.wait(timeout=PATIENCE_S) != 0:
        servers.driver = servers.start_driver()
        killed.append("the driver gave up")
        assert killed.count("the driver gave up") < 3, (place / "driver.log").read_text()
    os.killpg(servers.mlflow.pid, signal.SIGTERM)
    wait_for(lambda: servers.mlflow.poll() is not None, "MLflow to end")
    return killed


def disturb_and_compare(place: Path, seed: int, kills: dict[str, int]) -> list[str]:
    study = write_place(place, STUDY.format(SEEDS), epochs=40, checkpoint_every_s=0.5)
    killed = chaos(place, seed, kills)
    run_undisturbed(study, place / "undisturbed")
    require_same(place / "store", place / "undisturbed")
    require_every_point_once(place / "mlflow.db", place / "store")
    return killed


@pytest.mark.slow
@pytest.mark.rare
def test_fifty_kills(tmp_path):
    killed = disturb_and_compare(tmp_path, 0, FIFTY)
    assert len(killed) == 50 and "the driver gave up" not in killed


if __name__ == "__main__":
    folder, seed = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    print(" ".join(disturb_and_compare(folder, seed, FIFTY)))
