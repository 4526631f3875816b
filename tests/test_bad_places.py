"""Stores on real file systems that fail: a full disk, a read-only mount, one that vanishes.

Mounts are made in a namespace of the test's own.
"""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import write_place

STORY = """
set -e
mount -t tmpfs -o size=200k tmpfs store
"$PYTHON" -c "$RUN" full
rm -r store/* store/.claims
mount -o remount,size=20m store
"$PYTHON" -c "$RUN" roomy
mount -o remount,ro store
"$PYTHON" -c "$RUN" readonly
umount store
rmdir store
touch store
"$PYTHON" -c "$RUN" gone
"""
RUN = """
import sys
from pathlib import Path
from mae_ablation.api import plan_study
from mae_ablation.train.trial import run_trial

seeds = {"full": 1, "roomy": 1, "readonly": 2, "gone": 3}[sys.argv[1]]
plan = plan_study(Path("studies/x.yaml"), store="store", seeds=seeds)
for trial in plan.trials:
    print(sys.argv[1], trial.label, run_trial(trial, "store"), sep=" | ")
"""


@pytest.mark.slow
@pytest.mark.rare
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="mounting takes root and unshare"
)
def test_each_trial_says_what_is_wrong_with_its_store(tmp_path):
    write_place(tmp_path, "recipe: toy\nfactors:\n  mask_ratio: [0.75]\n")
    (tmp_path / "store").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", STORY],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable, "RUN": RUN},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line.split(" | ") for line in done.stdout.splitlines()]
    reasons = {(where, label): reason for where, label, reason in said}
    full = reasons["full", "mask_ratio=0.75 seed 0"]
    assert full.startswith("pretrain: OSError: [Errno 28] No space left on device"), full
    assert {reason for where, _, reason in said if where == "roomy"} == {"None"}
    assert "Read-only file system" in reasons["readonly", "mask_ratio=0.75 seed 1"]
    assert reasons["readonly", "mask_ratio=0.75 seed 0"] == "None", "what is there can be used"
    assert "Errno" in reasons["gone", "mask_ratio=0.75 seed 2"]
