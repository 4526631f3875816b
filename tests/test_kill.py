"""Nothing is lost: kill a worker, kill the driver, run the same command again."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import torch
from conftest import ROOT, TOY_RECIPE

from mae_ablation.commands import plan_study
from mae_ablation.phases.trial import run_trial

STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\n"
RECIPE = TOY_RECIPE.replace(
    "pretrain: {epochs: 2", "pretrain: {epochs: 60, checkpoint_every_s: 0.2"
)
PATIENCE_S = 300  # a guard against hanging, not a bound on speed


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return 0


def descendants(root: int, name: str) -> list[int]:
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
        if ancestor == root and command.startswith(name):
            found.append(pid)
    return found


def wait_for(condition, what: str):
    until = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < until, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.05)
    return value


def start(place):
    return subprocess.Popen(
        [sys.executable, "-m", "mae_ablation", "run", "studies/x.yaml"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "platform")},
    )


def journal_lines(place) -> int:
    return sum(p.read_bytes().count(b"\n") for p in place.glob("store/pretrain/*/journal.jsonl"))


def curves(place) -> dict:
    """By phase folder, the journal without its times and speeds."""
    return {
        path.parent.name: [
            (row["s"], {k: v for k, v in row["m"].items() if "images_per_s" not in k})
            for row in map(json.loads, path.read_text().splitlines())
        ]
        for path in place.glob("store/*/*/journal.jsonl")
    }


def test_killed_worker_and_killed_driver(tmp_path):
    (tmp_path / "studies" / "recipes").mkdir(parents=True)
    (tmp_path / "studies" / "x.yaml").write_text(STUDY)
    (tmp_path / "studies" / "recipes" / "toy.yaml").write_text(RECIPE)
    torch.set_num_threads(1)  # as in a lane: sums in another order are other numbers
    undisturbed = tmp_path / "undisturbed"
    plan = plan_study(tmp_path / "studies" / "x.yaml", store=undisturbed / "store")
    assert [run_trial(trial, undisturbed / "store") for trial in plan.trials] == [None] * 4

    driver = start(tmp_path)
    wait_for(lambda: journal_lines(tmp_path) > 5, "the first epochs")
    worker = descendants(driver.pid, "ray::RayTrainWorker")[0]
    os.kill(worker, signal.SIGKILL)
    lines = journal_lines(tmp_path)
    wait_for(lambda: journal_lines(tmp_path) > lines + 5, "training to go on")
    everything = descendants(driver.pid, "")
    driver.kill()
    driver.wait()
    wait_for(lambda: not any(parent(pid) for pid in everything), "Ray to follow its driver")

    again = start(tmp_path)
    output, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, output
    assert "4 of 4 trials finished" in output
    assert curves(tmp_path) == curves(undisturbed)
    for path in undisturbed.glob("store/*/*/result.json"):
        ours = json.loads((tmp_path / path.relative_to(undisturbed)).read_text())
        theirs = json.loads(path.read_text())
        assert ours["train_loss"] == theirs["train_loss"]
        assert ours.get("test_acc1") == theirs.get("test_acc1")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        doubled = database.execute(
            "select key, step, count(*) from metrics where key like '%/%' "
            "group by run_uuid, key, step having count(*) > 1"
        ).fetchall()
        names = database.execute("select name, status from runs order by name").fetchall()
    assert doubled == []
    assert len(names) == 5 and {status for _, status in names} == {"FINISHED"}
