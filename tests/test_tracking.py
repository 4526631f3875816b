"""MLflow shows what the store has: after outages, kills, and beside other drivers. Every point
once."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_mlflow import FakeMlflow
from processes import free_port, kill_group, serve_mlflow, wait_for
from toys import PRETRAIN_STUDY, folder_of, points_by_trial, train

from mae_ablation.api import plan_study
from mae_ablation.store.files import LocalFiles
from mae_ablation.tracking.client import WriteLock
from mae_ablation.tracking.experiment import ANOTHER, Experiment
from mae_ablation.tracking.tracker import Tracker


@pytest.fixture
def plan(write_study, tmp_path):
    return plan_study(write_study(PRETRAIN_STUDY), store=tmp_path / "store")


def curves(mlflow):
    """Every point of a curve in MLflow, by trial."""
    return {
        run.data.tags["trial_id"]: sorted(p for p in run.points if "/" in p[0])
        for run in mlflow.active().values()
    }


def test_a_finished_trial_takes_few_calls_and_then_none(plan):
    for trial in plan.trials:
        train(plan, trial, 3, finish=True, attempts=1 + trial.seed)
    mlflow = FakeMlflow()
    Experiment(mlflow, plan).look()
    mlflow_alone = FakeMlflow()
    database = plan.study.path.parent / "mlflow.db"
    experiment = Experiment(mlflow_alone, plan, WriteLock(database, "x"))
    experiment.look()
    each = [mlflow_alone.calls.count(name) for name in ("create_run", "log_batch", "log_text")]
    assert each == [4, 4, 4] and mlflow_alone.calls.count("set_terminated") == 4
    assert mlflow_alone.calls.count("search_runs") == 1
    assert curves(mlflow) == curves(mlflow_alone) == points_by_trial(plan)
    run = mlflow.active()["0.5 · s1"]
    assert (run.info.status, run.data.tags["attempt"]) == ("FINISHED", "2")
    assert run.data.params == {"seed": "1", "recipe": "toy", "mask_ratio": "0.5"}
    assert ("pretrain_loss", 1769860800000, 0, 0.5) in run.points
    assert "attempt" not in mlflow.active()["0.5 · s0"].data.tags
    mlflow.calls.clear()
    Experiment(mlflow, plan).look()
    assert set(mlflow.calls) == {"get_experiment_by_name", "set_experiment_tag", "search_runs"}


def test_finished_trials_are_not_read_again(plan, monkeypatch):
    for trial in plan.trials[:-1]:
        train(plan, trial, 3, finish=True)
    mlflow, read = FakeMlflow(), []
    experiment = Experiment(mlflow, plan)
    experiment.look()
    real = LocalFiles.read
    monkeypatch.setattr(
        LocalFiles, "read", lambda files, name: read.append(name) or real(files, name)
    )
    mlflow.calls.clear()
    experiment.look()
    assert read == [] and mlflow.calls == []
    train(plan, plan.trials[-1], 2)
    read.clear()
    experiment.look()
    mine = folder_of(plan, plan.trials[-1]).name
    assert {name.rpartition("/")[0] for name in read} == {mine}


def test_an_outage_delays_the_view_and_loses_nothing(plan, monkeypatch):
    monkeypatch.setattr("mae_ablation.tracking.tracker.EVERY_S", 0.01)
    monkeypatch.setattr("mae_ablation.tracking.tracker.AT_MOST_S", 0.05)
    mlflow = FakeMlflow()
    tracker = Tracker([plan], Path("."))
    tracker._connect = lambda: [Experiment(mlflow, plan)]
    one, two, *others = plan.trials
    train(plan, one, 3)
    tracker.start()
    wait_for(lambda: curves(mlflow) == {one.id: points_by_trial(plan)[one.id]}, "a curve")
    mlflow.away = True
    train(plan, one, 9, first=3, finish=True)
    train(plan, two, 5)
    wait_for(lambda: tracker.trouble, "the outage")
    assert tracker.trouble == (
        "MlflowException: API request to http://127.0.0.1:1 failed: nobody answers"
    )
    assert tracker.remedy == "the same command catches up"
    for trial in others:
        train(plan, trial, 4, finish=True)
    mlflow.away = False
    wait_for(
        lambda: tracker.trouble is None and curves(mlflow) == points_by_trial(plan), "the rest"
    )
    train(plan, two, 7, first=5, finish=True)
    tracker.close({}, {})
    assert tracker.trouble is None
    assert curves(mlflow) == points_by_trial(plan)
    assert {run.info.status for run in mlflow.active().values()} == {"FINISHED"}


def test_an_mlflow_that_is_away_is_asked_less_and_less_often(plan):
    pauses = []

    class Waits:
        def wait(self, pause):
            pauses.append(pause)
            mlflow.away = len(pauses) < 8
            return len(pauses) == 10

    mlflow = FakeMlflow()
    tracker = Tracker([plan], Path("."))
    tracker._connect = lambda: [Experiment(mlflow, plan)]
    tracker._closing = Waits()
    tracker.run()
    assert pauses == [1, 2, 4, 8, 10, 10, 10, 10, 1, 1]


def test_a_trial_that_resumed_elsewhere_has_each_step_once(plan):
    trial = plan.trials[0]
    mlflow = FakeMlflow()
    train(plan, trial, 5)
    Experiment(mlflow, plan).look()  # this driver is killed
    folder_of(plan, trial).journal.cut(after_step=2)
    time.sleep(0.002)  # other times
    train(plan, trial, 8, first=3, finish=True)
    Experiment(mlflow, plan).look()
    (run,) = mlflow.active().values()
    steps = sorted(step for name, _, step, _ in run.points if name == "pretrain/loss")
    assert steps == list(range(8)) and run.info.status == "FINISHED"


def test_two_drivers_with_one_database_take_turns(plan, tmp_path):
    mlflow = FakeMlflow()
    one, two = (Experiment(mlflow, plan, WriteLock(tmp_path / "mlflow.db", "x")) for _ in range(2))
    train(plan, plan.trials[0], 3, finish=True)
    one.look()
    two.look()
    assert (one.trouble, two.trouble) == (None, ANOTHER)
    for trial in plan.trials[1:]:
        train(plan, trial, 3, finish=True)
    two.look()
    assert len(mlflow.active()) == 1
    one.close()
    two.look()
    assert two.trouble is None and curves(mlflow) == points_by_trial(plan)


def test_two_drivers_with_one_server_make_one_run_of_a_trial(plan):
    mlflow = FakeMlflow()
    one, two = (Experiment(mlflow, plan) for _ in range(2))
    for trial in plan.trials:
        train(plan, trial, 3, finish=True)
    mlflow.before_create = two.look  # between its search and its first run
    one.look()
    assert len(mlflow.runs) == 5 and mlflow.calls.count("delete_run") == 1
    assert curves(mlflow) == points_by_trial(plan)


def test_a_trial_that_mlflow_refuses_is_one_trial(plan):
    mlflow = FakeMlflow()
    mlflow.refused = {"1"}
    for trial in plan.trials:
        train(plan, trial, 3, finish=True)
    experiment = Experiment(mlflow, plan)
    experiment.look()
    shown = [name for name, run in mlflow.active().items() if run.info.status == "FINISHED"]
    assert sorted(shown) == ["0.5 · s0", "0.75 · s0"]
    assert experiment.trouble.endswith("seed 1 is not shown: this value was another")
    assert experiment.remedy == "MLflow will refuse it again; store and reports have all of it"
    assert len(mlflow.active()) == 2, "no run says that it is running and holds nothing"
    mlflow.refused = set()
    Experiment(mlflow, plan).look()
    assert curves(mlflow) == points_by_trial(plan)


def test_a_deleted_experiment_is_lasting_trouble(plan, monkeypatch):
    mlflow = FakeMlflow()
    deleted = SimpleNamespace(experiment_id="1", lifecycle_stage="deleted", tags={})
    monkeypatch.setattr(mlflow, "get_experiment_by_name", lambda name: deleted)
    tracker = Tracker([plan], Path("."))
    tracker._connect = lambda: [Experiment(mlflow, plan)]
    tracker.start()
    tracker.close({}, {})
    assert tracker.trouble == "ValueError: the experiment x is in the deleted state"
    assert tracker.remedy == "restore the experiment, or delete it for good: `mlflow gc`"
    assert mlflow.runs == {}


def test_a_database_that_is_none_is_said_at_once(plan, tmp_path):
    (tmp_path / "mlflow.db").write_text("no database, but long enough to be taken for one" * 9)
    began = time.monotonic()
    tracker = Tracker([plan], tmp_path)
    tracker.start()
    tracker.close({}, {})
    assert "file is not a database" in tracker.trouble and time.monotonic() - began < 10
    assert tracker.remedy == "move the file away; a new one is filled from the store"


@pytest.mark.slow
def test_a_server_is_killed_and_comes_back(plan, tmp_path, monkeypatch):
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    server = serve_mlflow(tmp_path, port)
    try:
        tracker = Tracker([plan], tmp_path)
        one, *others = plan.trials
        train(plan, one, 50)
        tracker.start()
        wait_for(lambda: tracker.experiment_ids() and server_curves(plan, tracker), "a curve")
        kill_group(server)
        train(plan, one, 80, first=50)
        for trial in others:
            train(plan, trial, 700, finish=True)
        wait_for(lambda: tracker.trouble, "the outage")
        server = serve_mlflow(tmp_path, port)
        train(plan, one, 90, first=80, finish=True)
        wait_for(lambda: server_curves(plan, tracker) == points_by_trial(plan), "the rest")
        began = time.monotonic()
        tracker.close({}, {})
        assert tracker.trouble is None
        gone = Tracker([plan], tmp_path)
        kill_group(server)
        gone.start()
        gone.close({}, {})
        assert "MlflowException" in gone.trouble and "\n" not in gone.trouble
        assert time.monotonic() - began < 60, "the end does not wait for a server that is away"
    finally:
        kill_group(server)


def server_curves(plan, tracker):
    from mlflow import MlflowClient

    client = MlflowClient()
    found = {}
    for run in client.search_runs(tracker.experiment_ids(), "tags.kind = 'trial'"):
        assert run.data.tags["trial_id"] not in found, "a trial has two runs"
        found[run.data.tags["trial_id"]] = sorted(
            (name, point.timestamp, point.step, point.value)
            for name in run.data.metrics
            if "/" in name
            for point in client.get_metric_history(run.info.run_id, name)
        )
    return found
