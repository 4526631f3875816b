"""What ships is found by name: in a folder that has no studies, as after `pip install`."""

import os
import re
import subprocess
import sys
import zipfile

import pytest
import yaml
from conftest import ROOT

from mae_ablation import __version__
from mae_ablation.api import plan_study
from mae_ablation.cli import main
from mae_ablation.errors import UserError
from mae_ablation.study.shipped import find_study, shipped_studies

pytestmark = pytest.mark.usefixtures("empty")


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """Works in a folder with nothing in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_study_that_ships_is_planned_by_its_name():
    plan = plan_study("mask_ratio", recipe="smoke")
    assert plan.study.path == shipped_studies() / "mask_ratio.yaml"
    assert plan.study.recipe_name == "smoke"


def test_a_file_here_goes_first(empty):
    (empty / "mask_ratio").write_text("")
    assert find_study("mask_ratio") == find_study("./mask_ratio")


def test_a_recipe_beside_the_study_goes_before_one_that_ships(write_study):
    path = write_study("recipe: toy\nfactors: {mask_ratio: [0.5, 0.75]}\n")
    assert plan_study(path, recipe="smoke").study.recipe_path.parent != path.parent / "recipes"
    own = path.parent / "recipes" / "smoke.yaml"
    own.write_text(path.with_name("recipes").joinpath("toy.yaml").read_text())
    assert plan_study(path, recipe="smoke").study.recipe_path == own


def test_a_slip_in_a_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match='did you mean "mask_ratio"'):
        plan_study("mask_rato")


def test_init_writes_a_study_that_can_be_planned(empty, capsys):
    assert main(["init", "mine.yaml"]) == 0
    assert capsys.readouterr().out == ("mine.yaml: change it, then: mae-ablation plan mine.yaml\n")
    assert "mae-ablation run mine.yaml --recipe smoke" in (empty / "mine.yaml").read_text()
    assert main(["plan", "mine.yaml"]) == 0
    assert main(["init", "mine.yaml"]) == 2, "nothing is written over"


@pytest.mark.slow
def test_an_installed_wheel_plans_a_study_in_an_empty_folder(empty, tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "dist", ROOT]
    done = subprocess.run(build, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"hatchling is not there: {done.stderr.splitlines()[-1]}")
    (wheel,) = (tmp_path / "dist").iterdir()
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-m", "mae_ablation", "plan", "paper", "--recipe", "smoke"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "mask_ratio: Masking ratio (recipe smoke" in done.stdout


def test_files_beside_the_package_name_its_versions():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)[1]
    assert f"FROM rayproject/ray:{pinned}-" in (ROOT / "Dockerfile").read_text()
