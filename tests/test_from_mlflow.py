"""A colleague with the study and the code, and no store: MLflow alone gives the same report."""

import json
from types import SimpleNamespace

import pytest
from fake_mlflow import FakeMlflow
from processes import free_port, kill_group, serve_mlflow
from toys import PRETRAIN_STUDY, RESULT, folder_of, points_by_trial, train

from mae_ablation.api import plan_study
from mae_ablation.cli import main
from mae_ablation.report.readings import Readings, finished_results
from mae_ablation.report.report import to_csv, write_report
from mae_ablation.report.results import results_frame
from mae_ablation.report.table import table_frame
from mae_ablation.tracking import runs as runs_module
from mae_ablation.tracking.experiment import Experiment
from mae_ablation.tracking.phase_tags import LIMIT, pack_result
from mae_ablation.tracking.reading import MlflowReadings
from mae_ablation.tracking.tracker import Tracker
from mae_ablation.train.trial import run_trial

PROBED = PRETRAIN_STUDY.replace("[pretrain]", "[pretrain, linear_probe]")


@pytest.fixture
def plan(write_study, tmp_path):
    return plan_study(write_study(PRETRAIN_STUDY), store=tmp_path / "store")


@pytest.fixture
def mlflow(monkeypatch):
    """A server at http://fake, for whoever reads; tests hand it to whoever writes."""
    fake = FakeMlflow()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://fake/")
    monkeypatch.setattr("mae_ablation.tracking.reading.client_to_read", lambda root: fake)
    return fake


class WithoutAnswers(Readings):
    """The store's results as MLflow has them: without the answers to single test images."""

    def read_predictions(self, phase):
        return None


def tables(plan, readings):
    """What table.csv and trials.csv are made of."""
    results = results_frame(plan, readings)
    return to_csv(table_frame(plan, results)), to_csv(results)


def require_same_report(plan, tmp_path):
    here, there = Readings(plan.store), MlflowReadings(plan, tmp_path)
    told = tables(plan, there)
    assert told == tables(plan, here) and finished_results(plan, there) == [
        {name: value for name, value in result.items() if name != "versions"}
        for result in finished_results(plan, here)
    ]
    return told[1]


def test_a_failure_is_told_until_the_phase_is_tried_again(plan, tmp_path, mlflow):
    one, two, *others = plan.trials
    for trial in others:
        train(plan, trial, 3, finish=True, seconds=0.1 + 0.2, versions={"torch": "2"})
    train(plan, one, 2)
    folder_of(plan, one).fail('pretrain: Diverged:\n"loss" is nan, 5 % in', "a traceback")
    experiment = Experiment(mlflow, plan)
    experiment.look()
    trials = require_same_report(plan, tmp_path)
    assert trials.count("finished") == 2 and "is nan, 5 % in" in trials and "missing" in trials
    train(plan, one, 4, first=2)
    experiment.look()
    assert "failed" not in require_same_report(plan, tmp_path)
    for trial in (one, two):
        train(plan, trial, 4, first=4, finish=True)
    experiment.look()
    assert require_same_report(plan, tmp_path).count("finished") == 4
    assert not [k for run in mlflow.active().values() for k in run.data.tags if "fail" in k]
    assert "versions" not in str([run.data.tags for run in mlflow.active().values()])


def test_a_new_driver_leaves_a_failed_run_as_it_is(plan, tmp_path, mlflow):
    trial = plan.trials[0]
    train(plan, trial, 2)
    folder_of(plan, trial).fail("pretrain: Diverged: loss is nan", "")
    Experiment(mlflow, plan).look()
    mlflow.calls.clear()
    Experiment(mlflow, plan).look()
    (run,) = mlflow.active().values()
    assert run.info.status == "FAILED"
    assert not {"update_run", "set_terminated", "delete_tag"} & set(mlflow.calls)
    train(plan, trial, 3, first=2, finish=True)
    Experiment(mlflow, plan).look()
    assert run.info.status == "FINISHED" and "error" not in run.data.tags
    require_same_report(plan, tmp_path)


def test_a_damaged_result_is_a_failure_there_too(plan, tmp_path, mlflow):
    for trial in plan.trials:
        train(plan, trial, 3, finish=True)
    folder = folder_of(plan, plan.trials[0])
    folder.files.write(f"{folder.name}/result.json", b"{")
    experiment = Experiment(mlflow, plan)
    experiment.look()
    assert "is damaged" in require_same_report(plan, tmp_path)
    assert "is damaged" in experiment.trouble


def test_a_phase_that_is_trained_again_tells_its_new_result(plan, tmp_path, mlflow):
    for trial in plan.trials:
        train(plan, trial, 3, finish=True)
    Experiment(mlflow, plan).look()
    folder = folder_of(plan, plan.trials[0])
    folder.files.remove(f"{folder.name}/result.json")  # `store verify --mend`
    experiment = Experiment(mlflow, plan)
    experiment.look()
    assert require_same_report(plan, tmp_path).count("missing") == 1
    folder.finish({**RESULT, "seconds": 7.25})
    experiment.look()
    assert "7.25" in require_same_report(plan, tmp_path)
    assert sorted(p for run in mlflow.active().values() for p in run.points if "/" in p[0]) == (
        sorted(p for points in points_by_trial(plan).values() for p in points)
    )


def test_a_try_that_the_search_stopped_is_told(write_study, tmp_path, mlflow):
    tune = "tune:\n  linear_probe.base_lr: [0.1, 0.2]\n  scheduler: asha\n"
    plan = plan_study(write_study(PROBED + tune), store=tmp_path / "store")
    early = plan.rows[0].tries[1].trials[0].phases[-1]
    for phase in {p.identity: p for trial in plan.cells for p in trial.phases}.values():
        if phase == early:
            why = {"search": phase.search, "epoch": 1, "reason": "stopped early"}
            phase.folder(plan.store).stop(phase.document, why)
        else:
            phase.folder(plan.store).finish(
                {**RESULT, "test_acc1": 70.0, "validation_acc1": 71.0, "epochs": 2}
            )
    experiment = Experiment(mlflow, plan)
    experiment.look()
    assert "1 stopped early" in require_same_report(plan, tmp_path)
    status = [run.info.status for run in mlflow.active().values()]
    assert status.count("KILLED") == 1 and status.count("FINISHED") == len(status) - 1
    why = {"search": "another's", "epoch": 1, "reason": "stopped early"}
    early.folder(plan.store).stop(early.document, why)
    experiment.look()
    assert require_same_report(plan, tmp_path).count("missing") == 2  # both seeds wait for it
    assert "KILLED" not in {run.info.status for run in mlflow.active().values()}
    early.folder(plan.store).finish(
        {**RESULT, "test_acc1": 60.0, "validation_acc1": 81.0, "epochs": 2}
    )
    experiment.look()
    assert "stopped" not in require_same_report(plan, tmp_path)
    assert {run.info.status for run in mlflow.active().values()} == {"FINISHED"}


def test_one_query_whatever_the_number_of_runs(plan, tmp_path, mlflow, monkeypatch):
    for trial in plan.trials:
        train(plan, trial, 1, finish=True)
    Experiment(mlflow, plan).look()
    mlflow.calls.clear()
    require_same_report(plan, tmp_path)
    assert mlflow.calls == ["get_experiment_by_name", "search_runs"]
    monkeypatch.setattr(runs_module, "RUNS_PER_PAGE", 3)
    mlflow.calls.clear()
    require_same_report(plan, tmp_path)
    assert mlflow.calls == ["get_experiment_by_name", "search_runs", "search_runs"]


def test_links_lead_to_the_runs(plan, tmp_path, mlflow):
    for trial in plan.trials[:3]:
        train(plan, trial, 1, finish=True)
    tracker = Tracker([plan], tmp_path)
    tracker._connect = lambda: [Experiment(mlflow, plan)]
    assert tracker.links("x") == {}
    tracker.start()
    tracker.finish()
    links = tracker.links("x")
    assert links == MlflowReadings(plan, tmp_path).links() and tracker.links("y") == {}
    assert list(links) == [
        ",".join(trial.result_id) for trial in plan.cells if trial.result_id[0] in str(links)
    ]
    page = "http://fake/#/experiments/1/runs/run0?workflowType=machine_learning"
    assert len(links) == 3 and page in links.values()
    mlflow.away = True
    away = Tracker([plan], tmp_path)
    away._connect = tracker._connect
    away.start()
    away.finish()
    assert away.links("x") == {}


def test_a_result_too_long_for_a_tag_keeps_its_numbers():
    result = {"test_acc1": 1 / 3, "curve": list(range(LIMIT)), "versions": {"torch": "2"}}
    assert pack_result(result) == '{"test_acc1":0.3333333333333333}'
    assert json.loads(pack_result({"curve": [1, 2], "loss": 0.1})) == {"curve": [1, 2], "loss": 0.1}


def test_errors_are_one_line(plan, tmp_path, mlflow, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["report", str(plan.study.path), "--from", "mlflow"]
    mlflow.away = True
    assert main(command) == 2
    expected = "http://fake: cannot read MLflow: API request to http://127.0.0.1:1 failed: "
    assert capsys.readouterr().err == expected + "nobody answers\n"
    mlflow.away = False
    mlflow.get_experiment_by_name = lambda name: None
    mlflow.search_experiments = lambda: [
        SimpleNamespace(name="xy"),
        SimpleNamespace(name="Default"),
    ]
    assert main(command) == 2
    assert capsys.readouterr().err == 'http://fake: unknown experiment "x" (did you mean "xy"?)\n'
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert main(command) == 2
    said = f"{tmp_path}/other.db: there is no such file, so no study to report of\n"
    assert capsys.readouterr().err == said and not list(tmp_path.glob("*.db*"))


def the_story_of_a_toy(write_study, tmp_path):
    """Trained, shown, one seed failed, grown: at each stage both reports say the same."""
    store = tmp_path / "store"

    def stage(study, broken=None):
        plan = plan_study(write_study(study), store=store)
        for trial in plan.missing():
            if trial.result_id == broken:
                phase = trial.phases[0]
                phase.folder(plan.store).begin(phase.document)
                phase.folder(plan.store).fail("pretrain: OutOfMemory: 80 GB", "")
            else:
                assert run_trial(trial, store) is None
        tracker = Tracker([plan], tmp_path)
        tracker.start()
        tracker.close({}, {})
        assert tracker.trouble is None
        return require_same_report(plan, tmp_path)

    few = PROBED.replace("seeds: 2", "seeds: 1")
    broken = plan_study(write_study(few), store=store).trials[0].result_id
    assert "OutOfMemory" in stage(few, broken)
    grown = PROBED.replace("[0.5, 0.75]", "[0.5, 0.75, 0.9]")
    assert stage(grown).count(",finished,") == 10  # 3 levels, 2 references, 2 seeds
    plan = plan_study(write_study(grown), store=store)
    write_report(plan, tmp_path / "from_store", readings=WithoutAnswers(plan.store))
    command = ["report", str(plan.study.path), "--from", "mlflow", "--store", "nowhere"]
    assert main(command) == 0 and not (tmp_path / "nowhere").exists()
    for name in ("table.csv", "trials.csv", "table.md"):
        ours, theirs = (tmp_path / place / name for place in ("reports/x", "from_store"))
        assert ours.read_bytes() == theirs.read_bytes()
    other = plan_study(write_study(PRETRAIN_STUDY.replace("0.75", "0.6")), store=store)
    assert require_same_report(other, tmp_path).count("missing") == 2  # never run, never shown


@pytest.mark.slow
def test_the_report_of_a_database_is_the_stores(write_study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    the_story_of_a_toy(write_study, tmp_path)


@pytest.mark.slow
@pytest.mark.rare
def test_the_report_of_a_server_is_the_stores(write_study, tmp_path, monkeypatch):
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.chdir(tmp_path)
    server = serve_mlflow(tmp_path, port)
    try:
        the_story_of_a_toy(write_study, tmp_path)
    finally:
        kill_group(server)
