"""The front door: quick, one line per error, exit statuses, nothing half-made."""

import os
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT

RUN = [sys.executable, "-m", "platform.run"]
MASK_RATIO = "studies/mask_ratio.yaml"


def call(command, cwd=ROOT, **environment):
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return done, time.monotonic() - began


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        ([MASK_RATIO, "--plan"], 0),
        ([MASK_RATIO, "--set", "pretrain.epoch=1"], 2),
        (["studies/none.yaml"], 2),
    ],
)
def test_the_front_door_answers_in_1_5_s(words, status):
    done, seconds = call(RUN + words)
    assert done.returncode == status, done.stderr
    assert seconds < 1.5
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "program",
    [
        RUN,
        [sys.executable, "-m", "platform", "run"],
        [sys.executable, "-m", "mae_ablation", "run"],
        [str(ROOT / "none" / "mae-ablation"), "run"],
    ],
    ids=["platform.run", "platform", "mae_ablation", "console script"],
)
def test_all_ways_in_lead_to_the_same_plan(program):
    if program[0].endswith("mae-ablation"):
        program = [os.path.join(os.path.dirname(sys.executable), "mae-ablation"), "run"]
    done, _ = call(
        [*program, MASK_RATIO, "--plan", "--seeds", "2", "--store", "/tmp/no-such-store"]
    )
    assert done.returncode == 0, done.stderr
    assert "(10 levels + 2 references) x 2 seeds - 0 shared = 24; 0 finished" in done.stdout
    assert done.stdout.count("mask_ratio=") == 20


def refused(words, message, cwd=ROOT, **environment):
    done, _ = call(RUN + words, cwd, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for store in (tmp_path / "file", tmp_path / "file" / "store"):
        refused([MASK_RATIO, "--store", str(store)], "cannot write there")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_without_write_permission(tmp_path):
    tmp_path.chmod(0o500)
    refused([MASK_RATIO, "--store", str(tmp_path / "store")], "is not writable")


def test_all_studies_are_checked_before_the_first_one_runs(tmp_path):
    (tmp_path / "bad.yaml").write_text("factor: 1\n")
    words = [MASK_RATIO, str(tmp_path / "bad.yaml"), "--store", str(tmp_path / "store")]
    refused(words, 'bad.yaml:1: unknown key "factor" (did you mean "factors"?)')
    assert not (tmp_path / "store").exists()


def test_ui_says_what_is_wrong(tmp_path):
    ui = [sys.executable, "-m", "mae_ablation", "ui"]
    done, _ = call(ui, cwd=tmp_path)
    assert done.returncode == 2 and "run a study first" in done.stderr
    (tmp_path / "mlflow.db").write_text("")
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        done, _ = call([*ui, "--port", str(port)], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"ui: port {port} is busy: choose another with --port {port + 1}\n"
