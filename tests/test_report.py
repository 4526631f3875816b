"""Tables: exact numbers, honest about what is missing."""

import pandas as pd
import pytest
from toys import give_accuracies, session_of

from mae_ablation.api import plan_study
from mae_ablation.cli import main
from mae_ablation.errors import UserError
from mae_ablation.launch.here import record_failures
from mae_ablation.report.figure import choose_named_levels, draw_panel, level_positions
from mae_ablation.report.outcome import conclude
from mae_ablation.report.overviews import write_index
from mae_ablation.report.report import write_report
from mae_ablation.report.results import results_frame
from mae_ablation.report.table import table_frame
from mae_ablation.store.files import LocalFiles

STUDY = """\
title: Masking ratio
paper: figure_5
recipe: toy
factors:
  mask_ratio: [0.5, 0.75, 0.9]
seeds: 3
"""
ACCURACY = {  # by level and seed
    "0.5": [80.0, 81.0, 85.0],
    "0.75": [79.0, 81.5, 83.0],
    "0.9": [70.0, None, 72.0],
    "random encoder": [60.0, 60.0, 60.0],
    "raw pixels": [65.0, 65.0, 65.0],
}


RESULT = {"test_acc1": 80.0, "validation_acc1": 80.0}
RESULT |= {"train_loss": 0.5, "seconds": 1.0, "commit": "abc"}


@pytest.fixture
def plan(write_study, tmp_path):
    plan = plan_study(write_study(STUDY), store=tmp_path / "store")
    give_accuracies(plan, ACCURACY)
    return plan


def test_means_spreads_and_paired_differences(plan):
    table = table_frame(plan, results_frame(plan)).set_index("level")
    half = table.loc["0.5"]
    assert half["mean"] == pytest.approx(82.0) and half["sd"] == pytest.approx(7**0.5)
    assert half["difference"] == pytest.approx((1.0 - 0.5 + 2.0) / 3)
    assert half["difference_sd"] == pytest.approx(pd.Series([1.0, -0.5, 2.0]).std())
    assert half["paper"] == 69.9 and half["paper_difference"] == -3.6
    assert table.loc["0.75", "kind"] == "baseline" and pd.isna(table.loc["0.75", "difference"])
    assert table.loc["raw pixels", "difference"] == pytest.approx(65 - 81.1666, abs=1e-3)


def test_missing_seeds_are_said_and_pairs_use_common_seeds_only(plan):
    line = table_frame(plan, results_frame(plan)).set_index("level").loc["0.9"]
    assert (line["seeds"], line["seeds_asked"], line["failed"]) == (2, 3, 1)
    assert line["note"] == "2 of 3 seeds, 1 failed"
    assert line["difference"] == pytest.approx((70 - 79 + 72 - 83) / 2)


def test_the_report_names_its_data_recipe_epochs_seeds_and_commit(plan, tmp_path):
    files = write_report(plan, tmp_path / "reports" / "x")
    assert [f.name for f in files] == [
        "table.md",
        "table.csv",
        "trials.csv",
        "table.tex",
        "figure.png",
        "figure.svg",
        "figure.pdf",
        "index.html",
        "report.json",
    ]
    page = files[0].read_text()
    for words in ("fashion_mnist (30 px)", "recipe toy", "2 pre-training epochs", "seeds 0, 1, 2"):
        assert words in page
    assert "commit abc" in page and "2 of 3 seeds, 1 failed" in page
    assert (
        "| **0.75** | 9 | 1.00x | 81.17 | 2.02 | 3/3 | – | – | – | 73.5 | – |  | baseline |" in page
    )
    half = (
        "+0.83 ± 1.26 | [-2.29, +3.96] | 0.740 | 69.9 | -3.6 | inconclusive (about 25 seeds) |  |"
    )
    assert f"| 0.5 | 18 | 1.40x | 82.00 | 2.65 | 3/3 | {half}" in page
    assert "of 2 differences to the baseline: 1 inconclusive, 1 incomplete." in page
    assert pd.read_csv(files[2])["reason"].dropna().tolist() == ["pretrain: Diverged: loss is nan"]
    assert files[4].stat().st_size > 10_000


def test_a_trial_whose_worker_died_is_failed_not_missing(write_study, tmp_path):
    plan = plan_study(write_study(STUDY), store=tmp_path / "store")
    trial = plan.trials[0]
    record_failures(plan.missing(), {0: "its worker died 3 times"}, plan.store)
    results = results_frame(plan).set_index("trial_id")
    assert results.loc[trial.result_id[-1], "status"] == "failed"
    assert results.loc[trial.result_id[-1], "reason"] == "its worker died 3 times"
    assert (results["status"] == "failed").sum() == 1


def test_nothing_finished_is_a_table_too(write_study, tmp_path):
    plan = plan_study(write_study(STUDY), store=tmp_path / "none")
    page = write_report(plan, tmp_path / "reports")[0].read_text()
    assert "| 0.5 | 18 | 1.40x | 0/3 | 69.9 | -3.6 | incomplete | 0 of 3 seeds |" in page


HOURS = """\
paper: table_2
recipe: toy
measure: hours
factors:
  how:
    with_dec8: {decoder_depth: 1}
    without_dec8: {decoder_depth: 2}
    without_dec1: {decoder_depth: 3}
phases: [pretrain]
"""


def give_hours(plan, seconds, **facts):
    """Fake pre-trainings that took seconds by level and seed."""
    for row in plan.rows:
        for seed, trial in row.trials.items():
            if (row.label, seed) in seconds:
                result = {"seconds": seconds[row.label, seed], "train_loss": 1.0, "commit": "abc"}
                machine = {"processor": "a CPU", "lanes": 1, "threads": 1}
                trial.phases[0].folder(plan.store).finish({**result, **machine, **facts})


def test_speed_ups_are_of_times_measured_alike(write_study, tmp_path):
    plan = plan_study(write_study(HOURS), store=tmp_path / "store")
    give_hours(plan, {("with_dec8", 0): 720, ("without_dec8", 0): 360})
    give_hours(plan, {("without_dec1", 0): 90}, lanes=2)
    table = table_frame(plan, results_frame(plan)).set_index("level")
    assert list(table["mean"]) == pytest.approx([0.2, 0.1, 0.025])
    assert table.loc["without_dec8", "speedup"] == 2
    assert pd.isna(table.loc["without_dec1", "speedup"])
    assert table.loc["without_dec1", "paper_speedup"] == pytest.approx(42.4 / 11.6)
    page = write_report(plan, tmp_path / "reports")[0].read_text()
    assert "Measured under different conditions, so speed-ups are left out" in page
    assert "without_dec1: a CPU; lanes x threads: 2 x 1." in page


def test_a_speed_up_is_over_the_seeds_that_both_have(write_study, tmp_path):
    plan = plan_study(write_study(HOURS + "seeds: 2\n"), store=tmp_path / "store")
    give_hours(plan, {("with_dec8", 0): 400, ("with_dec8", 1): 4000, ("without_dec8", 0): 200})
    table = table_frame(plan, results_frame(plan)).set_index("level")
    assert table.loc["without_dec8", "speedup"] == 2
    assert pd.isna(table.loc["without_dec1", "speedup"])


def test_speed_ups_are_not_between_numbers_of_workers(write_study, tmp_path):
    plan = plan_study(write_study(HOURS), store=tmp_path / "store")
    give_hours(plan, {("with_dec8", 0): 9})  # older results do not say how many
    give_hours(plan, {("without_dec8", 0): 9}, workers=1)
    give_hours(plan, {("without_dec1", 0): 9}, workers=2)
    table = table_frame(plan, results_frame(plan)).set_index("level")
    assert table.loc["without_dec8", "speedup"] == 1
    assert pd.isna(table.loc["without_dec1", "speedup"])
    page = write_report(plan, tmp_path / "reports")[0].read_text()
    assert "without_dec1: a CPU; lanes x workers x threads: 1 x 2 x 1." in page


def test_the_row_from_scratch_names_its_own_settings(write_study, tmp_path):
    study = "recipe: toy\nfactors:\n  mask_ratio: [0.75]\nphases: [finetune, scratch]\n"
    plan = plan_study(write_study(study), store=tmp_path / "store")
    page = write_report(plan, tmp_path / "reports")[0].read_text()
    assert "| from scratch |" in page
    assert "*from scratch*: no pre-training (200 epochs, layer decay 1, drop path 0.2" in page


def test_attempts_are_counted_once_per_training(plan, tmp_path):
    for trial in plan.rows[0].trials.values():
        folder = trial.phases[0].folder(plan.store)
        folder.finish({**folder.result(), "attempts": 1 + trial.seed})
    page = write_report(plan, tmp_path / "reports")[0].read_text()
    assert "2 trainings needed more than one attempt." in page


def test_a_report_that_cannot_be_written_is_one_line(plan, tmp_path):
    (tmp_path / "reports").write_text("a file")
    with pytest.raises(UserError, match=r"reports/x: report not written: .*Not a directory"):
        write_report(plan, tmp_path / "reports" / "x")


def test_a_store_that_cannot_be_read_is_one_line(plan, tmp_path, monkeypatch):
    def gone(files, name):
        raise OSError(116, "Stale file handle", name)

    monkeypatch.setattr(LocalFiles, "read", gone)
    with pytest.raises(UserError, match="report not written: .*Stale file handle"):
        write_report(plan, tmp_path / "reports")


def test_a_figure_names_the_levels_that_it_cannot_draw(write_study, tmp_path):
    import matplotlib.pyplot as plt

    plan = plan_study(write_study(STUDY), store=tmp_path / "store")
    for trial in plan.rows[1].trials.values():
        for phase in trial.phases:
            phase.folder(plan.store).finish(RESULT)
    results = results_frame(plan)
    table, metric = table_frame(plan, results), "linear_probe_acc1"
    figure, axis = plt.subplots()
    draw_panel(plan.study.factors[0], metric, axis, table, results)
    assert axis.get_xlabel() == "mask ratio\nwithout a result, so not drawn: 0.5, 0.9"
    plt.close(figure)


def test_the_name_of_a_reference_hides_no_mean(write_study, tmp_path):
    """The line lies among the levels: there is room for its name beneath it and on its right."""
    import matplotlib.pyplot as plt

    plan = plan_study(write_study(STUDY), store=tmp_path / "store")
    give_accuracies(plan, {"0.5": [80.3], "0.75": [80.4], "0.9": [78.0], "random encoder": [80.0],
                           "raw pixels": [76.0]})  # fmt: skip
    results = results_frame(plan)
    figure, axis = plt.subplots()
    draw_panel(
        plan.study.factors[0], "linear_probe_acc1", axis, table_frame(plan, results), results
    )
    renderer, means = figure.canvas.get_renderer(), axis.containers[0].lines[0]
    for text in axis.texts:
        box = text.get_window_extent(renderer)
        covered = box.count_contains(axis.transData.transform(means.get_xydata()))
        assert not covered and text.zorder < means.zorder, text
    plt.close(figure)


def test_the_index_names_the_reports_that_it_cannot_read(tmp_path):
    for name, text in (("cut short", '{"kind": "stu'), ("of another tool", "[1]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(text)
    text = write_index(tmp_path).read_text()
    assert "Not listed, since report.json there is damaged: cut short, of another tool." in text


def test_a_figure_says_which_of_many_named_levels_it_shows(write_study, tmp_path):
    levels = "".join(f"    lr{i}: {{pretrain.base_lr: {i + 1}.0e-5}}\n" for i in range(40))
    study = f"recipe: toy\nbaseline: {{pretrain.base_lr: 2.0e-4}}\nfactors:\n  lr:\n{levels}"
    plan = plan_study(write_study(study), store=tmp_path / "store")
    x = level_positions(plan.study.factors[0])
    rows = pd.DataFrame({"level": list(x), "mean": range(40), "kind": "level"})
    rows.loc[20, "kind"] = "baseline"
    shown, told = choose_named_levels(x, rows)
    assert list(shown) == [f"lr{i}" for i in (*range(15), 20, *range(25, 40))]
    assert told == "\n31 of 40 levels: highest and lowest means, baseline; all: table.md"


class Told:
    """A tracker that is told of the reports."""

    trouble = None

    def finish(self):
        pass

    def links(self, experiment):
        return {}

    def close(self, files, notes):
        self.files = files

    def experiment_ids(self):
        return []


def test_a_run_ends_well_without_its_report(plan, tmp_path, capsys):
    (tmp_path / "reports").write_text("a file")
    tracker = Told()
    session = session_of(plan.study.path, store=plan.store.root, reports=tmp_path / "reports")
    left = conclude(session, tracker, 0.0)
    said = capsys.readouterr().out
    assert left == 1 and tracker.files == {}
    assert "reports/x: report not written: [Errno 20] Not a directory" in said
    assert "14 of 15 trials finished" in said and "report: " not in said.splitlines()[-1]


def test_the_paper_s_flops_ratio_stands_beside_ours_counted_its_way(write_study, tmp_path):
    study = (
        "paper: table_1c\nrecipe: toy\nbaseline: {encoder_mask_tokens: false}\nfactors:\n"
        "  encoder_mask_tokens:\n    with: {encoder_mask_tokens: true}\n"
        "    without: {encoder_mask_tokens: false}\n"
    )
    plan = plan_study(write_study(study), store=tmp_path / "none")
    page = write_report(plan, tmp_path / "reports")[0].read_text()
    assert "paper: 3.3x the FLOPs, 2.19x here if counted its way" in page


# what is good is never replaced by what is emptier ------------------------------------------------


def contents_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_report_of_nothing_is_not_written_and_says_what_to_type(
    write_study, tmp_path, monkeypatch, capsys
):
    write_study(STUDY)
    monkeypatch.chdir(tmp_path)
    assert main(["report", "studies/x.yaml"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err == (
        "x: 0 of 15 results are there; the rest comes with: mae-ablation run studies/x.yaml "
        "--recipe toy --seeds 3\n"
    )
    assert not (tmp_path / "reports" / "x").exists()


def test_a_report_that_lacks_seeds_is_written_and_is_not_all_done(plan, tmp_path, capsys):
    words = ["report", str(plan.study.path), "--store", str(plan.store.root)]
    assert main([*words, "--reports", str(tmp_path / "reports")]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("x: 14 of 15 results are there; the rest comes with: ")
    assert (tmp_path / "reports" / "x" / "table.md").is_file() and "table.md" in said.out


def test_a_good_table_stays_where_another_store_has_less(plan, tmp_path, capsys):
    give_accuracies(plan, {label: [70.0, 71.0, 72.5] for label in ACCURACY})
    write_report(plan, tmp_path / "reports" / "x")
    good = contents_of(tmp_path / "reports" / "x")
    other = plan_study(plan.study.path, store=tmp_path / "other")
    give_accuracies(other, {label: [70.0] for label in ACCURACY})
    words = ["report", str(plan.study.path), "--store", str(tmp_path / "other")]
    assert main([*words, "--reports", str(tmp_path / "reports")]) == 1
    assert (
        "reports/x: kept: it shows 15 results, and of this study only 5 of 15 are finished; "
        "--reports DIR writes elsewhere\n"
    ) in capsys.readouterr().err
    assert contents_of(tmp_path / "reports" / "x") == good


def test_a_complete_table_of_fewer_seeds_is_what_was_asked_for(plan, tmp_path):
    give_accuracies(plan, {label: [70.0, 71.0, 72.5] for label in ACCURACY})
    write_report(plan, tmp_path / "x")
    write_report(plan_study(plan.study.path, store=plan.store.root, seeds=1), tmp_path / "x")
    assert "seeds 0, commit" in (tmp_path / "x" / "table.md").read_text()


def test_a_run_that_ends_with_less_leaves_the_good_table(plan, tmp_path, capsys):
    give_accuracies(plan, {label: [70.0, 71.0, 72.5] for label in ACCURACY})
    write_report(plan, tmp_path / "reports" / "x")
    good, tracker = contents_of(tmp_path / "reports" / "x"), Told()
    where = {"store": tmp_path / "other", "reports": tmp_path / "reports"}
    other = session_of(plan.study.path, **where)
    give_accuracies(other.plans[0], {label: [70.0, None, None] for label in ACCURACY})
    assert conclude(other, tracker, 0.0) == 10
    assert "reports/x: kept: it shows 15 results" in capsys.readouterr().out
    assert contents_of(tmp_path / "reports" / "x") == good and tracker.files == {}
