"""Decisions on a table's rows by tests that may be looked at: different, no difference, undecided.

The paired t test of each look (`paired`), at the levels of `spending`, with Holm's procedure over
the rows: a row that is rejected at any look stays rejected, and the others go on with alpha over
the rows left, at all looks so far (Ye, Li, Liu and Yao 2013; Maurer and Bretz 2013). A row counts
with the looks that it has completed, so what is decided does not depend on which trial came first.

Differences and equivalences are two families: each keeps its error on its own, and a row that is
decided as no different passes nothing on to the tests for a difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mae_ablation.report.paired import equivalence_p_value, half_width, holm, p_value, summed
from mae_ablation.report.spending import nominal_levels
from mae_ablation.study.sequential import Sequential

UNDECIDED, DIFFERENT, NO_DIFFERENCE = range(3)
STATES: tuple[Literal["undecided", "different", "no_difference"], ...] = (
    "undecided",
    "different",
    "no_difference",
)
FORGIVEN = 1e-9
"""relative: what rounding may add to a p value that is exactly at its level"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A row's state, with the numbers of the look that its evidence stands at, in points."""

    state: Literal["different", "no_difference", "undecided"]
    look: int | None
    """index of the look that decided it"""
    seeds: int
    """used for it; of an undecided row, of its last complete look, 0 before the first"""
    difference: float
    low: float
    """`low` and `high`: repeated confidence interval. Without zero where the row is different,
    within the margin (at the level of a one-sided test) where it is no different; NaN where there
    is no complete look or too few seeds without any spread"""
    high: float
    p: float
    """of the test for a difference over all its looks, NaN before the first complete one"""
    p_holm: float
    """`p` corrected for the rows; at most alpha where the row is different, and only there"""
    alpha: float
    """of the row over all looks, after Holm's procedure"""
    strict_low: float
    """`strict_low` and `strict_high`: repeated interval at alpha over the number of rows"""
    strict_high: float

    def goes_on(self, declared: Sequential) -> bool:
        """Whether an undecided row may still take seeds."""
        return self.seeds < declared.most


def format_decision(found: Decision, declared: Sequential) -> str:
    """ "different after 3 seeds", "undecided so far, 5 of 20 seeds", "undecided after 20 seeds"."""
    if found.state != "undecided":
        return f"{found.state.replace('_', ' ')} after {found.seeds} seeds"
    if found.goes_on(declared):
        return f"undecided so far, {found.seeds} of {declared.most} seeds"
    return f"undecided after {found.seeds} seeds"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """Decisions on many tables at once; arrays (..., rows)."""

    state: NDArray
    """UNDECIDED, DIFFERENT or NO_DIFFERENCE"""
    look: NDArray
    """whose evidence decided the row; the last complete one of an undecided row, -1: none"""
    stopped: NDArray
    """look at which the row could stop: later than `look` where other rows had to be decided first;
    the last one of an undecided row"""
    p: NDArray
    p_holm: NDArray
    alpha: NDArray


def decide(
    differences: Mapping[str, Mapping[int, float]], declared: Sequential, seeds: Sequence[int]
) -> dict[str, Decision]:
    """Decide on every row of one column as far as its seeds go.

    Args:
        differences: by row and seed, to the baseline, in points; every row that was declared, those
            without a result too. Seeds beyond a row's last complete look do not count yet.
        seeds: in the declared order.
    """
    values = np.array(
        [[row.get(seed, np.nan) for seed in seeds] for row in differences.values()], float
    ).reshape(len(differences), len(seeds))
    found = sequential_tests(values, declared)
    return {name: decision(values[i], found, i, declared) for i, name in enumerate(differences)}


def decision(row: NDArray, found: Tested, i: int, declared: Sequential) -> Decision:
    """What was found of one row, with its intervals."""
    state, look = STATES[found.state[i]], int(found.look[i])
    n = declared.looks[look] if look >= 0 else 0
    sides = 1 if state == "no_difference" else 2
    low, high = repeated_interval(row, look, declared, found.alpha[i], sides)
    strict = repeated_interval(row, look, declared, declared.alpha / len(found.state), 2)
    return Decision(
        state=state,
        look=None if state == "undecided" else look,
        seeds=n,
        difference=float(summed(row[:n])[1]) if n else np.nan,
        low=low,
        high=high,
        p=float(found.p[i]),
        p_holm=float(found.p_holm[i]),
        alpha=float(found.alpha[i]),
        strict_low=strict[0],
        strict_high=strict[1],
    )


def repeated_interval(
    row: NDArray, look: int, declared: Sequential, alpha: float, sides: int = 2
) -> tuple[float, float]:
    """Interval of a row's mean difference at one look, valid at all looks together.

    NaN for a look of -1. `sides`: 1 for the interval that lies within the margin exactly where two
    one-sided tests at `alpha` find it to.
    """
    if look < 0:
        return np.nan, np.nan
    level = nominal_levels(declared.looks, declared.spending, declared.alpha, (alpha,), sides)
    n, mean, sd = summed(row[: declared.looks[look]])
    half = half_width(sd, n, level[0, look] * (2 / sides))
    return float(mean - half), float(mean + half)


def sequential_tests(differences: ArrayLike, declared: Sequential) -> Tested:
    """Test all rows of one or many tables (..., rows, seeds), NaN where a seed is missing."""
    values = np.asarray(differences, float)
    rows = values.shape[-2]
    different, equivalent = over_all_looks(values, declared)
    shape, complete = different.shape[:-1], np.isfinite(different)
    state, look = np.zeros(shape, int), complete.sum(-1) - 1
    stopped = np.full(shape, len(declared.looks) - 1)
    row_alpha = np.full(shape, np.nan)

    # Look by look, as the study was: a decided row does not see what came later.
    for now in range(len(declared.looks)):
        for code, p in ((NO_DIFFERENCE, equivalent), (DIFFERENT, different)):
            if p is None:
                continue
            best = np.fmin.reduce(p[..., : now + 1], -1)
            left = rows - (state == code).sum(-1, keepdims=True)
            rejected, alpha = step_down(np.where(state == 0, best, np.nan), left, declared.alpha)
            at_all = p[..., : now + 1] <= (alpha * (1 + FORGIVEN))[..., None]
            look = np.where(rejected, at_all.argmax(-1), look)
            stopped = np.where(rejected, now, stopped)
            row_alpha = np.where(rejected, alpha, row_alpha)
            state = np.where(rejected, code, state)

    # What is left has alpha over the rows left; p values are of the looks up to the decision.
    left = np.maximum(rows - (state == DIFFERENT).sum(-1, keepdims=True), 1)
    row_alpha = np.where(np.isnan(row_alpha), declared.alpha / left, row_alpha)
    seen = np.arange(len(declared.looks)) <= stopped[..., None]
    p = np.fmin.reduce(np.where(seen, different, np.nan), -1)
    return Tested(
        state=state,
        look=look,
        stopped=stopped,
        p=p,
        p_holm=corrected(p, state),
        alpha=row_alpha,
    )


def corrected(p: NDArray, state: NDArray) -> NDArray:
    """Holm's adjusted p values; rows without any count as tests, those of no difference as last."""
    last = np.isnan(p) | (state == NO_DIFFERENCE)
    adjusted, _ = holm(np.where(last, 1.0, p))
    left = p.shape[-1] - (state == DIFFERENT).sum(-1, keepdims=True)
    return np.where(last, np.minimum(p * left, 1), adjusted)


def step_down(p: NDArray, left: NDArray, alpha: float) -> tuple[NDArray, NDArray]:
    """Holm's procedure from where `left` rows are undecided: what it rejects, and at what level."""
    order = np.argsort(p, axis=-1, kind="stable")  # NaN last
    ranked = np.take_along_axis(p, order, -1)
    level = alpha / np.maximum(left - np.arange(p.shape[-1]), 1)
    rejected = np.logical_and.accumulate(ranked <= level * (1 + FORGIVEN), -1)
    back = np.argsort(order, axis=-1)
    return np.take_along_axis(rejected, back, -1), np.take_along_axis(level, back, -1)


def over_all_looks(values: NDArray, declared: Sequential) -> tuple[NDArray, NDArray | None]:
    """Each look's p value as alpha over all looks at which it would just reject, (..., looks).

    Returns those of the tests for a difference and, with a margin, of the two one-sided tests; NaN
    where a look is not complete or of one seed.
    """
    different, equivalent = [], []
    for n in declared.looks:
        there = values[..., :n]
        whole = np.isfinite(there).all(-1) & (there.shape[-1] == n)
        count, mean, sd = summed(np.where(whole[..., None], there, np.nan))
        different.append(p_value(mean, sd, count))
        if declared.margin is not None:
            equivalent.append(equivalence_p_value(mean, sd, count, declared.margin))
    rows = values.shape[-2]
    return (
        as_alphas(np.stack(different, -1), declared, rows, 2),
        as_alphas(np.stack(equivalent, -1), declared, rows, 1) if equivalent else None,
    )


def as_alphas(p: NDArray, declared: Sequential, rows: int, sides: int) -> NDArray:
    """Turn p values (..., looks) into the alphas whose level at that look they just reach.

    Between the nodes it is interpolated; the levels that Holm's procedure asks for are nodes, so
    decisions are exact.
    """
    if len(declared.looks) == 1:
        return p
    asked = declared.alpha / np.arange(1, rows + 1)
    nodes = np.unique([*np.geomspace(1e-8, 0.95, 40), *asked])
    levels = nominal_levels(
        declared.looks, declared.spending, declared.alpha, tuple(map(float, nodes)), sides
    )
    smallest = np.finfo(float).tiny
    known, found = np.log(np.maximum(levels, smallest)), np.log(np.maximum(p, smallest))
    each = [
        np.interp(found[..., k], known[:, k], np.log(nodes), right=0) for k in range(p.shape[-1])
    ]
    return np.exp(np.stack(each, -1))
