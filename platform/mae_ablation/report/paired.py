"""Differences paired by seed: Student's t, Holm's correction over a table, bootstrap, power.

Pure functions of numbers. The last axis of a table is its seeds, the one before it its rows; what
stands before those is carried along.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

ALPHA = 0.05
"""of a whole table: an interval of 1 - ALPHA, and the chance of a false verdict under no effect"""

POWER = 0.8
MOST_SEEDS = 100
"""where counting stops: `seeds_needed` then says one more"""

BOOTSTRAP_FROM = 5
"""pairs; fewer have too few distinct resamples"""

RESAMPLES = 9999
DIGITS = 9
"""of points, to which differences are rounded: equal ones differ in the last bits of floats"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """What the paired differences of a table's rows say; arrays (..., rows), NaN where nothing.

    Equal differences, as accuracies of a few hundred images have them, are no evidence of no noise:
    the sign test decides on those, p = 2 / 2^n. One seed has no interval and no p.
    """

    pairs: NDArray
    mean: NDArray
    sd: NDArray
    """n - 1; 0 for equal differences"""
    low: NDArray
    """`low` and `high`: interval of 1 - ALPHA"""
    high: NDArray
    p: NDArray
    """two-sided"""
    p_holm: NDArray
    alpha: NDArray
    """at which Holm's procedure decides on the row"""
    corrected_low: NDArray
    """`corrected_low` and `corrected_high`: interval of 1 - alpha; without zero where p_holm is at
    most ALPHA, and only there"""
    corrected_high: NDArray
    strict: NDArray
    """ALPHA over the number of tests (Bonferroni)"""
    strict_low: NDArray
    strict_high: NDArray


def compared(differences: ArrayLike) -> Compared:
    """Paired t tests of a table's rows with Holm's correction.

    Args:
        differences: (..., rows, seeds), NaN where a seed is missing; a row of NaN is no test.
    """
    pairs, mean, sd = summed(np.asarray(differences, float))
    p = p_value(mean, sd, pairs)
    p_holm, alpha = holm(p)
    tests = np.maximum(np.isfinite(p).sum(-1, keepdims=True), 1)
    strict = np.where(np.isfinite(p), ALPHA / tests, np.nan)
    plain, corrected, most = (half_width(sd, pairs, level) for level in (ALPHA, alpha, strict))
    return Compared(
        pairs=pairs,
        mean=mean,
        sd=sd,
        low=mean - plain,
        high=mean + plain,
        p=p,
        p_holm=p_holm,
        alpha=alpha,
        corrected_low=mean - corrected,
        corrected_high=mean + corrected,
        strict=strict,
        strict_low=mean - most,
        strict_high=mean + most,
    )


def summed(values: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Number, mean and standard deviation (n - 1) over the last axis, without what is NaN."""
    values = np.round(values, DIGITS)
    there = np.isfinite(values)
    n = there.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, values, 0).sum(-1) / n
        square = np.where(there, (values - mean[..., None]) ** 2, 0).sum(-1)
        sd = np.sqrt(square / np.where(n > 1, n - 1, np.nan))
    highest = np.where(there, values, -np.inf).max(-1, initial=-np.inf)
    lowest = np.where(there, values, np.inf).min(-1, initial=np.inf)
    same = (n > 1) & (highest == lowest)
    return n, np.where(same, lowest, mean), np.where(same, 0.0, sd)


def half_width(sd: ArrayLike, n: ArrayLike, alpha: ArrayLike) -> NDArray:
    """Half of Student's t interval of 1 - alpha; NaN below two values.

    Without spread the interval is the value itself where the sign test reaches alpha, else NaN.
    """
    sd, n, alpha = np.asarray(sd, float), np.asarray(n, float), np.asarray(alpha, float)
    spread = np.where((sd > 0) & (n > 1), sd, np.nan)
    half = stats.t.ppf(1 - alpha / 2, np.maximum(n - 1, 1)) * spread / np.sqrt(n)
    return np.where((sd == 0) & (2 * sign_chance(n) <= alpha), 0.0, half)


def p_value(mean: ArrayLike, sd: ArrayLike, n: ArrayLike) -> NDArray:
    """Two-sided, of a mean of zero: Student's t test, the sign test without spread; NaN below two
    values."""
    mean, sd, n = np.asarray(mean, float), np.asarray(sd, float), np.asarray(n, float)
    spread = np.where((sd > 0) & (n > 1), sd, np.nan)
    p = 2 * stats.t.sf(np.abs(mean) * np.sqrt(n) / spread, np.maximum(n - 1, 1))
    return np.where(sd == 0, np.where(mean == 0, 1.0, 2 * sign_chance(n)), p)


def equivalence_p_value(mean: ArrayLike, sd: ArrayLike, n: ArrayLike, margin: float) -> NDArray:
    """Of a mean of `margin` or more to either side: the larger of two one-sided tests' p values."""
    mean, sd, n = np.asarray(mean, float), np.asarray(sd, float), np.asarray(n, float)
    spread, room = np.where((sd > 0) & (n > 1), sd, np.nan), margin - np.abs(mean)
    p = stats.t.sf(room * np.sqrt(n) / spread, np.maximum(n - 1, 1))
    return np.where(sd == 0, np.where(room > 0, sign_chance(n), 1.0), p)


def sign_chance(n: NDArray) -> NDArray:
    """Chance that n fair signs are all positive."""
    return 0.5 ** np.asarray(n, float)


def holm(p: ArrayLike) -> tuple[NDArray, NDArray]:
    """Holm's step-down: adjusted p values, and the level at which each row is decided.

    That level is ALPHA / (m - k + 1) for the k-th smallest of m; where the procedure has stopped it
    stays, so that p is at most the level exactly where the adjusted p is at most ALPHA. NaN is no
    test. (Holm 1979; the adjusted p are R's p.adjust.)
    """
    p = np.asarray(p, float)
    order = np.argsort(p, axis=-1, kind="stable")  # NaN last
    ranked = np.take_along_axis(p, order, -1)
    tests = np.isfinite(p).sum(-1, keepdims=True)
    left = np.maximum(tests - np.arange(p.shape[-1]), 1)
    adjusted = np.minimum(np.maximum.accumulate(ranked * left, -1), 1)
    rejected = (adjusted <= ALPHA).sum(-1, keepdims=True)
    level = ALPHA / np.maximum(left, np.maximum(tests - rejected, 1))
    level = np.where(np.isfinite(ranked), level, np.nan)
    back = np.argsort(order, axis=-1)
    return np.take_along_axis(adjusted, back, -1), np.take_along_axis(level, back, -1)


def bootstrap(values: ArrayLike) -> tuple[float, float] | None:
    """BCa interval of 1 - ALPHA of the mean; None below BOOTSTRAP_FROM values or without spread.

    The same values give the same interval. With few values it is too narrow: it decides nothing.
    """
    values = np.round(np.asarray(values, float), DIGITS)
    if len(values) < BOOTSTRAP_FROM or np.ptp(values) == 0:
        return None

    def mean(sample: NDArray, axis: int = -1) -> NDArray:
        return np.round(sample.mean(axis), DIGITS)  # BCa counts ties with the mean by half

    found = stats.bootstrap(
        (np.sort(values),),  # the seeds' order says nothing
        mean,
        vectorized=True,
        confidence_level=1 - ALPHA,
        n_resamples=RESAMPLES,
        method="BCa",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def power(shift: ArrayLike, sd: float, n: ArrayLike, alpha: float) -> NDArray:
    """Chance that a two-sided paired t test finds a true difference, on its side of zero.

    From the noncentral t distribution, as R's power.t.test(type = "paired").
    """
    n = np.asarray(n, float)
    needed = stats.t.ppf(1 - alpha / 2, n - 1)
    return stats.nct.sf(needed, n - 1, np.abs(shift) * np.sqrt(n) / sd)


def seeds_needed(mean: float, sd: float, alpha: float) -> int:
    """Smallest number of seeds that finds a difference with 80 % power, were `mean` and `sd` the
    truth; MOST_SEEDS + 1: more than MOST_SEEDS."""
    return first(lambda n: power(mean, sd, n, alpha))


def seeds_within(mean: float, sd: float, alpha: float, margin: float) -> int:
    """Likewise, that shows with an interval of 1 - alpha on which side of a margin a difference is.

    A mean within the margin: that the interval lies within ±margin, by the usual approximation of
    two one-sided tests. A mean beyond: that it lies wholly outside.
    """
    if abs(mean) > margin:
        return seeds_needed(abs(mean) - margin, sd, alpha)

    def within(n):
        needed = stats.t.ppf(1 - alpha / 2, n - 1)
        below, above = ((margin + side * mean) * np.sqrt(n) / sd for side in (1, -1))
        return stats.nct.sf(needed, n - 1, below) + stats.nct.sf(needed, n - 1, above) - 1

    return first(within)


def first(chance) -> int:
    """Smallest n from 2 whose chance is POWER."""
    n = np.arange(2, MOST_SEEDS + 1)
    enough = np.flatnonzero(chance(n) >= POWER)
    return int(n[enough[0]]) if len(enough) else MOST_SEEDS + 1


def detectable(sd: float, n: int, alpha: float) -> float:
    """Smallest true difference that n seeds find with 80 % power."""
    widest = 4 * float(half_width(sd, n, alpha))  # more than enough: power is nearly 1 there
    return optimize.brentq(lambda shift: float(power(shift, sd, n, alpha)) - POWER, 0, widest)
