"""Studies that may be looked at: what they promise in simulated studies, and what a row gets."""

import numpy as np
import pytest

from mae_ablation.report.paired import compare_pairs, half_width
from mae_ablation.report.sequential import (
    DIFFERENT,
    NO_DIFFERENCE,
    decide,
    nominal_levels,
    run_sequential_tests,
)
from mae_ablation.study.seeds import Sequential, looks_between

LOOKS = (3, 5, 8, 12, 20)
STUDIES = 2000
MOST = 0.05 + 3 * (0.05 * 0.95 / STUDIES) ** 0.5  # three binomial standard errors
SPREADS = [1.25, 1.44, 0.68, 0.41, 0.48, 0.4, 0.6, 1.02, 0.53]  # of the levels of Figure 5, once


def levels(looks, spending, rows=1, sides=2):
    return nominal_levels(looks, spending, 0.05, (0.05 / rows,), sides)[0]


@pytest.mark.parametrize(
    ("spending", "rows", "published"),
    [
        ("pocock", 1, [0.0117, 0.0097, 0.0128, 0.0152, 0.0225]),
        ("pocock", 9, [0.00115, 0.00098, 0.00115, 0.00121, 0.00213]),
        ("obrien_fleming", 1, [0, 0.0001, 0.0018, 0.0106, 0.0449]),
        ("obrien_fleming", 9, [0, 0, 0.00018, 0.00111, 0.00493]),
    ],
)
def test_levels_of_many_seeds_are_those_of_brownian_motion(spending, rows, published):
    found = levels(tuple(10 * n for n in LOOKS), spending, rows)
    assert found == pytest.approx(published, abs=0.0007 if rows == 1 else 0.0003)  # a simulation's


def test_few_seeds_take_stricter_levels():
    few, many = levels(LOOKS, "pocock"), levels(tuple(10 * n for n in LOOKS), "pocock")
    assert few[0] == pytest.approx(many[0])  # nothing has been looked at before
    assert (few[1:] < 0.95 * many[1:]).all()
    assert levels((7,), "pocock") == [0.05]


def test_levels_spend_the_error_they_are_given():
    draws = np.random.default_rng(0).normal(size=(200_000, 1, 8))
    declared = Sequential(looks=(3, 5, 8), alpha=0.05)
    rate = (run_sequential_tests(draws, declared).state == DIFFERENT).mean()
    assert rate == pytest.approx(0.05, abs=0.0015)


def no_effect(rows, most, spreads=(1.0,), correlated=True):
    """Differences of levels without effect to a baseline that is as noisy as they are."""
    rng = np.random.default_rng(rows)
    sd = np.resize(spreads, rows)[:, None]
    baseline = rng.normal(0, 0.93, size=(STUDIES, 1, most)) * correlated
    return rng.normal(size=(STUDIES, rows, most)) * sd - baseline


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("spending", ["pocock", "obrien_fleming"])
@pytest.mark.parametrize(
    "noise",
    [{"spreads": SPREADS}, {"spreads": (0.1, 3.0), "correlated": False}],
    ids=["our spreads", "very unequal"],
)
def test_no_effect_is_claimed_in_at_most_5_of_100_studies(rows, spending, noise):
    found = run_sequential_tests(
        no_effect(rows, 20, **noise), Sequential(looks=LOOKS, spending=spending)
    )
    assert (found.state == DIFFERENT).any(-1).mean() <= MOST


@pytest.mark.parametrize("rows", [1, 9])
def test_ties_claim_no_more(rows):
    steps = np.round(no_effect(rows, 20, SPREADS), 0)  # accuracies of 100 test images
    assert (np.ptp(steps[..., :3], axis=-1) == 0).mean() > 0.03
    found = run_sequential_tests(steps, Sequential(looks=LOOKS))
    assert (found.state == DIFFERENT).any(-1).mean() <= MOST


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("spending", ["pocock", "obrien_fleming"])
def test_a_difference_of_the_margin_is_seldom_called_none(rows, spending):
    rng = np.random.default_rng(3)
    edge = 0.5 + rng.normal(0, np.resize(SPREADS, rows)[:, None] / 2, size=(STUDIES, rows, 20))
    declared = Sequential(looks=LOOKS, spending=spending, margin=0.5)
    found = run_sequential_tests(edge, declared)
    assert (found.state == NO_DIFFERENCE).any(-1).mean() <= MOST


def test_no_difference_is_found_where_there_is_none():
    none = np.random.default_rng(4).normal(0, 0.4, size=(STUDIES, 9, 20))
    found = run_sequential_tests(none, Sequential(looks=LOOKS, margin=0.5))
    assert (found.state == NO_DIFFERENCE).mean() > 0.95
    assert (found.state == DIFFERENT).any(-1).mean() <= MOST


@pytest.mark.parametrize(
    ("spending", "effect", "power", "seeds"),
    [  # effect in standard deviations of the paired difference; mean seeds of a row
        ("pocock", 1.0, 0.92, 15.9),
        ("pocock", 2.0, 1.00, 8.1),
        ("obrien_fleming", 1.0, 0.96, 17.0),
        ("obrien_fleming", 2.0, 1.00, 10.3),
    ],
)
def test_power_and_mean_seeds_are_the_reference_s(spending, effect, power, seeds):
    draws = np.random.default_rng(5).normal(effect, 1, size=(STUDIES, 9, 20))
    found = run_sequential_tests(draws, Sequential(looks=LOOKS, spending=spending))
    assert (found.state == DIFFERENT).mean() == pytest.approx(power, abs=0.05)
    assert np.array(LOOKS)[found.stopped].mean() == pytest.approx(
        seeds, abs=0.6
    )  # and exact levels


def test_a_single_look_is_the_test_of_a_fixed_number_of_seeds():
    draws = np.random.default_rng(6).normal(0.8, 0.5, size=(9, 5)) * np.arange(9)[:, None]
    draws[0] = [0.3, -0.1, 0.2, 0.1, 0.4]
    found, fixed = decisions(draws, (5,)), compare_pairs(draws)
    assert {row.state for row in found} == {"different", "undecided"}
    for i, row in enumerate(found):
        assert row.p_holm == pytest.approx(fixed.p_holm[i])
        assert (row.low > 0 or row.high < 0) == (fixed.p_holm[i] <= 0.05)
        half = half_width(fixed.sd[i], 5, 0.05 / 9)
        ends = (fixed.mean[i] - half, fixed.mean[i] + half)
        assert (row.strict_low, row.strict_high) == pytest.approx(ends)


def decisions(rows, looks, **declared):
    table = {str(i): dict(enumerate(row)) for i, row in enumerate(rows)}
    return [*decide(table, Sequential(looks=looks, **declared), range(looks[-1])).values()]


CLEAR = [3.0, 3.1, 2.9, 3.05, 2.95]


def test_a_row_counts_with_its_own_complete_looks():
    clear, slow = decisions([CLEAR[:4], [0.1, -0.2]], (3, 5))
    assert (clear.state, clear.look, clear.seeds) == ("different", 0, 3)  # the fourth waits
    assert clear.difference == pytest.approx(3.0)
    assert (slow.state, slow.look, slow.seeds) == ("undecided", None, 0)
    assert np.isnan([slow.difference, slow.low, slow.p]).all()


def test_seeds_count_in_the_declared_order():
    row = {7: 3.0, 5: 3.1, 6: 2.9, 1: -40.0}
    found = decide({"a": row}, Sequential(looks=(3, 5)), [5, 6, 7, 1, 2])
    assert found["a"].state == "different"
    assert decide({"a": row}, Sequential(looks=(3, 5)), [1, 5, 6, 7, 2])["a"].state == "undecided"


def test_a_decided_row_stays_decided():
    draws = np.random.default_rng(7).normal(1.2, 1.0, size=(6, 20))
    before = {}
    for n in range(3, 21):
        for i, row in enumerate(decisions(draws[:, :n], LOOKS, margin=0.3)):
            assert before.get(i, "undecided") in ("undecided", row.state)
            before[i] = row.state
    assert set(before.values()) != {"undecided"}


def test_what_came_after_a_decision_does_not_count():
    wild = [3.0, 3.1, 2.9, -9.0, 9.0]
    assert decisions([wild], (3, 5)) == decisions([wild[:3]], (3, 5))


def test_the_interval_shuts_out_zero_exactly_where_a_row_is_different():
    draws = np.random.default_rng(8).normal(1.0, 1.0, size=(40, 20))
    found = decisions(draws, LOOKS)
    assert {row.state for row in found} == {"different", "undecided"}
    for row in found:
        assert (row.low > 0 or row.high < 0) == (row.state == "different") == (row.p_holm <= 0.05)


def test_the_interval_lies_within_the_margin_where_a_row_is_no_different():
    (found,) = decisions([[0.1, -0.1, 0.0, 0.05, -0.05]], (3, 5), margin=0.5)
    assert found.state == "no_difference" and -0.5 < found.low < 0 < found.high < 0.5


def test_the_same_difference_ten_times_is_a_difference():
    nine = [np.random.default_rng(9).normal(size=10) for _ in range(8)]
    same = decisions([[-5.0] * 10, *nine], (10,))[0]
    assert (same.state, same.p) == ("different", 2 / 2**10)
    assert (same.low, same.high) == (-5.0, -5.0)
    assert decisions([[-5.0] * 5], (5,))[0].state == "undecided"  # 2 / 2^5 is above 0.05
    assert decisions([[0.0] * 10], (10,), margin=0.5)[0].state == "no_difference"


def test_looks_grow_geometrically():
    assert looks_between(3, 20) == LOOKS
    assert (looks_between(3, 3), looks_between(3, 4)) == ((3,), (3, 4))
