"""Paths as people type them, and working folders with any legal name."""

import os
import sqlite3
from dataclasses import replace

import pytest
from toys import train

from mae_ablation import doctor
from mae_ablation.api import plan_study
from mae_ablation.cli import main
from mae_ablation.errors import UserError
from mae_ablation.mae.targets.dvae_token import Tokens
from mae_ablation.recipe.recipe import Data
from mae_ablation.run.session import with_absolute_paths
from mae_ablation.store.folder import Store
from mae_ablation.store.paths import expanded_place, quoted_address
from mae_ablation.tracking.address import database_file, sqlite_address

ODD = ["what? #1 100% %41 ä", "q?uri=true", "'\"&;$()[]{}`\\|<>!*^~"]
STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\nphases: [pretrain]\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_tilde_is_the_home_folder_wherever_a_path_is_taken(home, toy, monkeypatch):
    assert Store("~/store").root == f"{home}/store"
    images = Data(name="image_folder", folder="~/images")
    assert images.set.location(images) == home / "images"
    assert expanded_place("s3://~/store") == "s3://~/store" and expanded_place("./~") == "./~"
    assert expanded_place("file://~/store") == f"{home}/store"
    tokens = Tokens(source="dalle", file="~/e.pkl", sha256="0" * 64)
    recipe = replace(toy, tokenizer=tokens, pretrain=replace(toy.pretrain, target="dvae_token"))
    assert with_absolute_paths(recipe).tokenizer.file == f"{home}/e.pkl"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///~/runs.db")
    assert database_file(home) == home / "runs.db"


def test_a_tilde_in_arguments(home, write_study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_study(write_study(STUDY), store="~/store")
    for trial in plan.trials:
        train(plan, trial, 2, finish=True)
    (tmp_path / "studies").rename(home / "studies")
    words = ["~/studies/x.yaml", "--store=~/store", "--reports=~/reports"]
    assert main(["report", *words]) == 0
    assert (home / "reports" / "x" / "report.json").is_file()
    assert main(["store", "ls", "--store=~/store"]) == 0
    assert main(["compare", "~/reports/x", "x", "--reports=~/reports"]) == 0
    with pytest.raises(UserError, match=f"looked in {home}$"):
        plan_study(home / "studies" / "x.yaml", store="~/store", recipe="~/none.yaml")
    assert not (tmp_path / "~").exists()


def test_a_file_s_address_is_its_path(tmp_path):
    folder = tmp_path / "a b #1 100%"
    assert Store(folder.as_uri()).root == str(folder)
    assert Store("file://" + str(folder)).root == str(folder)


def test_what_an_address_would_cut_is_quoted():
    assert quoted_address("s3://b/a #1?/%41") == "s3://b/a%20%231%3F/%2541"
    assert quoted_address("s3://b/x?region=eu&scheme=http") == "s3://b/x?region=eu&scheme=http"
    assert quoted_address("s3://bucket") == "s3://bucket"


@pytest.mark.parametrize("name", ODD)
def test_a_working_folder_of_any_name(tmp_path, name, monkeypatch):
    """MLflow's database is the one in it, for whoever asks, and nothing is made beside it."""
    from sqlalchemy import create_engine, inspect

    folder = tmp_path / "here" / name
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    file = database_file(folder)
    assert file == folder / "mlflow.db"
    with sqlite3.connect(file) as connection:
        connection.execute("create table mine (x)")
    assert doctor.check_mlflow(folder).state == doctor.OK
    engine = create_engine(sqlite_address(file))
    assert inspect(engine).get_table_names() == ["mine"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_address(file))
    assert database_file(tmp_path) == file
    assert [path for path, _, files in os.walk(tmp_path) if files] == [str(folder)]
