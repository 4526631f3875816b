"""Decisions on a table's rows by tests that may be looked at: different, no difference, undecided.

The paired t test of each look, with Holm's procedure over the rows: a row that is rejected at any
look stays rejected, and the others go on with alpha over the rows left, at all looks so far (Ye,
Li, Liu and Yao 2013; Maurer and Bretz 2013). A row counts with the looks that it has completed, so
what is decided does not depend on which trial came first.

Differences and equivalences are two families: each keeps its error on its own, and a row that is
decided as no different passes nothing on to the tests for a difference.

Each look has a level of its own, so that all looks together make no more error than allowed. Lan
and DeMets (1983): a spending function says how much of alpha is spent by each share of the most
seeds. The level follows by integration from look to look (Armitage, McPherson and Rowe 1969;
Jennison and Turnbull 2000, ch. 19), here over Student's t itself: with few seeds the usual levels,
of Brownian motion, make an error of 5.7 % instead of 5. Deterministic. One dimension is enough: the
cosine between a row's differences and a constant, of which t is a function, does not depend on
their length, so that from look to look the cosines are a Markov chain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import beta, fdtr, ndtr, ndtri, roots_legendre, stdtrit

from mae_ablation.report.paired import equivalence_p_value, half_width, holm, p_value, summarise
from mae_ablation.report.spread import margin_allows
from mae_ablation.study.seeds import Sequential

RowState = Literal["undecided", "different", "no_difference"]
STATES: tuple[RowState, ...] = ("undecided", "different", "no_difference")
UNDECIDED, DIFFERENT, NO_DIFFERENCE = range(3)  # places in STATES
# said of a row that the seeds find no different, where the test images do not allow the claim
HIDDEN_BY_IMAGES = "within the error of the test images"

FORGIVEN = 1e-9  # relative rounding error of a p value that is exactly at its level
FARTHEST = 6.4  # normal score of the rarest t that is told apart: p of 1.6e-10
CELLS = 160  # cells between -FARTHEST and FARTHEST, fine enough for levels to 0.5 % of themselves
NODES = 32  # nodes of the quadrature within a cell
SMALLEST = np.finfo(float).tiny


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A row's state, with the numbers of the look that its evidence stands at, in points.

    NaN stands where there is no complete look, or too few seeds without any spread.
    """

    state: RowState
    look: int | None  # index of the look that decided it
    seeds: int  # seeds used for it; of an undecided row those of its last complete look, or 0
    difference: float
    low: float
    """`low` and `high`: repeated confidence interval, without zero where the row is different,
    within the margin (at the level of a one-sided test) where it is no different."""
    high: float
    p: float  # p value of the test for a difference over all its looks
    p_holm: float
    """`p` corrected for the rows; at most alpha where the row is different, and only there."""
    alpha: float  # error of the row over all looks, after Holm's procedure
    strict_low: float
    """`strict_low` and `strict_high`: repeated interval at alpha over the number of rows."""
    strict_high: float

    @property
    def is_open(self) -> bool:
        return self.state == "undecided"

    def goes_on(self, declared: Sequential) -> bool:
        """Say whether an undecided row may still take seeds."""
        return self.seeds < declared.most


def format_decision(found: Decision, declared: Sequential, *, hidden: bool = False) -> str:
    """Format "different after 3 seeds", "undecided so far, 5 of 20 seeds".

    `hidden`: the test images do not allow that the row is called no different.
    """
    if found.is_open and found.goes_on(declared):
        return f"undecided so far, {found.seeds} of {declared.most} seeds"
    state = HIDDEN_BY_IMAGES if hidden else found.state.replace("_", " ")
    return f"{state} after {found.seeds} seeds"


def is_hidden(found: Decision, margin: float | None, image_se: float | None) -> bool:
    """Say whether the seeds find a row no different, and the test images do not let that be
    said, by the standard error that they add to all seeds; None where it is not known."""
    return found.state == "no_difference" and not margin_allows(margin, image_se)


class TableTests(NamedTuple):
    """Decisions on many tables at once; arrays (..., rows)."""

    state: NDArray  # UNDECIDED, DIFFERENT or NO_DIFFERENCE
    look: NDArray
    """Look whose evidence decided the row; the last complete one of an undecided row, -1: none."""
    stopped: NDArray
    """Look at which the row could stop: later where other rows had to be decided first."""
    p: NDArray
    p_holm: NDArray
    alpha: NDArray


def decide(
    differences: Mapping[Any, Mapping[int, float]], declared: Sequential, seeds: Sequence[int]
) -> dict[Any, Decision]:
    """Decide on every row of one column as far as its seeds go.

    Args:
        differences: by row and seed, to the baseline, in points; every row that was declared, those
            without a result too. Seeds beyond a row's last complete look do not count yet.
        seeds: in the declared order.
    """
    rows = [[row.get(seed, np.nan) for seed in seeds] for row in differences.values()]
    values = np.array(rows, float).reshape(len(rows), len(seeds))
    found, decisions = run_sequential_tests(values, declared), {}
    for i, name in enumerate(differences):
        # its intervals are of the look that its evidence stands at
        state, look, alpha = STATES[found.state[i]], int(found.look[i]), float(found.alpha[i])
        n = declared.looks[look] if look >= 0 else 0
        sides = 1 if state == "no_difference" else 2
        low, high = repeated_interval(values[i], look, declared, alpha, sides)
        strict = repeated_interval(values[i], look, declared, declared.alpha / len(rows))
        decisions[name] = Decision(
            state=state,
            look=None if state == "undecided" else look,
            seeds=n,
            difference=float(summarise(values[i, :n])[1]) if n else np.nan,
            low=low,
            high=high,
            p=float(found.p[i]),
            p_holm=float(found.p_holm[i]),
            alpha=alpha,
            strict_low=strict[0],
            strict_high=strict[1],
        )
    return decisions


def repeated_interval(
    row: NDArray, look: int, declared: Sequential, alpha: float, sides: int = 2
) -> tuple[float, float]:
    """Return the interval of a row's mean difference at one look, valid at all looks together.

    `sides`: 1 for the interval that lies within the margin exactly where two one-sided tests do.
    """
    if look < 0:
        return np.nan, np.nan
    level = nominal_levels(declared.looks, declared.spending, declared.alpha, (alpha,), sides)
    n, mean, sd = summarise(row[: declared.looks[look]])
    half = half_width(sd, n, level[0, look] * (2 / sides))
    return float(mean - half), float(mean + half)


def run_sequential_tests(differences: ArrayLike, declared: Sequential) -> TableTests:
    """Test all rows of one or many tables (..., rows, seeds), NaN where a seed is missing."""
    values = np.asarray(differences, float)
    rows = values.shape[-2]
    different, equivalent = _p_of_looks(values, declared)
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
            rejected, alpha = _step_down(np.where(state == 0, best, np.nan), left, declared.alpha)
            at_all = p[..., : now + 1] <= (alpha * (1 + FORGIVEN))[..., None]
            look = np.where(rejected, at_all.argmax(-1), look)
            stopped = np.where(rejected, now, stopped)
            row_alpha = np.where(rejected, alpha, row_alpha)
            state = np.where(rejected, code, state)

    # What is left has alpha over the rows left; p values are of the looks up to the decision.
    left = rows - (state == DIFFERENT).sum(-1, keepdims=True)
    row_alpha = np.where(np.isnan(row_alpha), declared.alpha / np.maximum(left, 1), row_alpha)
    seen = np.arange(len(declared.looks)) <= stopped[..., None]
    p = np.fmin.reduce(np.where(seen, different, np.nan), -1)

    # Rows without any p count as tests, those of no difference as the last ones.
    last = np.isnan(p) | (state == NO_DIFFERENCE)
    p_holm = np.where(last, np.minimum(p * left, 1), holm(np.where(last, 1.0, p)))
    return TableTests(state=state, look=look, stopped=stopped, p=p, p_holm=p_holm, alpha=row_alpha)


def _step_down(p: NDArray, left: NDArray, alpha: float) -> tuple[NDArray, NDArray]:
    """Apply Holm's procedure to the rows left; returns what it rejects, and at what level."""
    order = np.argsort(p, axis=-1, kind="stable")  # NaN last
    ranked = np.take_along_axis(p, order, -1)
    level = alpha / np.maximum(left - np.arange(p.shape[-1]), 1)
    rejected = np.logical_and.accumulate(ranked <= level * (1 + FORGIVEN), -1)
    back = np.argsort(order, axis=-1)
    return np.take_along_axis(rejected, back, -1), np.take_along_axis(level, back, -1)


def _p_of_looks(values: NDArray, declared: Sequential) -> tuple[NDArray, NDArray | None]:
    """Return each look's p value as the alpha over all looks at which it would just reject.

    First those of the tests for a difference (..., looks), then, with a margin, of the two
    one-sided tests.
    """
    # NaN where a look is not complete or of one seed
    different, equivalent = [], []
    for n in declared.looks:
        there = values[..., :n]
        whole = np.isfinite(there).all(-1) & (there.shape[-1] == n)
        count, mean, sd = summarise(np.where(whole[..., None], there, np.nan))
        different.append(p_value(mean, sd, count))
        if declared.margin is not None:
            equivalent.append(equivalence_p_value(mean, sd, count, declared.margin))
    rows = values.shape[-2]
    return (
        _as_alphas(np.stack(different, -1), declared, rows, 2),
        _as_alphas(np.stack(equivalent, -1), declared, rows, 1) if equivalent else None,
    )


def _as_alphas(p: NDArray, declared: Sequential, rows: int, sides: int) -> NDArray:
    """Turn p values (..., looks) into the alphas whose level at that look they just reach."""
    if len(declared.looks) == 1:
        return p
    # between nodes it is interpolated; those that Holm's procedure asks for make decisions exact
    asked = declared.alpha / np.arange(1, rows + 1)
    nodes = np.unique([*np.geomspace(1e-8, 0.95, 40), *asked])
    alphas = tuple(map(float, nodes))
    levels = nominal_levels(declared.looks, declared.spending, declared.alpha, alphas, sides)
    known, found = np.log(np.maximum(levels, SMALLEST)), np.log(np.maximum(p, SMALLEST))
    looks, nodes = range(p.shape[-1]), np.log(nodes)
    each = [np.interp(found[..., k], known[:, k], nodes, right=0) for k in looks]
    return np.exp(np.stack(each, -1))


@lru_cache(maxsize=64)
def nominal_levels(
    looks: tuple[int, ...], spending: str, alpha: float, alphas: tuple[float, ...], sides: int
) -> NDArray:
    """Return the level of the p value of Student's t at each look, (alphas, looks).

    Args:
        looks: seeds at each look.
        alpha: the study's, which gives the curve its form.
        alphas: error over all looks, each below 1.
        sides: 2 for a difference, 1 for each of the tests of an equivalence.
    """
    if len(looks) == 1:
        return np.array(alphas)[:, None]
    each, edges = np.array(alphas), np.linspace(-FARTHEST, FARTHEST, CELLS + 1)
    levels, before = [], np.zeros_like(each)
    beyond = np.broadcast_to(ndtr(-edges), (len(each), len(edges)))  # chance to lie beyond an edge
    for k, seeds in enumerate(looks):
        # The bound is where as much lies beyond it as may be spent here.
        now = each * _spent_part(seeds / looks[-1], spending, alpha)
        tail = np.minimum((now - before) / sides, beyond[:, CELLS // 2 if sides == 2 else 0])
        bounds = [_crossing(*pair, edges) for pair in zip(tail, beyond, strict=True)]
        levels.append(sides * ndtr(-np.array(bounds)))
        # Studies that lie within the bounds go on.
        whole, tail, before = beyond[:, :1], tail[:, None], now
        inside = -np.diff(np.clip(beyond, tail, whole - tail if sides == 2 else whole), axis=-1)
        if k + 1 < len(looks):
            beyond = inside @ _transition(seeds, looks[k + 1] - seeds)
    return np.stack(levels, -1)


def _spent_part(share: float, spending: str, alpha: float) -> float:
    """Return the part of alpha that is spent once a share of the most seeds is there."""
    # a row that has only a part of the study's alpha spends it by the same curve
    if spending == "pocock":
        return float(np.log1p((np.e - 1) * share))
    return float(2 * ndtr(ndtri(alpha / 2) / np.sqrt(share)) / alpha)


def _crossing(tail: float, beyond: NDArray, edges: NDArray) -> float:
    """Return the normal score beyond which a tail lies."""
    known = np.log(np.maximum(beyond[::-1], SMALLEST))
    return float(np.interp(np.log(max(tail, SMALLEST)), known, edges[::-1]))


@lru_cache(maxsize=64)
def _transition(seeds: int, more: int) -> NDArray:
    """Return the chance that t lies beyond each edge after more seeds, from each cell's middle,
    (cells, edges). Scores are normal: of t with its own degrees of freedom, before and after."""
    edges = np.linspace(-FARTHEST, FARTHEST, CELLS + 1)
    middles, half = (edges[1:] + edges[:-1]) / 2, CELLS // 2
    upper = _beyond_score(middles, edges[half:], seeds, more)
    return np.concatenate([1 - upper[::-1, :0:-1], upper], -1)  # by symmetry


def _beyond_score(before: NDArray, after: NDArray, seeds: int, more: int) -> NDArray:
    """Return the chance of a score beyond `after`, 0 or more, given `before`; (before, after).

    In units of the length of the differences so far, the sum of the new ones is sqrt(more) * a,
    where sqrt(seeds) * a has Student's t distribution with `seeds` degrees of freedom; the rest of
    their length, over 1 + a^2, is a ratio of chi squares. Integrated over a between the roots of
    (sum so far + sqrt(more) * a)^2 = after^2 * (1 + a^2).
    """
    # the roots
    total, root = (np.sqrt(seeds) * _cosine(before, seeds))[:, None], np.sqrt(more)
    wanted = ((seeds + more) * _cosine(after, seeds + more) ** 2)[None, :]
    lead = more - wanted
    lead = np.where(np.abs(lead) < 1e-9, 1e-9, lead)
    radicand = wanted * (total**2 + lead)
    width = np.sqrt(np.maximum(radicand, 0))
    low = (width - total * root) / lead
    high = np.where(lead > 0, np.inf, (-width - total * root) / lead)
    possible = (radicand >= 0) & ((lead > 0) | (total > 0))

    # The density of arctan(a) is a power of its cosine, and narrow with many seeds.
    unit, weight = roots_legendre(NODES)
    farthest = min(np.pi / 2, 9 / np.sqrt(seeds))
    start, end = (
        np.clip(np.arctan(np.where(possible, side, 0)), -farthest, farthest) for side in (low, high)
    )
    half = np.maximum(end - start, 0) / 2
    angle = ((start + end) / 2)[..., None] + half[..., None] * unit
    density = np.cos(angle) ** (seeds - 1) / beta(seeds / 2, 0.5)
    if more > 1:
        reach = (total[..., None] * np.cos(angle) + root * np.sin(angle)) ** 2
        room = np.maximum(reach / np.maximum(wanted, 1e-12)[..., None] - 1, 0)
        density = density * fdtr(more - 1, seeds + 1, room * (seeds + 1) / (more - 1))
    return np.where(possible, (density * weight).sum(-1) * half, 0.0)


def _cosine(score: NDArray, seeds: int) -> NDArray:
    """Return the cosine between differences and a constant, from the normal score of their t."""
    t = stdtrit(seeds - 1, ndtr(score))
    return t / np.sqrt(t**2 + seeds - 1)
