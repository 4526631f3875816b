"""Differences paired by seed: Student's t, Holm's correction over a table, bootstrap, power.

Pure functions of numbers. The last axis of a table is its seeds, the one before it its rows; what
stands before those is carried along.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

ALPHA = 0.05  # error of a whole table: intervals are of 1 - ALPHA
POWER = 0.8
MOST_COUNTED = 100  # seeds at which counting stops; one more stands for more
# pairs from which there is a bootstrap interval; fewer have too few distinct resamples
BOOTSTRAP_FROM = 5

RESAMPLES = 9999
# digits to which points are rounded: equal differences differ in the last bits of floats
POINT_DIGITS = 9


class PairedTests(NamedTuple):
    """Tests of a table's paired differences; arrays (..., rows), NaN where there is nothing.

    Equal differences, as accuracies of a few hundred images have them, are no evidence of no noise:
    the sign test decides on those, p = 2 / 2^n. One seed has no interval and no p.
    """

    pairs: NDArray
    mean: NDArray
    sd: NDArray  # standard deviation with n - 1; 0 for equal differences
    low: NDArray  # `low` and `high`: interval of 1 - ALPHA
    high: NDArray
    p: NDArray  # two-sided
    p_holm: NDArray


def compare_pairs(differences: ArrayLike) -> PairedTests:
    """Test a table's rows by paired t tests with Holm's correction.

    Args:
        differences: (..., rows, seeds), NaN where a seed is missing; a row of NaN is no test.
    """
    pairs, mean, sd = summarise(np.asarray(differences, float))
    p, half = p_value(mean, sd, pairs), half_width(sd, pairs, ALPHA)
    low, high = mean - half, mean + half
    return PairedTests(pairs=pairs, mean=mean, sd=sd, low=low, high=high, p=p, p_holm=holm(p))


def summarise(values: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return number, mean and standard deviation (n - 1) over the last axis, without NaN."""
    values = np.round(values, POINT_DIGITS)
    there = np.isfinite(values)
    n = there.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, values, 0).sum(-1) / n
        square = np.where(there, (values - mean[..., None]) ** 2, 0).sum(-1)
        sd = np.sqrt(square / np.where(n > 1, n - 1, np.nan))

    # equal values have no spread, whatever the last bits of their mean are
    highest = np.where(there, values, -np.inf).max(-1, initial=-np.inf)
    lowest = np.where(there, values, np.inf).min(-1, initial=np.inf)
    same = (n > 1) & (highest == lowest)
    return n, np.where(same, lowest, mean), np.where(same, 0.0, sd)


def half_width(sd: ArrayLike, n: ArrayLike, alpha: ArrayLike) -> NDArray:
    """Return half of Student's t interval of 1 - alpha; NaN below two values.

    Without spread the interval is the value itself where the sign test reaches alpha, else NaN.
    """
    sd, n, alpha = np.asarray(sd, float), np.asarray(n, float), np.asarray(alpha, float)
    half = stats.t.ppf(1 - alpha / 2, np.maximum(n - 1, 1)) * _spread(sd, n) / np.sqrt(n)
    return np.where((sd == 0) & (2 * sign_chance(n) <= alpha), 0.0, half)


def p_value(mean: ArrayLike, sd: ArrayLike, n: ArrayLike) -> NDArray:
    """Return the two-sided p value of a mean of zero: Student's t test, without spread the sign
    test; NaN below two values."""
    mean, sd, n = np.asarray(mean, float), np.asarray(sd, float), np.asarray(n, float)
    p = 2 * stats.t.sf(np.abs(mean) * np.sqrt(n) / _spread(sd, n), np.maximum(n - 1, 1))
    return np.where(sd == 0, np.where(mean == 0, 1.0, 2 * sign_chance(n)), p)


def equivalence_p_value(mean: ArrayLike, sd: ArrayLike, n: ArrayLike, margin: float) -> NDArray:
    """Return the larger p value of two one-sided tests of a mean of `margin` or more."""
    mean, sd, n = np.asarray(mean, float), np.asarray(sd, float), np.asarray(n, float)
    room = margin - np.abs(mean)
    p = stats.t.sf(room * np.sqrt(n) / _spread(sd, n), np.maximum(n - 1, 1))
    return np.where(sd == 0, np.where(room > 0, sign_chance(n), 1.0), p)


def _spread(sd: NDArray, n: NDArray) -> NDArray:
    return np.where((sd > 0) & (n > 1), sd, np.nan)


def sign_chance(n: NDArray) -> NDArray:
    """Return the chance that n fair signs are all positive."""
    return 0.5 ** np.asarray(n, float)


def holm(p: ArrayLike) -> NDArray:
    """Adjust p values by Holm's step-down (1979), as R's p.adjust; NaN is no test."""
    p = np.asarray(p, float)
    order = np.argsort(p, axis=-1, kind="stable")  # NaN last
    ranked = np.take_along_axis(p, order, -1)
    left = np.maximum(np.isfinite(p).sum(-1, keepdims=True) - np.arange(p.shape[-1]), 1)
    adjusted = np.minimum(np.maximum.accumulate(ranked * left, -1), 1)
    return np.take_along_axis(adjusted, np.argsort(order, axis=-1), -1)


def bootstrap(values: ArrayLike) -> tuple[float, float] | None:
    """Return the BCa interval of 1 - ALPHA of a mean, which with few values is too narrow.

    None below BOOTSTRAP_FROM values or without spread. The same values give the same interval.
    """
    values = np.round(np.asarray(values, float), POINT_DIGITS)
    if len(values) < BOOTSTRAP_FROM or np.ptp(values) == 0:
        return None

    def mean(sample: NDArray, axis: int = -1) -> NDArray:
        return np.round(sample.mean(axis), POINT_DIGITS)  # BCa counts ties with the mean by half

    # the seeds' order says nothing, and the generator is always the same
    found = stats.bootstrap(
        (np.sort(values),),
        mean,
        vectorized=True,
        confidence_level=1 - ALPHA,
        n_resamples=RESAMPLES,
        method="BCa",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def power(shift: ArrayLike, sd: float, n: ArrayLike, alpha: float) -> NDArray:
    """Return the chance that a two-sided paired t test finds a true difference on its side."""
    # from the noncentral t distribution, as R's power.t.test(type = "paired")
    n = np.asarray(n, float)
    needed = stats.t.ppf(1 - alpha / 2, n - 1)
    return stats.nct.sf(needed, n - 1, np.abs(shift) * np.sqrt(n) / sd)


def count_seeds_needed(mean: float, sd: float, alpha: float) -> int:
    """Count the seeds that find a difference with 80 % power, were `mean` and `sd` the truth."""
    return _first_enough(lambda n: power(mean, sd, n, alpha))


def count_seeds_within(mean: float, sd: float, alpha: float, margin: float) -> int:
    """Count the seeds that show by an interval on which side of a margin a difference is."""
    # of a mean beyond the margin the interval is to lie wholly outside
    if abs(mean) > margin:
        return count_seeds_needed(abs(mean) - margin, sd, alpha)

    # else within it, by the usual approximation of two one-sided tests
    def within(n: NDArray) -> NDArray:
        needed = stats.t.ppf(1 - alpha / 2, n - 1)
        below, above = ((margin + side * mean) * np.sqrt(n) / sd for side in (1, -1))
        return stats.nct.sf(needed, n - 1, below) + stats.nct.sf(needed, n - 1, above) - 1

    return _first_enough(within)


def _first_enough(chance: Callable[[NDArray], NDArray]) -> int:
    """Return the smallest n from 2 whose chance is POWER."""
    n = np.arange(2, MOST_COUNTED + 1)
    enough = np.flatnonzero(chance(n) >= POWER)
    return int(n[enough[0]]) if len(enough) else MOST_COUNTED + 1


def detectable(sd: float, n: int, alpha: float) -> float:
    """Return the smallest true difference that n seeds find with 80 % power."""
    widest = 4 * float(half_width(sd, n, alpha))  # more than enough: power is nearly 1 there
    return optimize.brentq(lambda shift: float(power(shift, sd, n, alpha)) - POWER, 0, widest)
