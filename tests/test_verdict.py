"""Verdicts: the rule, by hand."""

import re

import pandas as pd
import pytest
import yaml

from mae_ablation.report.paired import MOST_SEEDS
from mae_ablation.report.sequential import decide
from mae_ablation.report.suite import SIGNS
from mae_ablation.report.verdict import (
    MARGINS,
    RULE,
    Evidence,
    Interval,
    evidence,
    headline,
    seeds_to_decide,
    verdict,
    worded,
)
from mae_ablation.study.paper import FILE
from mae_ablation.study.sequential import Sequential

FINE = {"complete": True, "comparable": True}


def evidences(*rows, margin=None):
    declared = Sequential(looks=(max(map(len, rows), default=0) or 1,), margin=margin)
    table = {str(i): dict(enumerate(row)) for i, row in enumerate(rows)}
    found = decide(table, declared, range(declared.most))
    return [evidence(row, margin) for row in found.values()]


def of(*differences, margin=None):
    return evidences(differences, margin=margin)[0]


def test_the_interval_is_student_s():
    half = 4.302653 * (1.583333**0.5) / 3**0.5
    ours = of(1.0, -0.5, 2.0).corrected
    assert (ours.low, ours.high) == pytest.approx((0.833333 - half, 0.833333 + half), abs=1e-4)
    assert of(1.0).corrected is None and of().pairs == 0


@pytest.mark.parametrize(
    ("ours", "paper", "said"),
    [
        ((-3.0, -3.2, -2.9), -9.6, "reproduced"),
        ((3.0, 3.2, 2.9), -9.6, "contradicted"),
        ((3.0, -3.2, 2.9), -9.6, "inconclusive"),
        ((-3.0, -3.2, -2.9), -0.1, "contradicted"),  # the paper's is within the margin, ours beyond
        ((-0.01, 0.0, 0.01), -0.1, "reproduced"),  # both within it
        ((-0.01, 0.0, 0.01), 0.2, "reproduced"),
        ((-0.01, 0.0, 0.01), 0.3, "inconclusive"),
        ((-0.3, 0.0, 0.3), 0.0, "inconclusive"),
        ((0.2, 0.22, 0.21), 0.0, "inconclusive"),  # excludes zero, not the margin
        ((-3.0, -3.01), -9.6, "inconclusive"),  # two seeds
        ((-3.0,), -9.6, "inconclusive"),
        ((-3.0, -3.0, -3.0), -9.6, "inconclusive"),  # the sign test's p is 0.25
        (6 * (-3.0,), -9.6, "reproduced"),  # and here 0.03
        ((0.0, 0.0, 0.0), 0.0, "inconclusive"),
        ((-3.0, -3.2, -2.9), None, ""),
    ],
)
def test_each_verdict(ours, paper, said):
    assert verdict(of(*ours), paper, **FINE) == said


def test_a_level_within_the_declared_margin_is_no_different():
    near = of(0.05, -0.1, 0.1, 0.0, 0.02, margin=0.5)
    assert verdict(near, -9.6, **FINE) == verdict(near, 0.1, **FINE) == "no difference"
    assert verdict(of(0.05, -0.1, 0.1, 0.0, 0.02), -9.6, **FINE) == "inconclusive"  # none declared


def test_test_images_may_forbid_that_a_level_is_called_no_different():
    found = decide(
        {"a": dict(enumerate([0.1, -0.1, 0.0]))}, Sequential(looks=(3,), margin=0.5), range(3)
    )["a"]
    assert verdict(evidence(found, 0.5, image_se=0.1), 0.1, **FINE) == "no difference"
    assert verdict(evidence(found, 0.5, image_se=0.4), -9.6, **FINE) == "inconclusive"


def test_a_row_that_images_hide_is_not_judged_by_the_interval_of_one_sided_tests():
    """Its interval at the one-sided level is without zero, and the two-sided one is not."""
    found = decide(
        {"a": dict(enumerate([0.1, 0.2, 0.3]))}, Sequential(looks=(3,), margin=0.5), range(3)
    )["a"]
    assert found.state == "no_difference" and found.low > 0 > found.strict_low
    assert verdict(evidence(found, 0.5, image_se=0.4), 9.6, **FINE) == "inconclusive"


def test_many_rows_take_more_evidence():
    clear, noisy = [-3.0, -3.6, -2.4], [1.0, -1.0, 0.5]
    alone, among = of(*clear), evidences(clear, *9 * [noisy])[0]
    assert verdict(alone, -9.6, **FINE) == "reproduced"
    assert verdict(among, -9.6, **FINE) == "inconclusive"


def test_the_margin_is_decided_at_the_strict_level():
    inside, wide = Interval(low=-0.1, high=0.1), Interval(low=-0.3, high=0.3)
    assert verdict(Evidence(pairs=3, corrected=inside, strict=wide), 0.0, **FINE) == "inconclusive"


def test_what_is_missing_or_not_the_same_gets_no_verdict():
    ours = of(-3.0, -3.2, -2.9)
    assert verdict(ours, -9.6, complete=False, comparable=True) == "incomplete"
    assert verdict(ours, -9.6, complete=True, comparable=False) == "not comparable"


def test_a_row_with_looks_to_come_is_undecided_so_far():
    ours = of(3.0, -3.2, 2.9)
    assert verdict(ours, -9.6, **FINE, goes_on=True) == "undecided so far"
    assert verdict(ours, -9.6, complete=False, comparable=True, goes_on=True) == "incomplete"
    assert verdict(ours, None, **FINE, goes_on=True) == ""


def test_every_verdict_has_a_sign_of_its_own_on_the_page_of_a_suite():
    assert len(set(SIGNS.values())) == len(SIGNS)
    assert {f"*{word}*" for word in SIGNS} <= set(re.findall(r"\*[a-z ]+\*", RULE))


def test_seeds_that_would_decide():
    level = {"alpha": 0.05, "strict": 0.05}
    assert seeds_to_decide(-9.6, -0.5, 1.0, **level) == 34
    assert seeds_to_decide(-9.6, 0.0, 1.0, **level) == MOST_SEEDS + 1
    assert seeds_to_decide(-9.6, -50.0, 1.0, **level) == 3  # never fewer than a verdict takes
    assert seeds_to_decide(0.1, 0.7, 1.0, **level) == 34  # to show 0.5 beyond the margin
    assert seeds_to_decide(-9.6, -0.5, 0.0, **level) is None
    assert seeds_to_decide(-9.6, -0.5, float("nan"), **level) is None


def test_a_verdict_in_words():
    row = {"verdict": "inconclusive", "seeds_needed": 12, "difference": 0.7, "test_error": 0.4}
    assert worded(row) == "inconclusive (about 12 seeds)"
    assert worded({**row, "seeds_needed": MOST_SEEDS + 1}) == "inconclusive (more than 100 seeds)"
    assert worded({**row, "seeds_needed": pd.NA}) == "inconclusive"
    assert worded({**row, "verdict": "incomplete", "seeds_needed": None}) == "incomplete"


def test_seeds_are_not_promised_where_the_test_images_limit():
    row = {"verdict": "inconclusive", "seeds_needed": 44, "difference": -0.3, "test_error": 0.93}
    assert worded(row) == "inconclusive (smaller than the test split's own error, ±0.93)"


def test_a_verdict_shows_ours_over_theirs():
    row = {"verdict": "reproduced", "difference": -0.07, "paper_difference": -10.0}
    row |= {"metric": "linear_probe_acc1"}
    assert worded(row) == "reproduced: -0.07 against the paper's -10.0"
    near = {**row, "paper_difference": -0.4}
    assert worded(near) == ("reproduced: -0.07 against the paper's -0.4, a difference within 0.6")


def test_no_difference_says_of_what_size_and_whether_the_paper_has_one():
    row = {"verdict": "no difference", "difference": 0.07, "margin": 0.5}
    row |= {"metric": "finetune_acc1"}
    assert worded({**row, "paper_difference": -0.1}) == (
        "no difference of more than 0.5: +0.07, nor the paper's -0.1"
    )
    assert worded({**row, "paper_difference": -2.0}) == (
        "no difference of more than 0.5: +0.07, but the paper's -2.0"
    )


def test_each_metric_has_a_margin_of_its_own():
    ours = of(-1.4, -1.5, -1.6)
    assert verdict(ours, -0.4, **FINE, margin=MARGINS["finetune_acc1"]) == "reproduced"
    assert verdict(ours, -0.4, **FINE, margin=MARGINS["linear_probe_acc1"]) == "contradicted"
    level = {"alpha": 0.05, "strict": 0.05}
    assert seeds_to_decide(0.5, 0.9, 0.5, **level) == 5
    assert seeds_to_decide(0.5, 0.9, 0.5, **level, margin=0.6) == 24


def test_margins_are_what_training_again_did_to_published_models():
    noise = yaml.safe_load(FILE.read_text(encoding="utf-8"))["noise"]
    gaps = [abs(each["official"] - each["paper"]) for each in noise["official_repo_probes"]]
    assert MARGINS["linear_probe_acc1"] == noise["probe_gap_treated_as_noise"]
    assert noise["probe_gap_treated_as_noise"] == pytest.approx(max(gaps))
    assert MARGINS["finetune_acc1"] == noise["finetune_gap_treated_as_noise"]


def rows(verdicts, seeds, paper=-9.6, metric="linear_probe_acc1"):
    about = {"paper_difference": paper, "metric": metric}
    return pd.DataFrame({"verdict": verdicts, "seeds_asked": seeds, **about})


def test_the_headline_counts():
    text = headline(rows(["", "reproduced", "inconclusive", "reproduced"], 3))
    assert text == (
        "Against the paper, of 3 differences to the baseline: 2 reproduced, 1 inconclusive; "
        "directions are compared, not sizes."
    )
    alone = headline(rows(["inconclusive"], 1))
    assert alone.endswith("1 inconclusive (fewer than 3 seeds decide nothing).")
    assert headline(rows([""], 3)) == ""


def test_directions_are_not_said_to_be_compared_where_none_is():
    assert "directions" not in headline(rows(["reproduced"], 3, paper=-0.2))
    assert "directions" not in headline(rows(["inconclusive"], 3))


def test_the_rule_names_every_verdict():
    words = ("reproduced", "contradicted", "no difference", "inconclusive", "incomplete")
    words += ("undecided so far",)
    for word in (*words, "not comparable"):
        assert f"*{word}*" in RULE
