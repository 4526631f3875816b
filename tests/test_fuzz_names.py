"""Random names of studies, factors, levels and folders: none is lost or renamed without a word."""

import os
import re
import shutil
import sqlite3
import string
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import TOY_RECIPE
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some
from toys import quoted, train

from mae_ablation.api import plan_study
from mae_ablation.cli import main
from mae_ablation.report.readings import Readings
from mae_ablation.report.report import to_csv
from mae_ablation.report.results import results_frame
from mae_ablation.report.table import table_frame
from mae_ablation.study.factors import as_shown
from mae_ablation.study.names import MOST_KEY, MOST_NAME_BYTES, file_name, folded, tracking_keys
from mae_ablation.study.places import another_study, path_from
from mae_ablation.tracking.address import sqlite_address
from mae_ablation.tracking.client import LocalClient
from mae_ablation.tracking.reading import MlflowReadings
from mae_ablation.tracking.tracker import Tracker

fast = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

PRINTABLE = "".join(c for c in string.printable if c.isprintable())
LETTERS = some.sampled_from(PRINTABLE + "äÄßİıǅéΩжあ中🙂\u0301\u200d\u00a0\u2003\u202e")
NAMES = some.one_of(
    some.text(LETTERS, min_size=1, max_size=20),
    some.text(LETTERS, min_size=90, max_size=100),
    some.sampled_from(
        ["recipe", "seed", "Seed", "..", ".", "-", "con", "index.html", "masking (%)"]
    ),
    some.sampled_from([" ", "a/b", "a-b", "A/B", "~", "null", "yes", "010", "x" * 300, "ü" * 300]),
)
STEMS = NAMES.filter(lambda text: "/" not in text and text.strip(".") and len(text.encode()) <= 240)
LEVELS = some.lists(NAMES, min_size=2, max_size=3, unique_by=lambda name: folded(as_shown(name)))


@fast
@given(names=some.lists(NAMES, min_size=1, max_size=6, unique=True))
def test_a_file_s_name_is_legal_everywhere_and_never_shared(names):
    made = {name: file_name(name) for name in names}
    for name, file in made.items():
        assert (
            re.fullmatch(r"[\w=+][\w.=+-]*(?<!\.)", file) and len(file.encode()) <= MOST_NAME_BYTES
        )
        assert file == file_name(file) or re.search(r"-[0-9a-f]{8}$", file), (name, file)
    different = {name.encode() for name in map(folded, names)}
    assert len({folded(file) for file in made.values()}) >= len(different)


@fast
@given(names=some.lists(NAMES, min_size=1, max_size=6, unique=True))
def test_mlflow_takes_every_key(names):
    from mlflow.utils.validation import _validate_metric, _validate_param

    keys = tracking_keys(names, ["seed", "recipe", "base_lr"])
    assert list(keys) == names
    assert len({folded(key) for key in [*keys.values(), "seed", "recipe", "base_lr"]}) == (
        len(names) + 3
    )
    for name, key in keys.items():
        _validate_param(key, name)
        _validate_metric(f"factor_{key}", 1.0, 0, 0)
        assert len(key) <= MOST_KEY and "/" not in key
        assert key == name or re.search(r"-[0-9a-f]{8}$", key)


@fast
@given(one=STEMS, other=STEMS)
def test_the_owner_of_a_report_is_found_whatever_folders_are_called(tmp_path_factory, one, other):
    base = tmp_path_factory.mktemp("owners")
    try:
        (base / one).mkdir()
        (base / "s").mkdir(exist_ok=True)
    except (OSError, UnicodeEncodeError):
        return  # no folder can have this name
    mine, theirs = base / one / "a.yaml", base / "s" / "b.yaml"
    mine.write_text("one")
    theirs.write_text("another")
    report = base / file_name(other)
    assert another_study(path_from(report, theirs), report, mine) == theirs.resolve()
    assert another_study(path_from(report, mine), report, mine) is None
    theirs.write_text("one")
    assert another_study(path_from(report, theirs), report, mine) is None


@fast
@given(name=STEMS)
def test_a_database_is_where_its_folder_is(name):
    from sqlalchemy import make_url

    file = Path("/") / name / "mlflow.db"
    assert make_url(sqlite_address(file)).database == str(file)


@contextmanager
def standing_in(folder):
    """The working directory for the block; the way back is by descriptor."""
    here = os.open(".", os.O_RDONLY)
    os.chdir(folder)
    try:
        yield
    finally:
        os.fchdir(here)
        os.close(here)


@pytest.fixture(scope="module")
def fresh_database(tmp_path_factory):
    """An empty database of MLflow's, since making one takes seconds."""
    file = tmp_path_factory.mktemp("fresh") / "mlflow.db"
    LocalClient(file)
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    return file


def tables(plan, readings):
    results = results_frame(plan, readings)
    return to_csv(table_frame(plan, results)), to_csv(results)


@settings(fast, max_examples=4)
@given(folder=STEMS, stem=STEMS, factor=NAMES, levels=LEVELS)
@example(folder="what?", stem="exp #1", factor="recipe", levels=["100%", "a|b", "$x$ <i>"])
@example(folder="%41 'q\"", stem="&;$()[]{}", factor="seed", levels=["_", "a, b=c", " seed 1"])
def test_names_go_from_the_study_to_mlflow_and_back(
    tmp_path_factory, fresh_database, folder, stem, factor, levels
):
    """study -> plan -> fake trials -> MLflow -> the same table from MLflow alone."""
    try:
        here = tmp_path_factory.mktemp("names") / folder
        here.mkdir(exist_ok=True)
        (here / f"{stem}.yaml").write_text("")
    except OSError:
        return  # no folder can have this name
    shutil.copy(fresh_database, here / "mlflow.db")
    (here / "recipes").mkdir()
    (here / "recipes" / "toy.yaml").write_text(TOY_RECIPE)
    lines = [f"    {quoted(name)}: {{mask_ratio: 0.{i + 2}}}" for i, name in enumerate(levels)]
    text = ["recipe: toy", "phases: [pretrain]", "factors:", f"  {quoted(factor)}:", *lines]
    (here / f"{stem}.yaml").write_text("\n".join(text) + "\n", encoding="utf-8")
    with standing_in(here):
        study = Path(f"{stem}.yaml")
        assert main(["plan", f"./{study}"]) == 0
        plan = plan_study(study, store="store")
        for i, trial in enumerate(plan.trials):
            train(plan, trial, 2, finish=True, train_loss=0.5 + i)
        tracker = Tracker([plan], Path.cwd())
        tracker.start()
        tracker.close({}, {})
        assert tracker.trouble is None
        there = MlflowReadings(plan, Path.cwd())
        assert tables(plan, there) == tables(plan, Readings(plan.store))
        kept = {*os.listdir("."), "mlartifacts"}
    with sqlite3.connect(here / "mlflow.db") as connection:
        params = connection.execute("select key, value from params").fetchall()
        tags = dict(connection.execute("select key, value from tags where key like 'factor.%'"))
        status = connection.execute("select distinct status from runs").fetchall()
    key = plan.study.tracking_keys[factor]
    assert {value for name, value in params if name == key} >= set(levels)
    assert tags == ({} if key == factor else {f"factor.{key}": factor})
    assert status == [("FINISHED",)]
    assert {each for each in kept if not each.startswith("mlflow.db")} == {
        *("recipes", f"{stem}.yaml", "store", "mlartifacts")
    }
