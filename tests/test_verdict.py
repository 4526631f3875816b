"""Verdicts: the rule, by hand, and the words it is told in."""

import re

import pandas as pd
import pytest
import yaml

from mae_ablation.report.headline import count_verdicts
from mae_ablation.report.how_to_read import verdict_rule
from mae_ablation.report.metrics import quantity_of
from mae_ablation.report.paired import MOST_COUNTED
from mae_ablation.report.sequential import decide, is_hidden
from mae_ablation.report.verdict import (
    SIGNS,
    count_seeds_to_decide,
    format_verdict,
    reach_verdict,
)
from mae_ablation.study.paper import PAPER_NUMBERS
from mae_ablation.study.seeds import Sequential

FINE = {"complete": True, "comparable": True}


def decided(*rows, margin=None):
    """Decisions on rows of differences, each with all its seeds at the only look."""
    declared = Sequential(looks=(max(map(len, rows)),), margin=margin)
    table = {str(i): dict(enumerate(row)) for i, row in enumerate(rows)}
    return [*decide(table, declared, range(declared.most)).values()]


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
    assert reach_verdict(decided(ours)[0], paper, **FINE) == said


def test_what_is_missing_or_not_the_same_gets_no_verdict():
    ours = decided((-3.0, -3.2, -2.9))[0]
    assert reach_verdict(ours, -9.6, complete=False, comparable=True) == "incomplete"
    assert reach_verdict(ours, -9.6, complete=True, comparable=False) == "not comparable"
    assert reach_verdict(ours, -9.6, **FINE, goes_on=True) == "undecided so far"
    assert reach_verdict(None, -9.6, **FINE) == "inconclusive"


def test_many_rows_take_more_evidence():
    clear, noisy = [-3.0, -3.6, -2.4], [1.0, -1.0, 0.5]
    assert reach_verdict(decided(clear)[0], -9.6, **FINE) == "reproduced"
    among = decided(clear, *9 * [noisy])[0]
    assert reach_verdict(among, -9.6, **FINE) == "inconclusive"


def test_a_level_within_the_declared_margin_is_no_different():
    near = (0.05, -0.1, 0.1, 0.0, 0.02)
    (found,) = decided(near, margin=0.5)
    for paper in (-9.6, 0.1):
        assert reach_verdict(found, paper, **FINE) == "no difference"
    assert reach_verdict(decided(near)[0], -9.6, **FINE) == "inconclusive"  # none declared


def test_test_images_may_forbid_that_a_level_is_called_no_different():
    """Then its interval is not that of one-sided tests, which may be without zero."""
    (found,) = decided([0.1, 0.2, 0.3], margin=0.5)
    assert not is_hidden(found, 0.5, image_se=0.1) and is_hidden(found, 0.5, image_se=0.4)
    assert found.state == "no_difference" and found.low > 0 > found.strict_low
    assert reach_verdict(found, 9.6, **FINE, hidden=True) == "inconclusive"


def test_each_metric_has_a_margin_of_its_own():
    (ours,) = decided((-1.4, -1.5, -1.6))
    for metric, said in (("finetune_acc1", "reproduced"), ("linear_probe_acc1", "contradicted")):
        assert reach_verdict(ours, -0.4, **FINE, margin=quantity_of(metric).margin) == said
    noise = yaml.safe_load(PAPER_NUMBERS.read_text(encoding="utf-8"))["noise"]
    gaps = [abs(each["official"] - each["paper"]) for each in noise["official_repo_probes"]]
    assert quantity_of("linear_probe_acc1").margin == noise["probe_gap_treated_as_noise"]
    assert noise["probe_gap_treated_as_noise"] == pytest.approx(max(gaps))
    assert quantity_of("finetune_acc1").margin == noise["finetune_gap_treated_as_noise"]


def test_seeds_that_would_decide():
    level = {"alpha": 0.05, "strict": 0.05}
    assert count_seeds_to_decide(-9.6, -0.5, 1.0, **level) == 34
    assert count_seeds_to_decide(-9.6, 0.0, 1.0, **level) == MOST_COUNTED + 1
    assert count_seeds_to_decide(-9.6, -50.0, 1.0, **level) == 3  # what a verdict takes at least
    assert count_seeds_to_decide(0.1, 0.7, 1.0, **level) == 34  # to show 0.5 beyond the margin
    assert count_seeds_to_decide(0.5, 0.9, 0.5, **level, margin=0.6) == 24
    assert count_seeds_to_decide(-9.6, -0.5, 0.0, **level) is None


# in words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"seeds_needed": 12}, "inconclusive (about 12 seeds)"),
        ({"seeds_needed": MOST_COUNTED + 1}, "inconclusive (more than 100 seeds)"),
        ({"seeds_needed": pd.NA}, "inconclusive"),
        ({"verdict": "incomplete"}, "incomplete"),
        (
            {"seeds_needed": 44, "difference": -0.3, "test_error": 0.93},
            "inconclusive (smaller than the test split's own error, ±0.93)",
        ),
        (
            {"verdict": "reproduced", "difference": -0.07, "paper_difference": -10.0},
            "reproduced: -0.07 against the paper's -10.0",
        ),
        (
            {"verdict": "reproduced", "difference": -0.07, "paper_difference": -0.4},
            "reproduced: -0.07 against the paper's -0.4, a difference within 0.6",
        ),
        (
            {"verdict": "no difference", "difference": 0.07, "margin": 0.5},
            "no difference of more than 0.5: +0.07, nor the paper's -0.1",
        ),
        (
            {"verdict": "no difference", "difference": 0.07, "margin": 1, "paper_difference": -2},
            "no difference of more than 1: +0.07, but the paper's -2.0",
        ),
    ],
)
def test_a_verdict_in_words(row, said):
    about = {"metric": "linear_probe_acc1", "difference": 0.7, "test_error": 0.4}
    about |= {"verdict": "inconclusive", "paper_difference": -0.1}
    assert format_verdict({**about, **row}) == said


def rows(verdicts, seeds, paper=-9.6, metric="linear_probe_acc1"):
    about = {"paper_difference": paper, "metric": metric}
    return pd.DataFrame({"verdict": verdicts, "seeds_asked": seeds, **about})


def test_the_headline_counts():
    assert count_verdicts(rows(["", "reproduced", "inconclusive", "reproduced"], 3)) == (
        "Against the paper, of 3 differences to the baseline: 2 reproduced, 1 inconclusive; "
        "directions are compared, not sizes."
    )
    alone = count_verdicts(rows(["inconclusive"], 1))
    assert alone.endswith("1 inconclusive (fewer than 3 seeds decide nothing).")
    assert count_verdicts(rows([""], 3)) == ""
    for odd in (rows(["reproduced"], 3, paper=-0.2), rows(["inconclusive"], 3)):
        assert "directions" not in count_verdicts(odd)


def test_the_rule_names_every_verdict_and_each_has_a_sign_of_its_own():
    assert len(set(SIGNS.values())) == len(SIGNS)
    named = set(re.findall(r"\*[a-z ]+\*", " ".join(verdict_rule())))
    assert {f"*{word}*" for word in SIGNS} <= named
