"""Statistics: textbook results, and what they promise in simulated studies."""

import numpy as np
import pytest
from scipy import stats

from mae_ablation.report.findings import possible_best, rank_correlation
from mae_ablation.report.metrics import NOISE
from mae_ablation.report.paired import (
    ALPHA,
    MOST_COUNTED,
    bootstrap,
    compare_pairs,
    count_seeds_needed,
    count_seeds_within,
    detectable,
    holm,
    power,
)

SLEEP = [-1.2, -2.4, -1.3, -1.3, 0.0, -1.0, -1.8, -0.8, -4.6, -1.4]  # R: group 1 - group 2
STUDIES = 2000


def test_r_s_t_test_of_the_sleep_data():
    found = compare_pairs([SLEEP])
    assert found.p == pytest.approx(0.002833, abs=1e-6)
    assert (found.low[0], found.high[0]) == pytest.approx((-2.4598858, -0.7001142), abs=1e-7)
    assert (found.mean[0], found.pairs[0]) == (pytest.approx(-1.58), 10)
    assert found.p_holm == found.p  # the only test


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [  # R: p.adjust(p, "holm")
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.9, 0.001, np.nan, 0.02, 0.04], [0.9, 0.004, np.nan, 0.06, 0.08]),
        ([0.6, 0.7], [1.0, 1.0]),
    ],
)
def test_r_s_holm(p, adjusted):
    assert holm(p) == pytest.approx(adjusted, nan_ok=True)


@pytest.mark.parametrize(
    ("shift", "alpha", "n"),
    # G*Power and R's pwr.t.test(type = "paired", power = 0.8): n = 198.2, 33.4, 14.3, 9.9
    [(0.5, 0.05, 34), (0.8, 0.05, 15), (1.0, 0.05, 10), (0.2, 0.05, MOST_COUNTED + 1)],
)
def test_seeds_needed_are_the_textbook_s(shift, alpha, n):
    assert count_seeds_needed(shift, 1.0, alpha) == count_seeds_needed(-2 * shift, 2.0, alpha) == n


def test_power_is_r_s():
    # power.t.test(n = 20, delta = 1, sd = 1, type = "paired"): power = 0.9885913
    assert power(1.0, 1.0, 20, 0.05) == pytest.approx(0.9885913, abs=1e-6)
    # power.t.test(power = 0.8, delta = 0.5, sd = 1, type = "paired"): n = 33.36713
    assert power(0.5, 1.0, 33.36713, 0.05) == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize(("n", "alpha"), [(2, 0.05), (3, 0.05 / 11), (5, 0.01), (40, 0.05)])
def test_what_can_be_seen_has_the_stated_power(n, alpha):
    assert power(detectable(1.7, n, alpha), 1.7, n, alpha) == pytest.approx(0.8, abs=1e-6)


def test_seeds_within_a_margin_have_the_stated_power():
    n = count_seeds_within(0.05, 0.15, ALPHA, NOISE)
    rate = {}
    for seeds in (n - 1, n):
        draws = np.random.default_rng(2).normal(0.05, 0.15, size=(8000, 1, seeds))
        found = compare_pairs(draws)
        rate[seeds] = ((found.low >= -NOISE) & (found.high <= NOISE)).mean()
    assert rate[n - 1] < 0.82 and rate[n] == pytest.approx(0.82, abs=0.05)
    assert count_seeds_within(0.5, 0.1, ALPHA, NOISE) == count_seeds_needed(0.3, 0.1, ALPHA)


def test_equal_differences_are_tested_by_their_signs():
    found = compare_pairs([[0.3, 0.3, 0.1 + 0.2], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    assert found.sd[:2].tolist() == [0, 0]
    assert found.p[:2].tolist() == [0.25, 1.0]  # 2 / 2^3; nothing speaks against zero
    assert np.isnan(found.low[:2]).all()  # three signs give no interval of 95 %
    ten = compare_pairs([[-5.0] * 10])
    assert ten.p == 2 / 2**10 and ten.low == ten.high == -5
    assert bootstrap([0.3] * 6) is None


def test_ties_are_ties_whatever_their_last_bits():
    values = np.array([0.1, 0.2, 0.3, 0.3, 0.4])
    noisy = values + np.array([0, 0, 1e-15, -1e-15, 2e-16]) + 5 - 5
    assert bootstrap(values) == bootstrap(noisy)
    assert rank_correlation(noisy[:, None], [1, 2, 3, 3, 4]).of_means == pytest.approx(1.0)


def test_one_seed_and_missing_seeds():
    found = compare_pairs([[1.0, np.nan, np.nan], [np.nan] * 3, [1.0, np.nan, 2.0]])
    assert found.pairs.tolist() == [1, 0, 2]
    assert found.mean[0] == 1.0 and np.isnan(found.mean[1])
    assert np.isnan(found.p).tolist() == [True, True, False]
    assert found.p[2] == pytest.approx(stats.ttest_1samp([1.0, 2.0], 0).pvalue)


def test_the_bootstrap_is_the_same_each_time_and_near_the_t_interval():
    values = np.random.default_rng(3).normal(1.0, 1.0, 60)
    low, high = bootstrap(values)
    assert (low, high) == bootstrap(values[::-1])
    found = compare_pairs([values])
    assert (low, high) == pytest.approx((found.low[0], found.high[0]), abs=0.05)
    assert bootstrap(values[:4]) is None


@pytest.mark.parametrize(
    ("seeds", "level_sd", "common"),
    [(3, 1.0, 0.0), (5, 1.0, 0.0), (3, 1.0, 2.0), (5, 0.2, 0.0)],  # 2.0: strongly correlated rows
)
def test_no_effect_is_found_in_at_most_5_of_100_tables(seeds, level_sd, common):
    """Nine levels and a baseline that is as noisy as they are; `common` they share without it."""
    rng = np.random.default_rng(seeds)
    baseline = rng.normal(0, 1, size=(STUDIES, 1, seeds))
    shared = rng.normal(0, common, size=(STUDIES, 1, seeds))
    found = compare_pairs(rng.normal(0, level_sd, (STUDIES, 9, seeds)) + shared - baseline)
    most = ALPHA + 3 * (ALPHA * (1 - ALPHA) / STUDIES) ** 0.5  # three binomial standard errors
    assert (found.p_holm <= ALPHA).any(-1).mean() <= most


def test_an_effect_is_found_with_the_stated_power():
    differences = np.random.default_rng(6).normal(0, 1, size=(STUDIES, 9, 5))
    differences[:, 4] -= detectable(1.0, 5, ALPHA / 9)
    found = compare_pairs(differences).p_holm[:, 4] <= ALPHA
    assert 0.77 < found.mean() < 0.85  # 80 % at Holm's first level, a little more at later ones


def test_rank_correlation_by_hand():
    paper = [1.0, 2.0, 3.0, 4.0]
    # ranks 1 3 2 4 and 1 2 4 3 and 2 1 3 4: rho = 1 - 6 * 2 / (4 * 15) = 0.8 each
    seeds = np.array([[1, 3, 2, 4], [1, 2, 4, 3], [2, 1, 3, 4]], float).T
    found = rank_correlation(seeds, paper)
    assert found.single == pytest.approx(0.8) and np.isnan(found.low)  # the same in every seed
    seeds[:, 2] = [4, 3, 2, 1]
    found = rank_correlation(seeds, paper)
    assert found.single == pytest.approx(0.2) and (found.low, found.high) == (-1, 1)  # clipped
    assert found.of_means == pytest.approx(stats.spearmanr(seeds.mean(1), paper).statistic)


def test_a_seed_without_every_level_has_no_rank_correlation_of_its_own():
    values = [[1.0, 1.0, 2.0], [2.0, 3.0, np.nan], [3.0, 2.0, 3.0]]
    found = rank_correlation(values, [1.0, 2.0, 3.0])
    assert found.seeds == 2
    assert found.single == pytest.approx((1 + 0.5) / 2)


def test_the_best_level_stays_among_the_possible_ones():
    rng = np.random.default_rng(7)
    truth = np.array([0.0, 0.0, -0.3, -3.0, -6.0])
    studies = truth[:, None] + rng.normal(0, 0.5, size=(400, 5, 4))
    kept = [possible_best(study)[0] for study in studies]
    assert np.mean([0 in best for best in kept]) > 0.95
    assert np.mean([4 in best for best in kept]) < 0.1


def test_a_level_that_is_short_by_the_same_in_every_seed_is_ruled_out_by_sign():
    best = np.arange(6.0)
    assert possible_best([best, best - 1]) == ([0], True)  # 1 / 2^6
    assert possible_best([best[:4], best[:4] - 1])[0] == [0, 1]  # 1 / 2^4 is above 0.05
