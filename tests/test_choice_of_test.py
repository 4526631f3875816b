"""The simulation that chose the table's test: its parts give textbook numbers."""

import numpy as np
import pytest
from scipy import special, stats
from simulate_tests import draw, dunnett, inverse_trigamma, paired, shrunk, welch


def test_the_rows_tests_are_scipy_s():
    values = np.random.default_rng(0).normal(size=(1, 3, 5))
    base, level = values[0, 0], values[0, 2]
    assert paired(values)[0, 1] == pytest.approx(stats.ttest_rel(level, base).pvalue)
    assert welch(values)[0, 1] == pytest.approx(
        stats.ttest_ind(level, base, equal_var=False).pvalue
    )
    theirs = stats.dunnett(*values[0, 1:], control=base, rng=np.random.default_rng(0)).pvalue
    assert dunnett(values)[0] == pytest.approx(theirs, abs=0.01)


def test_variances_are_shrunk_as_much_as_they_agree():
    assert inverse_trigamma(special.polygamma(1, 2.5)) == pytest.approx(2.5, rel=1e-3)
    rng = np.random.default_rng(1)
    prior, df, rows = 8.0, 4, 20_000  # Smyth's model: 1 / variance is scaled chi square
    truth = 2.0 * prior / rng.chisquare(prior, size=(1, rows))
    seen = truth * rng.chisquare(df, size=(1, rows)) / df
    found, total = shrunk(seen, df)
    assert total[0, 0] == pytest.approx(prior + df, rel=0.1)
    assert found[0] == pytest.approx((prior * 2.0 + df * seen[0]) / (prior + df), rel=0.1)


@pytest.mark.parametrize("correlation", [-0.1, 0.0, 0.4])
def test_levels_agree_with_the_baseline_as_asked(correlation):
    values = draw(np.random.default_rng(2), 20_000, (1.0, 2.0, 0.5), 2, correlation)
    for level in (1, 2):
        found = np.corrcoef(values[:, 0].ravel(), values[:, level].ravel())[0, 1]
        assert found == pytest.approx(correlation, abs=0.02)
    assert values[:, 1].std() == pytest.approx(2.0, rel=0.02)
