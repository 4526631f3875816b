"""The main job, end to end: a study through Ray Train into the store, MLflow and a report."""

import json
import sqlite3
import subprocess
import sys
import time

import pytest
from conftest import write_place

STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with studies in it, as a clone of the repository would have."""
    place = tmp_path_factory.mktemp("clone")
    write_place(place, STUDY)
    return place


def run(place, *words, study="x"):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "mae_ablation", "run", f"studies/{study}.yaml", *words],
        cwd=place,
        capture_output=True,
        text=True,
    )
    return done, time.monotonic() - began


def points(place):
    """Every curve point in MLflow: (trial, metric, step) and how often it stands there."""
    with sqlite3.connect(place / "mlflow.db") as database:
        return database.execute(
            "select t.value, m.key, m.step, count(*) from metrics m join tags t "
            "on t.run_uuid = m.run_uuid and t.key = 'trial_id' where m.key like '%/%' "
            "group by 1, 2, 3"
        ).fetchall()


def runs(place):
    with sqlite3.connect(place / "mlflow.db") as database:
        return dict(database.execute("select name, status from runs").fetchall())


def test_a_study_runs_to_its_table(place):
    done, _ = run(place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", "Ray's noise stays out of the terminal"
    assert "(2 levels + 2 references) x 1 seed - 0 shared = 4; 0 finished" in done.stdout
    assert "running 4 trials on" in done.stdout and ", float32\n" in done.stdout
    assert "device: CPU " in done.stdout
    assert "4 of 4 trials finished" in done.stdout
    assert "runs?workflowType=machine_learning" in done.stdout
    page = (place / "reports" / "x" / "table.md").read_text()
    assert "| **0.75** | 9 |" in page and "raw pixels" in page and "1/1" in page


def test_every_curve_is_in_mlflow_once(place):
    assert runs(place) == {
        "0.5 · s0": "FINISHED",
        "0.75 · s0": "FINISHED",
        "random encoder · s0": "FINISHED",
        "raw pixels · s0": "FINISHED",
        "REPORT": "FINISHED",
    }
    found = points(place)
    journals = [
        (json.loads((path.parent / "phase.json").read_text())["phase"], json.loads(line))
        for path in (place / "store").glob("*/*/journal.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert len(found) == sum(len(row["m"]) for _, row in journals)
    assert {count for *_, count in found} == {1}
    artifact = next((place / "mlartifacts" / "x").glob("*/artifacts/report/table.md"))
    assert artifact.read_text() == (place / "reports" / "x" / "table.md").read_text()


def everything(place):
    """All metric points, and when each trial's run ended."""
    with sqlite3.connect(place / "mlflow.db") as database:
        metrics = database.execute("select * from metrics order by 1, 2, 3, 4, 5, 6").fetchall()
        ends = database.execute("select name, end_time from runs where name != 'REPORT'").fetchall()
    return metrics, ends


def test_the_same_command_again_trains_nothing(place):
    before = everything(place)
    results = {p: p.read_bytes() for p in (place / "store").glob("*/*/result.json")}
    done, seconds = run(place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 finished in store, 0 to run" in done.stdout
    assert seconds < 30
    assert everything(place) == before
    assert {p: p.read_bytes() for p in (place / "store").glob("*/*/result.json")} == results


def test_asking_for_a_gpu_where_there_is_none_is_one_line(place):
    done, seconds = run(place, "--seeds", "2", "--gpus", "1")
    assert done.returncode == 2
    assert (
        done.stderr.strip() == "1 lane x 1 thread and 1 GPU need 1 GPU, the cluster has 0: "
        "leave out --gpus"
    )
    assert seconds < 60


@pytest.mark.slow
def test_one_bad_trial_stays_one_bad_trial(place):
    """A level that diverges fails alone; its reason is in the table; the exit status says so."""
    study = STUDY.replace("mask_ratio: [0.5, 0.75]", "pretrain.base_lr: [1.5e-4, 1.0e+30]")
    (place / "studies" / "rate.yaml").write_text(study)
    done, _ = run(place, study="rate")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED pretrain_base_lr=1e+30 seed 0: pretrain: Diverged: loss is nan" in done.stdout
    assert "1 without a result; the same command tries them again" in done.stdout
    page = (place / "reports" / "rate" / "table.md").read_text()
    assert "0 of 1 seeds, 1 failed" in page
    assert runs(place)["1e+30 · s0"] == "FAILED"
