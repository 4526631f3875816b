"""A sentence on a page is a claim: for each there is a table for which it would be false, and there
it is not said."""

import json

import pandas as pd
import pytest
from conftest import TOY_RECIPE
from toys import give_accuracies, tabulate

from mae_ablation.api import plan_study
from mae_ablation.errors import UserError
from mae_ablation.report.document import ReportDocument
from mae_ablation.report.findings import list_detectable, list_findings
from mae_ablation.report.headline import write_preamble
from mae_ablation.report.markdown import markdown_page, markdown_table, write_note
from mae_ablation.report.method import (
    caption_figure,
    describe_data,
    explain_columns,
)
from mae_ablation.report.overviews import Member, show_card, suite_headline
from mae_ablation.report.report import write_report
from mae_ablation.report.results import results_frame
from mae_ablation.report.table import describe_outliers, table_frame
from mae_ablation.study.declared import declare_plan

pytestmark = pytest.mark.usefixtures("without_figures")
PROBE = "linear_probe_acc1"
SCHEDULE = """\
paper: figure_7
recipe: toy
baseline: {pretrain.epochs: 800, pretrain.warmup_epochs: 0}
factors:
  pretrain.epochs: [100, 200, 400, 800, 1600]
seeds: 3
"""
DIP = {  # as the first edition's tables were: all four differences have the paper's sign
    "100": [74.4, 74.5, 74.6],
    "200": [74.3, 74.4, 74.5],
    "400": [72.5, 72.6, 72.7],
    "800": [76.9, 77.0, 77.2],
    "1600": [80.0, 80.2, 80.3],
    "random encoder": [74.6, 74.7, 74.8],
    "raw pixels": [83.0, 83.1, 83.2],
}
RISE = {**DIP, "100": [70.0, 70.1, 70.2], "200": [71.0, 71.1, 71.2], "400": [74.8, 74.9, 75.0]}
RATIO = """\
paper: figure_5
recipe: toy
factors:
  mask_ratio: [0.5, 0.75, 0.9]
seeds: 3
"""
CLEAR = {
    "0.5": [78.0, 78.1, 78.3],
    "0.75": [80.0, 80.2, 80.1],
    "0.9": [75.0, 75.3, 75.1],
    "random encoder": [60.0, 60.1, 60.2],
    "raw pixels": [65.0, 65.1, 65.2],
}


@pytest.fixture
def made(write_study, tmp_path):
    """Plan, table and results of a study whose rows have the given accuracies."""

    def make(accuracy, study=RATIO, **asked):
        return tabulate(write_study(study), tmp_path / "store", accuracy, **asked)

    return make


def above(plan, table, results):
    return ReportDocument(plan, table, results).sections[0].headline


def below(plan, table, results):
    about = (plan, PROBE, results, table)
    return " ".join([*list_findings(*about), *list_detectable(*about)])


# a trend ------------------------------------------------------------------------------------------


def test_four_of_four_reproduced_is_not_left_alone_where_a_neighbour_goes_the_other_way(made):
    text = above(*made(DIP, SCHEDULE))
    assert "of 4 differences to the baseline: 4 reproduced; directions are compared" in text
    assert (
        "But 2 of 4 steps between neighbouring levels go the other way than the paper's (100 to "
        "200 -0.10, there +7.1; 200 to 400 -1.80, there +5.3)."
    ) in text


def test_a_rise_like_the_papers_has_no_but(made):
    found = made(RISE, SCHEDULE)
    assert "4 reproduced" in above(*found) and "But" not in above(*found)
    assert (
        "100 to 200 +1.00 (p 0.500, paper +7.1); 200 to 400 +3.80 (p 0.500, paper +5.3)"
        in below(*found)
    )


def test_a_step_within_the_papers_noise_goes_no_other_way(made):
    """Between 0.7 and 0.75 the paper's probe rises by 0.3, less than its own noise."""
    study = RATIO.replace("[0.5, 0.75, 0.9]", "[0.5, 0.7, 0.75, 0.9]")
    text = above(*made({**CLEAR, "0.7": [80.5, 80.6, 80.8]}, study))
    assert "reproduced" in text and "But" not in text


def test_levels_on_both_sides_of_one_that_lacks_a_seed_are_no_neighbours(made):
    text = below(*made({**RISE, "200": [71.0, None, 71.2]}, SCHEDULE))
    assert "paired by seed, with Holm's p over 2 tests: 400 to 800 +2.13" in text
    assert "100 to 400" not in text and "100 to 200" not in text


def test_named_levels_have_no_steps(made):
    study = RATIO.replace("figure_5", "table_1f")
    study = study.replace(
        "mask_ratio: [0.5, 0.75, 0.9]",
        "how: {a: {mask_ratio: 0.5}, b: {mask_ratio: 0.75}, c: {mask_ratio: 0.9}}",
    )
    names = dict(zip("abc", (CLEAR["0.5"], CLEAR["0.75"], CLEAR["0.9"]), strict=True))
    found = made({**CLEAR, **names, "baseline": CLEAR["0.75"]}, study)
    assert "neighbouring" not in above(*found) + below(*found)


# rows without pre-training ------------------------------------------------------------------------


def test_what_lies_below_a_reference_is_said(made):
    text = above(*made(DIP, SCHEDULE))
    assert "Below a random encoder (74.70): 100, 200, 400." in text
    assert "Below raw pixels (83.10): every level." in text


def test_nothing_is_said_of_references_that_all_levels_beat(made):
    assert "Below" not in above(*made(CLEAR))


def test_a_level_that_lacks_a_seed_is_not_set_below_a_reference(made):
    text = above(*made({**DIP, "400": [72.5, None, 72.7]}, SCHEDULE))
    assert "Below a random encoder (74.70): 100, 200." in text
    assert "Below raw pixels (83.10): 100, 200, 800, 1600." in text


def test_pixels_may_win_under_nearest_neighbours_too(made):
    plan, table, results = made(
        {**CLEAR, "raw pixels": [90.0] * 3}, RATIO + "phases: [pretrain, knn]\n"
    )
    assert "Below raw pixels (90.00): every level." in above(plan, table, results)


def test_references_say_how_many_values_their_classifier_sees(made):
    _, table, _ = made(CLEAR)
    lines = "\n".join(markdown_table(table))
    assert "| raw pixels, 900 values |" in lines and "| random encoder, 16 values |" in lines
    assert "| 0.5 |" in lines


# seeds that lie apart -----------------------------------------------------------------------------


def test_a_diverged_baseline_seed_is_named_and_takes_the_headline(made):
    found = made({**CLEAR, "0.75": [80.0, 10.0, 80.1]})
    text = above(*found)
    assert text == (
        "No headline: seeds lie apart (0.75: seed 1 (10.00) at chance). Every difference rests on "
        "the baseline."
    )
    assert below(*found) == ""
    table = found[1].set_index("level")
    assert table.loc["0.75", "note"] == "baseline; seed 1 (10.00) at chance"
    assert table.loc["0.5", "verdict"] == table.loc["0.9", "verdict"] == "not comparable"


def test_a_level_s_diverged_seed_takes_its_own_verdict_only(made):
    _, table, _ = found = made({**CLEAR, "0.9": [75.0, 40.0, 75.1]})
    verdicts = table.set_index("level")["verdict"]
    assert verdicts["0.9"] == "not comparable" and verdicts["0.5"] == "reproduced"
    assert "0.9: seed 1 (40.00) far off (the row's median is 75.00)" in above(*found)
    assert below(*found).startswith(
        "Left out of what follows, as a seed is missing or lies apart: 0.9."
    )


@pytest.mark.parametrize(
    "values",
    [
        [80.0, 80.1, 84.9],  # many deviations, but not five points
        [70.0, 75.0, 82.0],  # far, but so are the others
        [80.0, 20.0],  # two seeds have no median to lie apart from
        [80.0],
    ],
)
def test_noisy_seeds_do_not_lie_apart(made, values):
    plan, _, _ = made(CLEAR)
    assert describe_outliers(pd.Series(values), plan.data) == ""


def test_equal_seeds_and_one_that_broke(made):
    plan, _, _ = made(CLEAR)
    assert describe_outliers(pd.Series([80.0] * 4 + [74.0]), plan.data) == (
        "seed 4 (74.00) far off (the row's median is 80.00)"
    )


# means over other seeds ---------------------------------------------------------------------------


def test_the_highest_mean_is_not_that_of_a_level_with_fewer_seeds(made):
    text = below(*made({**CLEAR, "0.9": [None, None, 99.0]}))
    assert "Highest mean" not in text and "0.9" in text  # two levels with every seed are no order
    study = RATIO.replace("[0.5, 0.75, 0.9]", "[0.25, 0.5, 0.75, 0.9]")
    text = below(*made({**CLEAR, "0.25": [70.0] * 3, "0.9": [None, 99.0, 99.0]}, study))
    assert "Highest mean at 0.75 (in every seed)." in text
    assert "Rank correlation (Spearman) with the paper over 3 levels" in text or "0.25" in text


def test_no_seeds_are_promised_for_what_lies_within_the_probes_margin(made):
    """The paper's 70 % lies 0.3 below its 75 %: no number of seeds is to find that."""
    study = RATIO.replace("[0.5, 0.75, 0.9]", "[0.5, 0.7, 0.75, 0.9]")
    found = made({**CLEAR, "0.7": [80.5, 80.6, 80.8]}, study)
    assert "finding each with that power would take this many seeds: 0.5: 3, 0.9: 2." in below(
        *found
    )


# few seeds, added seeds ---------------------------------------------------------------------------


def test_one_seed_decides_nothing_and_says_what_to_type_in_the_first_line(made):
    plan, table, results = made(CLEAR, RATIO.replace("seeds: 3", "seeds: 1"))
    first = markdown_page(ReportDocument(plan, table, results)).splitlines()[2]
    assert first.startswith("**One seed decides nothing; for 3 seeds: python -m platform.run ")
    assert first.endswith("studies/x.yaml --recipe toy --seeds 3**")
    assert write_preamble(made(CLEAR)[0]) == ""


def test_a_short_recipe_says_so_first_and_where_more_is_shown(made, tmp_path):
    made(CLEAR)
    recipes = tmp_path / "studies" / "recipes"
    (recipes / "long.yaml").write_text(TOY_RECIPE)
    (recipes / "short.yaml").write_text(TOY_RECIPE + "more: long\n")
    said = write_preamble(
        plan_study(tmp_path / "studies" / "x.yaml", store=tmp_path / "store", recipe="short")
    )
    assert said.startswith("Recipe short trains for 2 epochs only, ")
    assert said.endswith("studies/x.yaml --recipe long --until-decided")
    assert (
        write_preamble(
            plan_study(tmp_path / "studies" / "x.yaml", store=tmp_path / "store", recipe="long")
        )
        == ""
    )


@pytest.mark.parametrize(
    ("study", "changes", "ending"),
    [
        (RATIO + "tune: {linear_probe.penalty: [1e-3, 1e-4]}\n", [], "--recipe long"),
        (RATIO.replace("seeds: 3", "seeds: [0, 2, 5]"), [], "--recipe long"),
        (RATIO, ["pretrain.epochs=800"], ""),
    ],
)
def test_what_shows_more_can_be_typed_and_is_not_said_of_a_longer_training(
    write_study, study, changes, ending
):
    path = write_study(study)
    (path.parent / "recipes" / "long.yaml").write_text(TOY_RECIPE)
    (path.parent / "recipes" / "short.yaml").write_text(TOY_RECIPE + "more: long\n")
    store = path.parent / "store"
    said = write_preamble(plan_study(path, store=store, recipe="short", changes=changes))
    assert said.endswith(ending) and bool(said) == bool(ending)


def test_a_recipe_file_from_elsewhere_means_the_recipe_beside_itself(write_study, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "long.yaml").write_text(TOY_RECIPE)
    (elsewhere / "short.yaml").write_text(TOY_RECIPE + "more: long\n")
    path, short = write_study(RATIO), str(elsewhere / "short.yaml")
    plan = plan_study(path, store=path.parent / "store", recipe=short)
    assert plan.study.more == str(elsewhere / "long.yaml")


def test_a_recipe_cannot_point_to_one_that_is_not_there(write_study):
    path = write_study(RATIO, TOY_RECIPE + "more: overnigth\n")
    (path.parent / "recipes" / "overnight.yaml").write_text(TOY_RECIPE)
    with pytest.raises(UserError, match='unknown recipe "overnigth".*overnight'):
        plan_study(path, store=path.parent / "store")


def test_seeds_added_after_results_make_a_report_descriptive(write_study, tmp_path):
    study, folder = write_study(RATIO), tmp_path / "reports" / "x"
    more = {level: [*values, *values[:2]] for level, values in CLEAR.items()}

    def report(seeds, accuracy=more):
        plan = plan_study(study, store=tmp_path / "store", seeds=seeds)
        declare_plan(plan)
        give_accuracies(plan, accuracy)
        write_report(plan, folder)
        about = json.loads((folder / "report.json").read_text())
        pages = [(folder / name).read_text() for name in ("table.md", "index.html", "table.tex")]
        return about, [("This table is descriptive only: " in text) for text in pages]

    about, said = report(3)
    assert about["descriptive"] == "" and not any(said)
    for _ in range(2):  # written again it stays so
        about, said = report(5)
        assert about["descriptive"] == (
            "This table is descriptive only: declared after 6 results: seeds were added "
            "after results had been seen (0, 1, 2 at first, then 3, 4)."
        )
        assert about["headline"].startswith(about["descriptive"]) and all(said)
        assert write_note(folder).startswith("**This table is descriptive only: ")
    about, said = report(3)
    assert about["descriptive"] == "" and not any(said)


# MLflow's note ------------------------------------------------------------------------------------


def test_the_note_s_first_line_is_the_report_s_headline_with_what_is_said_against_it(
    made, tmp_path
):
    plan, _, _ = made({**DIP, "1600": [80.0, None, 80.3]}, SCHEDULE)
    write_report(plan, tmp_path / "report")
    line = write_note(tmp_path / "report").splitlines()[0]
    assert "3 reproduced, 1 incomplete" in line and "But 2 of 3 steps between neighbouring" in line
    assert line.endswith("Below raw pixels (83.10): 100, 200, 400, 800. – 20/21 results**")


# tuned values -------------------------------------------------------------------------------------

TUNED = RATIO + "tune:\n  linear_probe.base_lr: {rates}\n"


@pytest.mark.parametrize(
    ("rates", "edge"),
    [("[0.1, 0.2, 0.4]", "base_lr 0.1 is the lowest tried"), ("[0.05, 0.1, 0.2]", "")],
)
def test_a_value_at_the_grid_s_edge_is_warned_of(made, rates, edge):
    """Of equals on validation the first is taken; here 0.1 is made the best."""
    plan, _, _ = made(CLEAR, TUNED.format(rates=rates))
    for row in (*plan.rows, *plan.references):
        for each in row.tries:
            for trial in each.trials.values():
                folder = trial.phases[-1].folder(plan.store)
                better = dict(each.values)["base_lr"] == 0.1
                folder.finish({**folder.result(), "validation_acc1": 90.0 if better else 80.0})
    from mae_ablation.report.summary import describe_study

    results = results_frame(plan)
    table = table_frame(plan, results)
    assert table["tuned"].str.contains("at the edge").all() == bool(edge)
    assert ("Tuned to the edge of what was tried" in below(plan, table, results)) == bool(edge)
    line = (
        f"note: linear_probe: {edge}, and was chosen for 0.5, 0.75, 0.9, random encoder, raw pixels"
    )
    assert (line in describe_study(plan)) == bool(edge) and (
        "is the " in describe_study(plan)
    ) == bool(edge)


# captions, explanations, suites -------------------------------------------------------------------


def test_captions_are_of_what_is_drawn(made):
    plan, table, _ = made(CLEAR)
    assert caption_figure(table) == (
        "Means over seeds with 95 % t intervals, every seed a dot; the paper's values on an axis "
        "of their own; dotted: the baseline; dash-dotted: rows without pre-training."
    )
    bare = table[table["kind"] == "level"].assign(paper=None, seeds=1)
    assert caption_figure(bare) == "One seed."


def test_explanations_at_hand_are_short_and_of_the_columns_that_are_there(made):
    found = made(CLEAR)
    plan, table, results = found
    assert explain_columns(plan, table, results) == (
        "*vs baseline*: paired by seed; *p (Holm)*: corrected for the table's 4 tests; *kept*: "
        "visible patches, of 36; *paper*: ViT-L/16 on ImageNet-1K; compare shapes, not heights; "
        "100 training images are held out for choices."
    )
    bare = explain_columns(*made(CLEAR, RATIO.replace("paper: figure_5\n", ""), seeds=1))
    assert "paper" not in bare and "Holm" not in bare
    page = markdown_page(ReportDocument(*found))
    after = page[page.index("*mean*: top-1") :]
    explained = after[: after.index("![")]
    assert "[How to read this table](../how_to_read.md)" in explained
    assert len(explained) <= 6 * 100 and "Holm's method" not in page


def test_a_row_that_is_not_finished_is_counted_among_the_tests(made):
    found = made({**CLEAR, "0.9": [None, None, None]})
    plan, table, results = found
    assert table["p"].notna().sum() == 3 and "for the table's 4 tests;" in explain_columns(*found)
    assert "at the first of Holm's 4 tests (level 0.013)" in below(*found)


def test_what_is_said_of_all_rows_holds_for_each(made):
    """Epochs, pixels and patches where they are what is varied."""
    plan, table, results = made(DIP, SCHEDULE)
    assert "(30 px), recipe toy, 100 to 1,600 pre-training epochs, seeds" in describe_data(
        plan, results
    )
    study = "recipe: toy\nfactors:\n  patch_size: [5, 10]\nseeds: 3\n"
    plan, table, results = made({**CLEAR, "5": [70.0] * 3, "10": [60.0] * 3}, study)
    assert "*kept*: visible patches, of 9 to 36;" in explain_columns(plan, table, results)
    assert "(30 px), recipe toy, 2 pre-training epochs, seeds" in describe_data(plan, results)


def test_a_suite_says_what_takes_from_its_verdicts(made, tmp_path):
    plan, _, _ = made(DIP, SCHEDULE)
    one = Member(plan, tmp_path)
    aside = show_card(one)["aside"]
    assert (
        aside.startswith("But 2 of 4 steps") and "Below raw pixels (83.10): every level." in aside
    )
    assert "decide nothing" not in suite_headline([one])
    plan, _, _ = made({**DIP, "100": [10.0, 74.5, 74.6]}, SCHEDULE)
    assert show_card(Member(plan, tmp_path))["aside"].startswith("Seeds lie apart (100: seed 0")
    few, _, _ = made(DIP, SCHEDULE, seeds=1)
    assert suite_headline([Member(few, tmp_path)]).endswith("Fewer than 3 seeds decide nothing.")
    folder = tmp_path / "x"
    folder.mkdir()
    about = {"seeds": [0, 1, 2], "descriptive": "This table is descriptive."}
    (folder / "report.json").write_text(json.dumps(about))
    said = suite_headline([Member(plan, tmp_path)])
    assert said.endswith("Descriptive, as declared after results had been seen: x.")
    (folder / "report.json").write_text(json.dumps({**about, "seeds": [0, 1, 2, 3]}))
    assert "Descriptive" not in suite_headline([Member(plan, tmp_path)])
