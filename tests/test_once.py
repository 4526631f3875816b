"""Asked once, loaded once: a run reads each study file once and opens its store once."""

from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mae_ablation.api import plan_study
from mae_ablation.cli import main
from mae_ablation.errors import UserError
from mae_ablation.launch import here
from mae_ablation.run.run_state import RunState
from mae_ablation.store.folder import Store
from mae_ablation.study.request import Request, Selection

STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\n"


class NoTracker:
    """MLflow, which opens no store of its own."""

    trouble = "none in this test"
    remedy = ""

    def __init__(self, plans, root):
        pass

    def start(self):
        pass

    finish = leave = start

    def links(self, experiment):
        return {}

    def close(self, reports, notes):
        pass


@pytest.fixture
def counted(monkeypatch):
    """How often each YAML file is read, and how often a store is opened."""
    counts = Counter()
    read, opened = Path.read_text, Store.__init__

    def counting_read(path, *arguments, **options):
        counts[path.name] += path.suffix == ".yaml" and path.name != "paper_numbers.yaml"
        return read(path, *arguments, **options)

    def counting_open(store, root):
        counts["stores"] += 1
        opened(store, root)

    monkeypatch.setattr(Path, "read_text", counting_read)
    monkeypatch.setattr(Store, "__init__", counting_open)
    return counts


@pytest.fixture
def place(write_study, tmp_path, monkeypatch):
    """Two studies and a suite of them, where lanes are replaced by results made up at once."""
    path = write_study(STUDY)
    path.with_name("y.yaml").write_text(STUDY.replace("0.5", "0.25"))
    path.with_name("all.yaml").write_text("studies: [x, y]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mae_ablation.tracking.tracker.Tracker", NoTracker)

    @contextmanager
    def no_ray(address):
        yield

    def at_once(run, *others):
        for trial in run.work.trials:
            for phase in trial.phases:
                folder = phase.folder(SimpleNamespace(phase=plan.store.phase))
                folder.begin(phase.document)
                numbers = {"train_loss": 0.5, "seconds": 1.0, "commit": "abc"}
                folder.finish({"test_acc1": 70.0, "validation_acc1": 70.0, **numbers})
        return RunState(trials=run.work.trials)

    plan = plan_study(path, store="store")
    monkeypatch.setattr("mae_ablation.run.driver.run_trials", at_once)
    monkeypatch.setattr(
        "mae_ablation.run.driver.fit_lanes", lambda lanes, *place: replace(lanes, gpus=0.0)
    )
    monkeypatch.setattr("mae_ablation.run.ray_session.ray_session", no_ray)
    return tmp_path


YAML_ONCE = {"x.yaml": 1, "y.yaml": 1, "all.yaml": 1, "toy.yaml": 1}


def test_a_run_reads_each_file_once_and_opens_its_store_once(place, counted, capsys):
    run = ["run", "studies/all.yaml", "studies/x.yaml", "--local"]
    assert main(run) == 0, capsys.readouterr()
    assert (place / "reports" / "all" / "index.html").is_file()
    assert +counted == {**YAML_ONCE, "stores": 1}
    counted.clear()
    assert main(run) == 0, "with nothing to run"
    assert +counted == {**YAML_ONCE, "stores": 1}


@pytest.mark.parametrize("command", ["plan", "report"])
def test_so_does_every_other_command_of_studies(place, counted, command, capsys):
    assert main([command, "studies/all.yaml", "--store", "empty"]) == (command == "report")
    assert +counted == {**YAML_ONCE, "stores": 1}


def test_a_request_is_frozen_and_takes_what_a_notebook_has():
    request = Request("studies/x.yaml", seeds=3, changes=["pretrain.epochs=1"], reports="~/r")
    assert request.studies == (Path("studies/x.yaml"),)
    assert request.changes == ("pretrain.epochs=1",) and request.reports == Path.home() / "r"
    with pytest.raises(UserError, match="^--micro-batch: 0 is too few: give a whole number from 1"):
        Request("studies/x.yaml", micro_batch=0)
    with pytest.raises(AttributeError):
        request.seeds = 4
    assert Selection([Path("a.yaml"), "b.yaml"]).studies == (Path("a.yaml"), Path("b.yaml"))


def test_a_run_on_a_cluster_ends_with_the_same_function():
    from mae_ablation.launch import submit
    from mae_ablation.report import outcome

    assert here.conclude is submit.conclude is outcome.conclude
