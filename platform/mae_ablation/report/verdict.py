"""Verdicts: what a row says about the paper's difference to the baseline, in one word.

The rule, in words, is RULE; the decisions it speaks of are those of `sequential.decide`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mae_ablation.report.limits import margin_allows
from mae_ablation.report.paired import ALPHA, MOST_SEEDS, POWER, seeds_needed, seeds_within
from mae_ablation.report.sequential import Decision

NOISE = 0.2
"""points: what seeds do to a difference of fine-tuned models (the official code's own seeds spread
by 0.07 to 0.08; paper_numbers.yaml)"""

PROBE_NOISE = 0.6
"""points: what training a linear probe again does at most (the official code's models against the
paper's: 0.2, 0.2 and 0.6 points for ViT-B, L and H)"""

MARGINS = {
    "linear_probe_acc1": PROBE_NOISE,
    "knn_acc1": PROBE_NOISE,
    "finetune_acc1": NOISE,
    "partial_acc1": NOISE,
}
"""by metric the equivalence margin, within which a difference of the paper's, which has a single
seed, is no evidence"""

SEEDS = 3
"""pairs that a verdict needs at least: with two, chance alone gives small spreads now and then"""

RULE = (
    f"*verdict*, of our difference to the baseline against the paper's. p values are of two-sided "
    f"t tests paired by seed, corrected by Holm's method over every row of the table, "
    f"references and unfinished rows too, and over all looks that the study declared: where "
    f"nothing has an effect, at most {100 * ALPHA:.0f} % of tables claim one, however often they "
    f"are looked at. *reproduced*: the corrected interval (at the "
    f"level Holm's method decides the row on; "
    f"table.csv has it) excludes zero on the side of the paper's difference. *contradicted*: it "
    f"excludes zero on the other side. Only the direction is compared: a difference of a "
    f"hundredth of the paper's size is reproduced, too, which is why both stand in the cell. "
    f"Where the paper's difference is within a margin, the interval at {ALPHA:g} over the number "
    f"of tests decides instead: reproduced within the margin, contradicted wholly outside. The "
    f"margin is {NOISE} points for fine-tuning (the official code's own seeds spread by 0.07 to "
    f"0.08) and {PROBE_NOISE} for a linear probe (its probes trained again lie up to that far from "
    f"the paper's); the paper itself has one seed of everything. *inconclusive*: neither; in "
    f"brackets how many seeds would decide it with {100 * POWER:.0f} % power if the mean and the "
    f"spread seen were the truth, a guess as rough as the spread of few seeds is; no number stands "
    f"where the difference is smaller than what this many test images allow, their part of its "
    f"standard error where single answers are kept, else the binomial one of the row's accuracy, "
    f"which seeds do not take away. "
    f"Fewer than {SEEDS} seeds decide nothing: inconclusive. Where every seed has the same "
    f"difference the exact sign test takes the t test's place. *no difference*: two one-sided "
    f"tests at the same error find the difference within the margin that the study declared, and "
    f"the test images allow to say so; whether the paper has one stands beside it. *undecided so "
    f"far*: more looks were declared. *incomplete*: a seed is missing, here or in the "
    f"baseline. *not comparable*: a "
    f"stand-in, levels at equal FLOPs, which the paper does not have, or a seed of the row or "
    f"the baseline that lies far from the others or at chance. Verdicts are over seeds, on this "
    f"one test split, and all of this holds for what was declared before the first result: a "
    f"number of seeds, or looks at which rows that are decided stop. Seeds that are added "
    f"otherwise until a row is decided decide too often, and a table that has such seeds says "
    f"that it is descriptive only."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """Of the mean of paired differences, in points."""

    low: float
    high: float

    def sign(self) -> int:
        """1 or -1 where it excludes zero, else 0."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    def within(self, margin: float) -> bool:
        return -margin <= self.low and self.high <= margin

    def outside(self, margin: float) -> bool:
        return self.low > margin or self.high < -margin


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What a row has to say: `corrected` at its Holm level, `strict` at ALPHA over all tests.

    Both are None where there is no interval: no complete look, one seed, or the same difference for
    every one of a few seeds.
    """

    pairs: int = 0
    corrected: Interval | None = None
    strict: Interval | None = None
    no_difference: bool = False
    """found to lie within the margin that the study declared"""


def evidence(
    found: Decision, margin: float | None = None, image_se: float | None = None
) -> Evidence:
    """What a row's verdict rests on.

    Args:
        margin: that the study declared, in points.
        image_se: standard error that the test images add to all seeds, where it is known.
    """
    if np.isnan(found.low) or np.isnan(found.strict_low):
        return Evidence(pairs=found.seeds)
    strict = Interval(low=found.strict_low, high=found.strict_high)
    if found.state == "no_difference":  # its own interval is that of one-sided tests: too narrow
        allowed = margin_allows(margin, image_se)
        return Evidence(pairs=found.seeds, corrected=strict, strict=strict, no_difference=allowed)
    corrected = Interval(low=found.low, high=found.high)
    return Evidence(pairs=found.seeds, corrected=corrected, strict=strict)


def verdict(
    ours: Evidence,
    paper: float | None,
    *,
    complete: bool,
    comparable: bool,
    goes_on: bool = False,
    margin: float = NOISE,
) -> str:
    """ "reproduced", "contradicted", "no difference", "undecided so far", "inconclusive",
    "incomplete", "not comparable"; "" where the paper says nothing.

    Args:
        paper: the paper's difference to the same baseline, in points.
        complete: the row is decided, or has every seed that may be asked for, as the baseline has.
        comparable: nothing of the rows stands in for what the paper used, and levels are compared
            as the paper compares them.
        goes_on: the row is not decided at its last look, and more looks were declared.
        margin: points, within which the paper's difference is none; MARGINS has each metric's.
    """
    if paper is None:
        return ""
    if not comparable:
        return "not comparable"
    if not complete:
        return "incomplete"
    if goes_on:
        return "undecided so far"
    if ours.pairs < SEEDS or ours.corrected is None:
        return "inconclusive"
    if ours.no_difference:
        return "no difference"
    if abs(paper) <= margin:
        outside = "contradicted" if ours.strict.outside(margin) else "inconclusive"
        return "reproduced" if ours.strict.within(margin) else outside
    sides = {0: "inconclusive", 1 if paper > 0 else -1: "reproduced"}
    return sides.get(ours.corrected.sign(), "contradicted")


def seeds_to_decide(
    paper: float, mean: float, sd: float, *, alpha: float, strict: float, margin: float = NOISE
) -> int | None:
    """Seeds that would decide an inconclusive row with 80 % power, were `mean` and `sd` the truth.

    MOST_SEEDS + 1: more than MOST_SEEDS. None where there is no spread to go by.

    Args:
        alpha: the row's Holm level.
        strict: ALPHA over the number of tests.
        margin: as in `verdict`.
    """
    if not sd > 0:
        return None
    if abs(paper) <= margin:
        return max(SEEDS, seeds_within(mean, sd, strict, margin))
    return max(SEEDS, seeds_needed(mean, sd, alpha))


def in_seeds(n: int) -> str:
    """ "about 12 seeds", "more than 100 seeds"."""
    return f"more than {MOST_SEEDS} seeds" if n > MOST_SEEDS else f"about {n} seeds"


def worded(row: Mapping) -> str:
    """A row's verdict with what it rests on: "reproduced: -0.07 against the paper's -10.0".

    An inconclusive one names the seeds that would decide it, or the test images that will not let
    any number of seeds do so.
    """
    said, needed, limit = row["verdict"], row.get("seeds_needed"), row.get("image_se")
    if limit is None or pd.isna(limit):
        limit = row.get("test_error")
    if said in ("reproduced", "contradicted"):
        ours, paper = row["difference"], row["paper_difference"]
        margin = MARGINS[row["metric"]]
        near = f", a difference within {margin:g}" if abs(paper) <= margin else ""
        return f"{said}: {ours:+.2f} against the paper's {paper:+.1f}{near}"
    if said == "no difference":
        ours, paper = row["difference"], row["paper_difference"]
        same = "nor" if abs(paper) <= MARGINS[row["metric"]] else "but"
        return (
            f"{said} of more than {row['margin']:g}: {ours:+.2f}, {same} the paper's {paper:+.1f}"
        )
    if needed is None or pd.isna(needed):
        return said
    if limit is not None and abs(row["difference"]) < limit:
        return f"{said} (smaller than the test split's own error, ±{limit:.2f})"
    return f"{said} ({in_seeds(int(needed))})"


def headline(rows: pd.DataFrame) -> str:
    """The verdicts of one quantity's rows in one sentence, or what is decided where the paper has
    none of them; "" where there is nothing."""
    given = [v for v in rows["verdict"] if v]
    if not given:
        return decisions_counted(rows)
    words = counted_words(given)
    alone = rows["seeds_asked"].max() < SEEDS
    why = f" (fewer than {SEEDS} seeds decide nothing)" if alone else ""
    signs = "; directions are compared, not sizes" if by_sign(rows) else ""
    differences = "1 difference" if len(given) == 1 else f"{len(given)} differences"
    return f"Against the paper, of {differences} to the baseline: {words}{why}{signs}."


def decisions_counted(rows: pd.DataFrame) -> str:
    """What a study that declares looks or a margin has decided of its levels, in one sentence."""
    levels = rows[rows["kind"] == "level"] if "decided" in rows else rows[:0]
    given = [decision_word(row) for row in levels.to_dict("records") if row["decided"]]
    differences = "1 difference" if len(given) == 1 else f"{len(given)} differences"
    return f"Of {differences} to the baseline: {counted_words(given)}." if given else ""


def decision_word(row: Mapping) -> str:
    """A row's decision without its seeds; what the test images do not let be said is another."""
    said, limit = re.split(" after|,", row["decided"])[0], row.get("image_se")
    if said == "no difference" and pd.notna(limit) and not margin_allows(row["margin"], limit):
        return "within the error of the test images"
    return said


def counted_words(given: Sequence[str]) -> str:
    """ "2 reproduced, 1 inconclusive", in the order of the first of each."""
    return ", ".join(f"{given.count(word)} {word}" for word in dict.fromkeys(given))


def by_sign(rows: pd.DataFrame) -> bool:
    """Whether some row is decided by the direction of its difference, rather than by a margin."""
    decided = rows[rows["verdict"].isin(("reproduced", "contradicted"))].to_dict("records")
    return any(abs(row["paper_difference"]) > MARGINS[row["metric"]] for row in decided)
