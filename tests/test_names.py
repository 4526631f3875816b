"""A user's names become folders, experiments and keys without getting lost or mixed up."""

import csv
import json

import pytest
from fake_mlflow import FakeMlflow
from toys import folder_of, session_of, train

from mae_ablation.api import plan_studies, plan_study
from mae_ablation.cli import main
from mae_ablation.errors import UserError
from mae_ablation.launch.here import require_own_reports
from mae_ablation.report.report import write_report
from mae_ablation.study.names import MOST_NAME_BYTES, cut, file_name, job_name, tracking_keys
from mae_ablation.tracking.experiment import STUDY_FILE, Experiment

STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\nphases: [pretrain]\n"


@pytest.fixture
def twins(write_study, tmp_path):
    """A/s.yaml and B/s.yaml, which ask different things."""
    for name, levels in (("A", "[0.5, 0.75]"), ("B", "[0.25, 0.75]")):
        write_study(STUDY.replace("[0.5, 0.75]", levels), name="s")
        (tmp_path / "studies").rename(tmp_path / name)
    return tmp_path / "A" / "s.yaml", tmp_path / "B" / "s.yaml"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("exp #1", "exp-1-"),
        ("../../etc", "etc-"),
        ("con", "_con-"),
        ("index.html", "_index.html-"),
        ("x" * 300, "x" * (MOST_NAME_BYTES - 9) + "-"),
        ("\udcff", "unnamed-"),
    ],
)
def test_another_name_is_made_safe_and_keeps_apart_from_others(text, safe):
    name = file_name(text)
    assert name.startswith(safe) and len(name) == len(safe) + 8
    assert len(name.encode()) <= MOST_NAME_BYTES
    assert file_name(text + "!") != name


def test_a_safe_name_is_kept_and_accents_are_one_however_they_are_composed():
    assert file_name("x-pretrain.epochs=20") == "x-pretrain.epochs=20"
    assert file_name("Gro\u0308ße") == file_name("Größe") == "Größe"


def test_keys_in_mlflow():
    keys = tracking_keys(["mask_ratio", "recipe", "masking (%)", "masking [%]"], ["seed", "recipe"])
    assert keys["mask_ratio"] == "mask_ratio"
    assert keys["recipe"].startswith("recipe-") and len(keys["recipe"]) == len("recipe-") + 8
    assert keys["masking (%)"].startswith("masking _-")
    assert len(set(keys.values())) == 4
    one, two = tracking_keys(["Ratio", "ratio"]).values()
    assert one.startswith("Ratio-") and two.startswith("ratio-")
    assert tracking_keys(["ratio", "Ratio"]) == {"Ratio": one, "ratio": two}
    assert len(tracking_keys(["x" * 300])["x" * 300]) == 200


def test_other_lengths():
    assert cut("short", 9) == "short" and len(cut("l" * 99, 50)) == 50
    assert job_name("v1.2 ä") != job_name("v1-2 ä") and job_name("v1.2 ä").isascii()


def test_two_studies_of_one_name_are_refused_at_once(twins, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("run", "plan", "report"):
        assert main([command, "A/s.yaml", "B/s.yaml"]) == 2
        said = "B/s.yaml: its report and its experiment would be called s, and those of A/s.yaml "
        assert capsys.readouterr().err == said + "the same; rename one of the files\n"
    assert not (tmp_path / "store").exists() and not (tmp_path / "reports").exists()
    (tmp_path / "A" / "s.yaml").rename(tmp_path / "A" / "S.yaml")
    assert main(["plan", "A/S.yaml", "B/s.yaml"]) == 2
    assert "and those of A/S.yaml S: only the case differs; rename" in capsys.readouterr().err


def test_a_study_named_twice_is_one_study(twins, tmp_path):
    one, other = twins
    detour = tmp_path / "B" / ".." / "A" / "s.yaml"
    assert len(plan_studies([one, detour], store=tmp_path / "store")) == 1
    both = tmp_path / "A" / "both.yaml"
    both.write_text("studies: [s]\n")
    assert len(plan_studies([detour, both], store=tmp_path / "store")) == 1
    both.rename(tmp_path / "A" / "again.yaml")
    (tmp_path / "B" / "again.yaml").write_text(other.read_text())
    with pytest.raises(UserError, match="would be called again"):
        plan_studies([tmp_path / "B" / "again.yaml", tmp_path / "A" / "again.yaml"], store="store")


def test_a_report_is_not_replaced_by_another_study_s(twins, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = (plan_study(path, store=tmp_path / "store") for path in twins)
    for plan in (one, other):
        for trial in plan.trials:
            train(plan, trial, 2, finish=True)
    folder = tmp_path / "reports" / "s"
    write_report(one, folder)
    kept = (folder / "table.md").read_text()
    assert json.loads((folder / "report.json").read_text())["study_file"] == "../../A/s.yaml"
    assert main(["report", "B/s.yaml"]) == 2
    assert main(["run", "B/s.yaml", "--local"]) == 2
    said = (
        f"reports/s: this is the report of {tmp_path}/A/s.yaml, which is another study than "
        "B/s.yaml: rename one of the files, or write elsewhere with --reports OTHER\n"
    )
    assert capsys.readouterr().err == said * 2
    assert (folder / "table.md").read_text() == kept
    assert main(["report", "B/s.yaml", "--reports", "others"]) == 0
    twins[1].write_text(twins[0].read_text())  # a copy: the same question
    require_own_reports(session_of(twins[1], reports=tmp_path / "reports"))
    twins[1].write_text(STUDY.replace("0.5", "0.6"))
    twins[0].unlink()  # it has moved
    require_own_reports(session_of(twins[1], reports=tmp_path / "reports"))


def test_a_file_in_the_way_of_a_report(twins, tmp_path):
    (tmp_path / "s").write_text("")
    with pytest.raises(UserError, match="in the way of the report of .*--reports OTHER"):
        require_own_reports(session_of(twins[0], reports=tmp_path))


def test_an_experiment_keeps_the_report_of_the_study_it_is_of(twins, tmp_path):
    one, other = (plan_study(path, store=tmp_path / "store") for path in twins)
    mlflow = FakeMlflow()
    for plan in (one, other):
        for trial in plan.trials:
            train(plan, trial, 2, finish=True)
    experiment = Experiment(mlflow, one)
    experiment.look()
    experiment.log_report([], "what A found")
    views = dict(mlflow.experiment_tags)
    assert views[STUDY_FILE] == str(twins[0])
    guest = Experiment(mlflow, other)
    guest.look()
    guest.log_report([], "what B found")
    assert mlflow.experiment_tags == views and "what A found" in str(views)
    assert guest.trouble == (
        f"the report and note of experiment s are those of {twins[0]} and stay"
    )
    assert guest.remedy == "rename one of the two study files"
    assert sorted(mlflow.active()) == ["0.25 · s0", "0.5 · s0", "0.75 · s0"]


def test_a_long_command_has_a_short_folder(write_study, tmp_path):
    changes = [f"linear_probe.base_lr=0.{i}" for i in range(1, 30)]
    plan = plan_study(write_study(STUDY), store=tmp_path, changes=changes)
    other = plan_study(
        write_study(STUDY), store=tmp_path, changes=[*changes, "linear_probe.epochs=3"]
    )
    assert len(plan.study.experiment) == MOST_NAME_BYTES
    assert plan.study.experiment[:100] == other.study.experiment[:100]
    assert plan.study.experiment != other.study.experiment
    folders = [
        plan_study(write_study(STUDY), store=tmp_path, changes=[f"data.folder=/{name}"])
        for name in ("a/b", "a-b")
    ]
    assert len({plan.study.experiment for plan in folders}) == 2


@pytest.mark.parametrize("name", ['"two\\nlines"', '"\\0"', '"\\u2028"'])
def test_a_name_that_no_table_shows_is_refused(write_study, tmp_path, name):
    for study in (
        f"recipe: toy\nfactors:\n  {name}:\n    a: {{mask_ratio: 0.5}}\n",
        f"recipe: toy\nfactors:\n  f:\n    {name}: {{mask_ratio: 0.5}}\n",
    ):
        with pytest.raises(UserError, match=r"x\.yaml:[34]: .*no table shows"):
            plan_study(write_study(study), store=tmp_path)


def test_a_study_whose_file_has_a_line_break_in_its_name(write_study, tmp_path):
    path = write_study(STUDY).rename(tmp_path / "studies" / "two\nlines.yaml")
    with pytest.raises(UserError, match="rename it"):
        plan_study(path, store=tmp_path)


def test_a_renamed_key_is_said_in_the_plan_and_in_the_run(write_study, tmp_path, capsys):
    study = (
        "recipe: toy\nfactors:\n  masking (%):\n    half: {mask_ratio: 0.5}\nphases: [pretrain]\n"
    )
    path = write_study(study)
    assert main(["plan", str(path), "--store", str(tmp_path / "store")]) == 0
    plan = plan_study(path, store=tmp_path / "store")
    key = plan.study.tracking_keys["masking (%)"]
    assert f'note: MLflow has it as "{key}"' in capsys.readouterr().out
    for trial in plan.trials:
        train(plan, trial, 2, finish=True)
    mlflow = FakeMlflow()
    Experiment(mlflow, plan).look()
    run = mlflow.active()["half · s0"]
    assert run.data.params[key] == "half" and run.data.tags[f"factor.{key}"] == "masking (%)"
    assert folder_of(plan, plan.trials[0]).result()["train_loss"] == 0.5


def test_odd_names_go_through_every_file_of_a_report(write_study, tmp_path, monkeypatch):
    """Page, tables and figures take names with the signs of HTML, Markdown, TeX and mathematics."""
    names = ["$x_1$ <i>|*a*|", "_", "100 % & #1 \\frac{", "\"q\" 's' `b`"]
    lines = [f"    {json.dumps(name)}: {{mask_ratio: 0.{i + 2}}}" for i, name in enumerate(names)]
    text = ["recipe: toy", "phases: [pretrain]", "factors:", '  "$f$ | <b>":', *lines]
    monkeypatch.chdir(tmp_path)
    path = write_study("\n".join(text) + "\n")
    path = path.rename(path.with_name("exp #1 <b>100%.yaml"))
    plan = plan_study(path, store="store")
    for i, trial in enumerate(plan.trials):
        train(plan, trial, 2, finish=True, train_loss=0.5 + i)
    assert main(["report", str(path)]) == 0
    folder = tmp_path / "reports" / plan.study.experiment
    assert folder.name.startswith("exp-1-b-100-")
    trials = list(csv.DictReader((folder / "trials.csv").open(encoding="utf-8")))
    assert {trial["level"] for trial in trials} >= set(names)
    page = (folder / "index.html").read_text()
    assert "<i>" not in page and "exp #1 &lt;b&gt;100%" in page
