"""The Slurm templates, run by a Slurm of three nodes in namespaces of their own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT, write_place

from mae_ablation.launch.cluster_file import template

HERE = Path(__file__).parent / "slurm"
TOOLS = ("unshare", "nsenter", "ip", "mount", "hostname", "slurmctld", "slurmd", "sbatch")
SPACES = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
SPACES += ["--net", "--mount", "--uts"]
PATIENCE_S = 900  # a guard against hanging, not a bound on speed
ENVIRONMENT = 'source "FILL IN the folder of your virtual environment/bin/activate"\n'
STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.6, 0.75]\nphases: [pretrain, knn]\n"


def find_obstacle() -> str:
    """Says why there can be no Slurm on this machine; "" if there can."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "only root on Linux may make namespaces and run slurmd"
    if lacking:
        return f"no {', '.join(lacking)} here"
    tried = subprocess.run([*SPACES, "ip", "link", "add", "net0", "type", "bridge"])
    return "" if tried.returncode == 0 else "no bridges between namespaces here"


@pytest.fixture
def shared():
    """A folder that all nodes see (each has a /tmp of its own), with studies and filled-in jobs."""
    place = Path(tempfile.mkdtemp(prefix="slurm-", dir="/var/tmp"))
    for name, study in (("x", STUDY), ("y", STUDY + "seeds: [3, 4]\n")):
        write_place(place, study, name=name, epochs=150)  # long enough to be killed at work
    (place / "out").mkdir()
    here = f'export PATH="{Path(sys.executable).parent}:$PATH" PYTHONPATH="{ROOT}/platform"\n'
    for name, file in (("slurm", "cluster.sbatch"), ("slurm-array", "array.sbatch")):
        text = (
            template(name).replace(ENVIRONMENT, here).replace("cpus-per-task=8", "cpus-per-task=2")
        )
        lines = text.splitlines(keepends=True)
        (place / file).write_text("".join(line for line in lines if "#SBATCH --gpus" not in line))
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize("name", ["slurm", "slurm-array"])
def test_a_template_asks_for_two_values_and_tells_slurm_to_let_it_save(name):
    text = template(name)
    assert text.count("FILL") - text.count("FILL IN.") >= 1
    assert "#SBATCH --signal=B:TERM@120" in text and "#SBATCH --requeue" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


@pytest.mark.slow
@pytest.mark.rare
@pytest.mark.skipif(bool(find_obstacle()), reason=find_obstacle())
def test_a_study_over_two_nodes_is_requeued_and_three_jobs_share_a_store(shared):
    done = subprocess.run(
        [*SPACES, "bash", HERE / "cluster.sh", HERE / "steps.sh", shared],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    logs = "\n".join(path.read_text() for path in sorted(shared.glob("mae-ablation-*.log")))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    said = dict(line.split() for line in (shared / "out" / "steps").read_text().splitlines())
    print(said)
    assert said["permissions"] == "600"
    assert said["restarts"] == "Restarts=1" and said["state"] == "JobState=COMPLETED", logs
    assert said["task-1"] == said["task-3"] == "JobState=COMPLETED", logs

    results = [json.loads(p.read_text()) for p in (shared / "store").glob("*/*/result.json")]
    assert sorted(result["phase"] for result in results) == ["knn"] * 15 + ["pretrain"] * 9
    for study in ("x", "y"):
        assert "missing" not in (shared / "reports" / study / "table.md").read_text()
