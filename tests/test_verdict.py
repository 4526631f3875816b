"""Verdicts: the rule, by hand."""

import pandas as pd
import pytest

from mae_ablation.report.verdict import headline, interval, verdict

FINE = {"complete": True, "comparable": True}


def of(*differences):
    return interval(pd.Series(list(differences)))


def test_the_interval_is_student_s():
    ours = of(1.0, -0.5, 2.0)
    half = 4.302653 * (1.583333**0.5) / 3**0.5
    assert (ours.low, ours.high) == pytest.approx((0.833333 - half, 0.833333 + half), abs=1e-4)
    assert of(1.0).low is None and of().mean is None


@pytest.mark.parametrize(
    ("ours", "paper", "said"),
    [
        ((-3.0, -3.2, -2.9), -9.6, "reproduced"),
        ((3.0, 3.2, 2.9), -9.6, "contradicted"),
        ((3.0, -3.2, 2.9), -9.6, "inconclusive"),
        ((-3.0, -3.2, -2.9), -0.1, "inconclusive"),  # noise in the paper
        ((-3.0, -3.01), -9.6, "inconclusive"),  # two seeds
        ((-3.0,), -9.6, "inconclusive"),
        ((-3.0, -3.2, -2.9), None, ""),
    ],
)
def test_each_verdict(ours, paper, said):
    assert verdict(of(*ours), paper, **FINE) == said


def test_what_is_missing_or_not_the_same_gets_no_verdict():
    ours = of(-3.0, -3.2, -2.9)
    assert verdict(ours, -9.6, complete=False, comparable=True) == "incomplete"
    assert verdict(ours, -9.6, complete=True, comparable=False) == "not comparable"


def test_the_headline_counts():
    text = headline(["", "reproduced", "inconclusive", "reproduced"], 3)
    assert text == (
        "Against the paper, of 3 differences to the baseline: 2 reproduced, 1 inconclusive."
    )
    assert headline(["inconclusive"], 1).endswith("Fewer than 3 seeds decide nothing.")
    assert headline([""], 3) == ""
