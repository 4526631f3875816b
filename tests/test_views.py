"""What the MLflow UI opens with: saved views, colours by level, the note and the run REPORT."""

import base64
import json
import zlib

import pytest
from fake_mlflow import FakeMlflow
from toys import PRETRAIN_STUDY, train

from mae_ablation.api import plan_study
from mae_ablation.report.note import write_note
from mae_ablation.report.report import write_report
from mae_ablation.tracking.address import database_file, runs_url, server_uri
from mae_ablation.tracking.client import LocalClient, open_client
from mae_ablation.tracking.description import GREYS, OKABE_ITO, choose_colours
from mae_ablation.tracking.experiment import Experiment
from mae_ablation.tracking.report_run import NOTE, NOTE_LIMIT, cut_note, show_report

TWO_FACTORS = PRETRAIN_STUDY.replace("phases", "  decoder_depth: [1, 2]\nphases")
NAMED = """\
recipe: toy
factors:
  sampling:
    random: {}
    grid: {mask_sampling: grid}
phases: [pretrain, linear_probe]
"""


@pytest.fixture
def planned(write_study, tmp_path):
    return lambda study: plan_study(write_study(study), store=tmp_path / "store")


def views(mlflow):
    """States of the saved views, by name."""
    tags = [v for k, v in mlflow.experiment_tags.items() if k.startswith("mlflow.sharedViewState.")]
    found = map(json.loads, tags)
    packed = {view["name"]: view["state"].removeprefix("deflate;") for view in found}
    return {name: json.loads(zlib.decompress(base64.b64decode(s))) for name, s in packed.items()}


def test_three_views_are_saved(planned):
    mlflow = FakeMlflow()
    Experiment(mlflow, planned(TWO_FACTORS)).look()
    saved = views(mlflow)
    assert list(saved) == ["1 Trials", "2 Ablation (mean over seeds)", "3 Curves"]
    trials, ablation, curves = saved.values()
    params = ["params.`mask_ratio`", "params.`decoder_depth`"]
    assert trials["selectedColumns"][:3] == [*params, "params.`seed`"]
    assert (trials["groupBy"], curves["groupBy"]) == (None, None)
    keys = [key["groupByData"] for key in ablation["groupBy"]["groupByKeys"]]
    assert (
        keys == ["mask_ratio", "decoder_depth"]
        and "params.`seed`" not in (ablation["selectedColumns"])
    )
    folded = ablation["groupsExpanded"]
    assert list(folded) == [
        "param.mask_ratio.0.5,param.decoder_depth.1",
        "param.mask_ratio.0.75,param.decoder_depth.1",
        "param.mask_ratio.0.75,param.decoder_depth.2",
    ] and not any(folded.values())
    assert trials["columnOrder"] == list(trials["columnWidths"]) == trials["selectedColumns"]
    kinds = [[chart["type"] for chart in view["compareRunCharts"]] for view in saved.values()]
    assert kinds == [["SCATTER", "SCATTER", "LINE", "IMAGE"], ["BAR", "LINE"], ["LINE", "IMAGE"]]
    assert max(map(len, mlflow.experiment_tags.values())) < 20_000


def test_seeds_of_a_level_share_its_colour(planned):
    plan = planned(PRETRAIN_STUDY.replace("[0.5, 0.75]", "[0.75, 0.5, 0.25]"))
    found = choose_colours(plan)
    by_level = [{found[t.result_id] for t in row.trials.values()} for row in plan.rows]
    assert by_level == [{"#c2df23"}, {"#21918c"}, {"#440154"}]  # by value, not by place
    named = planned(NAMED)
    assert set(choose_colours(named).values()) == {*OKABE_ITO[:2], *GREYS[:2]}


def test_a_study_that_grew_is_coloured_anew(planned):
    mlflow, plan = FakeMlflow(), planned(PRETRAIN_STUDY)
    for trial in plan.trials:
        train(plan, trial, 1, finish=True)
    Experiment(mlflow, plan).look()
    grown = planned(PRETRAIN_STUDY.replace("[0.5, 0.75]", "[0.5, 0.75, 0.9]"))
    for _ in range(2):
        mlflow.calls.clear()
        Experiment(mlflow, grown).look()
    assert "set_tag" not in mlflow.calls
    shown = {name: run.data.tags["mlflow.runColor"] for name, run in mlflow.active().items()}
    assert shown == {"0.5 · s0": "#440154", "0.5 · s1": "#440154"} | {
        "0.75 · s0": "#21918c",
        "0.75 · s1": "#21918c",
    }


def test_the_note_says_first_what_is_done(planned, tmp_path):
    plan = planned(PRETRAIN_STUDY)
    for trial, loss in zip(plan.cells[:3], (0.5, 0.6, 0.25), strict=False):
        train(plan, trial, 1, finish=True, train_loss=loss)
    write_report(plan, tmp_path / "x")
    first, *rest = write_note(tmp_path / "x").splitlines()
    assert first.startswith("**2 seeds decide nothing; for 3 seeds: python -m platform.run ")
    assert first.endswith(" --seeds 3 – 3/4 results**")
    assert any(line.startswith("| 0.5&emsp; |") for line in rest)
    assert not any(line.startswith(("![", "# ")) for line in rest)


def test_one_report_run_above_the_trials(planned, tmp_path):
    mlflow, plan = FakeMlflow(), planned(PRETRAIN_STUDY)
    (tmp_path / "parts").mkdir()
    for name in ("table.md", "table.tex", "index.html", "parts/a.png"):
        (tmp_path / name).write_text(name)
    files = [tmp_path / n for n in ("table.md", "table.tex", "index.html", "parts/a.png")]

    def report():
        Experiment(mlflow, plan).look()
        show_report(mlflow, "1", "x", files, "**Best**\n\n| a |")
        (run,) = [
            r for r in mlflow.runs.values() if r.data.tags["kind"] == "report" and not r.deleted
        ]
        return run

    train(plan, plan.trials[0], 1, finish=True)
    first = report()
    assert report() is first
    train(plan, plan.trials[1], 1, finish=True)
    second = report()
    assert first.deleted and list(mlflow.runs.values())[-1] is second
    logged = {path for run_id, path in mlflow.files if run_id == second.info.run_id}
    names = {"table.md", "table.tex", "table.txt", "index.html", "parts/a.png"}
    assert logged == {f"report/{name}" for name in names}
    link = f"#/experiments/1/runs/{second.info.run_id}/artifacts/report/index.html"
    link = f"[The whole report]({link}?workflowType=machine_learning)"
    assert second.data.tags[NOTE] == f"**Best**\n\n{link}"
    assert mlflow.experiment_tags[NOTE] == f"**Best**\n\n{link}\n\n| a |"


def test_a_long_note_ends_with_a_whole_line():
    text = cut_note("| a row |\n" * 5000)
    assert len(text) <= NOTE_LIMIT and text.endswith(
        "| a row |\n\nCut here; the rest is in the run REPORT."
    )


def test_where_mlflow_lies(tmp_path, monkeypatch):
    assert (server_uri(), database_file(tmp_path)) == (None, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/lab/other.db")
    assert (server_uri(), database_file(tmp_path)) == (None, tmp_path / "lab" / "other.db")
    assert runs_url("3").startswith("http://127.0.0.1:5000/#/experiments/3/runs?")
    made = []
    monkeypatch.setattr(LocalClient, "__init__", lambda client, file: made.append(file))
    assert isinstance(open_client(tmp_path), LocalClient), "one driver writes, the others wait"
    assert made == [tmp_path / "lab" / "other.db"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://lab:5000/")
    assert server_uri() == "http://lab:5000"
    assert runs_url("3").startswith("http://lab:5000/#/experiments/3/runs?")
