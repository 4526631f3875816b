"""The MLflow UI opens with a saved view, colours by level, the note and the run REPORT."""

import base64
import json
import zlib
from importlib.metadata import files, version

from conftest import ROOT
from fake_mlflow import FakeMlflow
from toys import PRETRAIN_STUDY, train

from mae_ablation.report.markdown import write_note
from mae_ablation.report.report import write_report
from mae_ablation.tracking.address import database_file, runs_url, server_uri
from mae_ablation.tracking.client import LocalClient, open_client
from mae_ablation.tracking.description import GREYS, OKABE_ITO, choose_colours
from mae_ablation.tracking.experiment import Experiment
from mae_ablation.tracking.report_run import NOTE, NOTE_LIMIT, cut_note, show_report
from mae_ablation.tracking.views import CHECKED_UI, VIEW

TWO_FACTORS = PRETRAIN_STUDY.replace("phases", "  decoder_depth: [1, 2]\nphases")
NAMED = """\
recipe: toy
factors:
  sampling:
    random: {}
    grid: {mask_sampling: grid}
phases: [pretrain, linear_probe]
"""


def view_of(plan):
    """The view that is saved of a study."""
    mlflow = FakeMlflow()
    Experiment(mlflow, plan).look()
    view = json.loads(mlflow.experiment_tags[VIEW])
    assert view["name"] == "Trials" and len(mlflow.experiment_tags[VIEW]) < 20_000
    return json.loads(zlib.decompress(base64.b64decode(view["state"].removeprefix("deflate;"))))


def test_the_ui_opens_with_levels_results_and_charts(planned):
    view = view_of(planned(TWO_FACTORS))
    params = ["params.`mask_ratio`", "params.`decoder_depth`", "params.`seed`"]
    assert view["selectedColumns"][:4] == [*params, "metrics.`pretrain_loss`"]
    assert view["columnOrder"] == list(view["columnWidths"]) == view["selectedColumns"]
    kinds = [chart["type"] for chart in view["compareRunCharts"]]
    assert kinds == ["SCATTER", "SCATTER", "LINE", "IMAGE"]


def test_the_ui_that_is_installed_knows_every_word_of_a_view(planned):
    scripts = [str(f.locate()) for f in files("mlflow") if f.match("server/js/build/static/js/*")]
    ui = "".join(open(path, encoding="utf-8").read() for path in scripts)  # noqa: SIM115

    def words(part):
        if isinstance(part, dict):
            for key, inside in part.items():
                yield key
                yield from () if key == "columnWidths" else words(inside)  # names of columns
        elif isinstance(part, list):
            yield from (word for each in part for word in words(each))

    missing = {word for word in words(view_of(planned(TWO_FACTORS))) if word not in ui}
    assert not missing and VIEW.rpartition(".")[0] in ui and "deflate;" in ui
    assert f"mlflow=={CHECKED_UI}" in (ROOT / "constraints.txt").read_text().split()
    assert version("mlflow") == CHECKED_UI, "look at a study's page in `mae-ablation ui`"


def test_seeds_of_a_level_share_its_colour(planned):
    plan = planned(PRETRAIN_STUDY.replace("[0.5, 0.75]", "[0.75, 0.5, 0.25]"))
    found = choose_colours(plan)
    by_level = [{found[t.result_id] for t in row.trials.values()} for row in plan.rows]
    assert by_level == [{"#bddf26"}, {"#25848e"}, {"#440154"}]  # by value, not by place
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
        "0.75 · s0": "#25848e",
        "0.75 · s1": "#25848e",
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


def test_one_run_has_the_newest_report(planned, tmp_path):
    mlflow, plan = FakeMlflow(), planned(PRETRAIN_STUDY)
    (tmp_path / "parts").mkdir()
    for name in ("table.md", "table.tex", "index.html", "parts/a.png"):
        (tmp_path / name).write_text(name)
    names = ["table.md", "table.tex", "index.html", "parts/a.png"]
    for trial in plan.trials[:2]:
        train(plan, trial, 1, finish=True)
        Experiment(mlflow, plan).look()
        show_report(mlflow, "1", "x", [tmp_path / name for name in names], "**Best**\n\n| a |")
    (run,) = [run for run in mlflow.runs.values() if run.data.tags["kind"] == "report"]
    logged = {path for run_id, path in mlflow.files if run_id == run.info.run_id}
    assert logged == {f"report/{name}" for name in names}
    link = f"#/experiments/1/runs/{run.info.run_id}/artifacts/report/index.html"
    link = f"[The whole report]({link}?workflowType=machine_learning)"
    assert run.data.tags[NOTE] == f"**Best**\n\n{link}" and run.info.status == "FINISHED"
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
