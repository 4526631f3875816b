"""Verdicts: what a row says about the paper's difference to the baseline, in one word.

The difference is paired by seed. Its 95 % interval is Student's t over the seeds both rows have;
one seed has no interval.
"""

from dataclasses import dataclass

import pandas as pd
from scipy import stats

CONFIDENCE = 0.95
NOISE = 0.2
"""points: a difference in the paper up to this is no evidence (the official code's own seeds of
fine-tuning spread by 0.07 to 0.08; paper_numbers.yaml)"""

SEEDS = 3
"""pairs that a verdict needs at least: with two, chance alone gives small spreads now and then"""

RULE = (
    f"*verdict*, against the sign of the paper's difference to the baseline: reproduced or "
    f"contradicted where the {CONFIDENCE:.0%} t interval of our paired difference excludes zero, "
    f"else inconclusive; the paper's own differences up to {NOISE} points, about what seeds do to "
    f"its fine-tuning, count as noise, and fewer than {SEEDS} seeds decide nothing: "
    f"inconclusive. Fewer seeds than asked: incomplete. A "
    f"stand-in, or levels at equal FLOPs, which the paper does not have, are not comparable. "
    f"Intervals are not corrected for the number of rows."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """Mean of paired differences, and its interval; None with fewer than two pairs."""

    mean: float | None
    low: float | None = None
    high: float | None = None
    pairs: int = 0

    def decides(self) -> bool:
        """It rests on enough pairs, and excludes zero."""
        return self.pairs >= SEEDS and not self.low <= 0 <= self.high


def interval(differences: pd.Series) -> Interval:
    """Student's t interval of the mean of paired differences."""
    values = differences.dropna()
    if values.empty:
        return Interval(mean=None)
    if len(values) < 2:
        return Interval(mean=values.mean())
    mean, n = values.mean(), len(values)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.sem()
    return Interval(mean=mean, low=mean - half, high=mean + half, pairs=n)


def verdict(ours: Interval, paper: float | None, *, complete: bool, comparable: bool) -> str:
    """ "reproduced", "contradicted", "inconclusive", "incomplete", "not comparable"; "" where the
    paper says nothing.

    Args:
        paper: the paper's difference to the same baseline, in points.
        complete: every seed that was asked for is there, for this row and the baseline.
        comparable: nothing of the rows stands in for what the paper used, and levels are compared
            as the paper compares them.
    """
    if paper is None:
        return ""
    if not comparable:
        return "not comparable"
    if not complete:
        return "incomplete"
    if abs(paper) <= NOISE or not ours.decides():
        return "inconclusive"
    return "reproduced" if (ours.mean > 0) == (paper > 0) else "contradicted"


def headline(verdicts: list[str], seeds: int) -> str:
    """All verdicts of a table in one sentence."""
    given = [v for v in verdicts if v]
    if not given:
        return ""
    counts = {v: given.count(v) for v in dict.fromkeys(given)}
    words = ", ".join(f"{n} {v}" for v, n in counts.items())
    alone = f" Fewer than {SEEDS} seeds decide nothing." if seeds < SEEDS else ""
    differences = "1 difference" if len(given) == 1 else f"{len(given)} differences"
    return f"Against the paper, of {differences} to the baseline: {words}.{alone}"
