"""What a report says beneath its tables, and the statistics in them, from a store."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from toys import tabulate

from mae_ablation.report.document import ReportDocument
from mae_ablation.report.findings import list_detectable, list_findings
from mae_ablation.report.latex import latex_table
from mae_ablation.report.markdown import markdown_page, markdown_table
from mae_ablation.report.method import list_remarks

STUDY = """\
paper: figure_5
recipe: toy
factors:
  mask_ratio: [0.5, 0.75, 0.9]
seeds: {seeds}
"""
RISING = {"0.5": [70, 71, 70.5, 70.2, 71.2], "0.75": [80, 81, 80.2, 80, 81], "0.9": [75] * 5}
RISING |= {"random encoder": [60] * 5, "raw pixels": [65, 65.5, 65, 65, 65]}


@pytest.fixture
def report(write_study, tmp_path):
    """Plan, table and results of a study whose rows have the given accuracies."""

    def make(accuracy, study=STUDY, seeds=5):
        return tabulate(write_study(study.format(seeds=seeds)), tmp_path / "store", accuracy)

    return make


def test_a_table_s_tests_are_corrected_together(report):
    _, table, _ = report(RISING)
    table = table.set_index("level")
    columns = list(table.columns)
    at = columns.index("high")
    assert columns[at + 1 : at + 7] == [
        "p",
        "p_holm",
        "corrected_low",
        "corrected_high",
        "boot_low",
        "boot_high",
    ]
    assert columns[-3:] == ["verdict", "seeds_needed", "note"]
    tested = table[table["kind"] != "baseline"]
    order = tested["p"].rank().astype(int)
    bonferroni = tested["p"] * (len(tested) - order + 1)
    expected = bonferroni[order.sort_values().index].cummax().reindex(tested.index)
    assert tested["p_holm"].tolist() == pytest.approx(expected.tolist())
    assert table.loc["0.75", ["p", "p_holm", "low", "boot_low", "difference"]].isna().all()
    assert table.loc["0.5", "verdict"] == table.loc["0.9", "verdict"] == "reproduced"
    assert tested["boot_low"].notna().all()
    assert (tested["boot_low"] <= tested["difference"]).all()


def test_equal_differences_are_tested_by_sign_and_say_so(report):
    same = {**RISING, "0.9": [value - 1 for value in RISING["0.75"]]}
    _, table, _ = report(same)
    line = table.set_index("level").loc["0.9"]
    assert (line["p"], line["difference"]) == (2 / 2**5, pytest.approx(-1))
    assert pd.isna(line["low"])  # five equal signs give no interval of 95 %
    assert line["verdict"] == "inconclusive" and pd.isna(line["seeds_needed"])
    assert line["note"] == "the same difference for every seed: exact sign test"


def test_what_stands_beneath_a_table(report):
    plan, table, results = report(RISING)
    order, best, steps = list_findings(plan, "linear_probe_acc1", results, table)
    seen, needed, images = list_detectable(plan, "linear_probe_acc1", results, table)
    assert order == (
        "Rank correlation (Spearman) with the paper over 3 levels: 0.50 of the means; 0.50 on "
        "average over 5 single seeds, equal in each: no interval."
    )
    assert best == (
        "Highest mean at 0.75 (in every seed). Every other level is ruled out as the best with "
        "95 % confidence (one-sided t tests against the highest mean, paired by seed, at 0.05/2). "
        "The paper's highest is at 0.75."
    )
    assert seen.startswith("5 seeds, with the median spread of the levels' paired differences (0.")
    assert seen.endswith("with 80 % power at the first of Holm's 4 tests (level 0.013).")
    assert needed.startswith("Were the paper's differences the truth here") and "0.5: 3" in needed
    page = markdown_page(ReportDocument(plan, table, results))
    assert all(f"\n- {sentence}\n" in page for sentence in (order, best, seen, needed))
    assert steps.startswith(
        "Steps between neighbouring levels, paired by seed, with Holm's p over 2"
    )
    assert (
        "0.5 to 0.75 +9.86 (p <0.001, paper +3.6); 0.75 to 0.9 -5.44 (p <0.001, paper -7.4)"
        in steps
    )
    assert images.startswith("The 10000 test images alone leave a binomial standard error of 0.46")


def test_noisy_levels_are_not_told_apart(report):
    rng = np.random.default_rng(0)
    noise = {label: (70 + rng.normal(0, 1, 5)).round(1).tolist() for label in RISING}
    plan, table, results = report(noise)
    order, best, *_ = list_findings(plan, "linear_probe_acc1", results, table)
    assert "95 % t interval [" in order
    assert "No level can be ruled out as the best" in best and "single seeds: " in best
    assert set(table["verdict"]) == {"", "inconclusive"}


def test_levels_that_lose_by_the_same_are_ruled_out_by_sign_and_the_sentence_says_so(report):
    less = {"0.5": 3, "0.9": 4}
    alike = {**RISING, **{level: [80.0 - by + i for i in range(7)] for level, by in less.items()}}
    alike |= {"0.75": [80.0 + i for i in range(7)], "raw pixels": [60] * 7}
    plan, table, results = report({**alike, "random encoder": [60] * 7}, seeds=7)
    _, best, *_ = list_findings(plan, "linear_probe_acc1", results, table)
    assert (
        "Every other level is ruled out as the best with 95 % confidence (one-sided t tests, or "
        "sign tests where all seeds differ alike, against the highest mean"
    ) in best


def test_two_levels_of_three_may_be_best(report):
    close = {**RISING, "0.5": [80.1, 80.8, 80.3, 80.1, 80.9]}
    plan, table, results = report(close)
    _, best, *_ = list_findings(plan, "linear_probe_acc1", results, table)
    assert "With 95 % confidence the best is one of 0.5, 0.75 (one-sided t tests against" in best


def test_a_study_says_which_levels_and_phases_it_does_not_have(report):
    plan, table, results = report(RISING)
    assert list_remarks(plan, []) == []
    study = replace(plan.study, skipped=("finetune",), skipped_by="--phases")
    factor = replace(study.factors[0], left_out=("0.95",))
    plan = replace(plan, study=replace(study, factors=(factor,)))
    assert list_remarks(plan, [{"attempts": 2}, {"attempts": 1}]) == [
        "Levels of the paper without a counterpart at this scale: 0.95.",
        "Not run, left out by --phases: finetune.",
        "1 training needed more than one attempt.",
    ]


def test_one_seed_says_what_it_cannot(report):
    plan, table, results = report(RISING, seeds=1)
    order, best, steps = list_findings(plan, "linear_probe_acc1", results, table)
    seen, _ = list_detectable(plan, "linear_probe_acc1", results, table)
    assert order.endswith("0.50 of the means; no interval, which takes two seeds that have every "
                          "level.")  # fmt: skip
    assert best == "Highest mean at 0.75. The paper's highest is at 0.75."
    assert seen == "Without a spread over seeds there is no interval and no p value."
    assert steps == (
        "Steps between neighbouring levels, paired by seed: 0.5 to 0.75 +10.00 (paper +3.6); 0.75 "
        "to 0.9 -5.00 (paper -7.4)."
    )
    assert "95 %" not in markdown_table(table)[0] and "p (Holm)" not in markdown_table(table)[0]


def test_levels_at_equal_flops_are_not_ranked_against_the_paper(report):
    plan, table, results = report(RISING, STUDY + "budget: flops\n")
    assert set(table["verdict"]) == {"", "not comparable"}
    order, *others = list_findings(plan, "linear_probe_acc1", results, table)
    others += list_detectable(plan, "linear_probe_acc1", results, table)
    assert order == "Fewer than 3 levels to compare with the paper: no rank correlation."
    assert not any("the truth here" in sentence for sentence in others)


def test_a_study_without_the_paper_is_tested_all_the_same(report):
    plan, table, results = report(RISING, STUDY.replace("paper: figure_5\n", ""))
    assert table["p_holm"].notna().sum() == 4 and set(table["verdict"]) == {""}
    said = list_findings(plan, "linear_probe_acc1", results, table)
    said += list_detectable(plan, "linear_probe_acc1", results, table)
    assert len(said) == 4 and "paper" not in " ".join(said)
    head = markdown_table(table)[0]
    assert "p (Holm)" in head and "paper" not in head and "verdict" not in head


def test_differences_of_losses_have_four_digits(report):
    plan, table, results = report(RISING, STUDY + "phases: [pretrain]\n", seeds=3)
    found = {"difference": 0.00123, "difference_sd": 0.0004, "low": 0.0001, "high": 0.0023}
    told = table.assign(mean=0.51234, sd=0.0021, **found)
    line = markdown_table(told)[2]
    for words in ("| 0.5123 |", "| 0.0021 |", "| +0.0012 ± 0.0004 |", "| [+0.0001, +0.0023] |"):
        assert words in line
    assert "+0.0012 [0.0001, 0.0023]" in latex_table(ReportDocument(plan, told, results)).replace(
        "$", ""
    )
