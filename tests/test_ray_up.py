"""`ray up cluster.yaml`, `python -m platform.run studies/x.yaml`, `ray down cluster.yaml`: really.

Two nodes on loopback addresses, sshd between them, in namespaces of their own (loopback/inside.sh).
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, write_place

LOOPBACK = Path(__file__).parent / "loopback"
TOOLS = ("unshare", "ip", "sshd", "ssh", "ssh-keygen", "rsync", "mount", "ps")
STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\nphases: [pretrain, linear_probe, knn]\n"
SPACES = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--mount"]
PATIENCE_S = 900  # a guard against hanging, not a bound on speed


def obstacle() -> str:
    """Why there can be no machine within this one; "" if there can."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "only root on Linux may make namespaces and run sshd"
    if lacking:
        return f"no {', '.join(lacking)} here"
    tried = subprocess.run([*SPACES, "ip", "link", "set", "lo", "up"], capture_output=True)
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.decode().strip()}"


@pytest.fixture
def clone(tmp_path):
    """What the user has: the code, a study, a cluster file."""
    hidden = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "platform", tmp_path / "platform", ignore=hidden)
    write_place(tmp_path, STUDY)
    shutil.copy(LOOPBACK / "cluster.yaml", tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(bool(obstacle()), reason=obstacle())
def test_ray_up_run_ray_down(clone):
    prefixes = ":".join(dict.fromkeys(map(os.path.realpath, (sys.prefix, sys.base_prefix))))
    inside = ["bash", LOOPBACK / "inside.sh", prefixes, LOOPBACK / "steps.sh", clone]
    done = subprocess.run(
        [*SPACES, *inside],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": str(clone / "platform")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    out = {path.stem: path.read_text() for path in (clone / "out").iterdir()}
    statuses = dict(line.split()[:2] for line in out["steps"].splitlines())
    print(out["steps"])
    wanted = {"up": "0", "run": "0", "again": "0", "down": "0", "gone": "2"}
    assert statuses == wanted, "\n".join(out[name] for name in wanted if name != "steps")

    place = "Ray: the cluster of ./cluster.yaml (head 127.0.0.1); --local stays on this machine"
    first, second = out["run"].splitlines(), out["again"].splitlines()
    assert first[0] == second[0] == place
    assert "submitted as mae-x-" in out["run"]
    assert "4/4 trials  finished" in out["run"]
    assert "downloaded 10 new results from 127.0.0.1 into ./store; checkpoints stay there" in first
    assert any("4 finished in store, 0 to run" in line for line in second)
    assert "downloaded 0 new results from 127.0.0.1 into ./store; checkpoints stay there" in second
    assert out["gone"] == "cluster.yaml: its cluster is not up: ray up cluster.yaml\n"
    assert out["left"] == "", "nothing is left of the cluster"

    table = (clone / "reports" / "x" / "table.md").read_text()
    assert "**Linear probe.**" in table and "**k-NN.**" in table and "missing" not in table
    results = [json.loads(p.read_text()) for p in (clone / "store").glob("*/*/result.json")]
    assert sorted(r["phase"] for r in results) == ["knn"] * 4 + ["linear_probe"] * 4 + (
        ["pretrain"] * 2
    )
    assert list((clone / "store").rglob("checkpoint-*")) == []
    with sqlite3.connect(clone / "mlflow.db") as database:
        runs = database.execute("select name, status from runs").fetchall()
    assert len(runs) == 5 and {status for _, status in runs} == {"FINISHED"}
