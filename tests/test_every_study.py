"""Every shipped study runs to its table, all together, at the smoke recipe's scale."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

STUDIES = sorted(p.stem for p in (ROOT / "studies").glob("*.yaml") if p.stem != "paper")


@pytest.mark.slow
def test_every_study_runs_to_its_table(tmp_path):
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    files = sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "studies").glob("*.yaml"))
    quick = ["--set", "pretrain.epochs=1", "--set", "pretrain.warmup_epochs=0", "--seeds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "mae_ablation", "run", *files, "--recipe", "smoke", *quick],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "platform")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trials finished" in done.stdout and "FAILED" not in done.stdout
    for study in STUDIES:
        (folder,) = (tmp_path / "reports").glob(f"{study}-smoke-*")
        page = (folder / "table.md").read_text()
        assert "1/1" in page and "0/1" not in page, study
        assert (folder / "figure.png").stat().st_size > 10_000
    (target,) = (tmp_path / "reports").glob("target-smoke-*")
    assert "dvae_token (stand-in, in-domain)" in (target / "table.md").read_text()
