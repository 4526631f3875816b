"""Verdicts: what a row says about the paper's difference to the baseline, in one word.

The rule, in words, is templates/verdict_rule.md; its decisions are those of `sequential.decide`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mae_ablation.report import paired
from mae_ablation.report.metrics import NOISE, is_accuracy, quantity_of
from mae_ablation.report.paired import MOST_COUNTED
from mae_ablation.report.sequential import Decision, decide, format_decision, is_hidden
from mae_ablation.report.spread import DifferenceError
from mae_ablation.study.reference import Reference
from mae_ablation.study.seeds import FEWEST, Sequential

# every verdict with its sign on the page of a suite; signs differ in shape, not in colour
SIGNS = {
    "reproduced": "✓",
    "contradicted": "✗",
    "no difference": "≈",
    "undecided so far": "→",
    "inconclusive": "○",
    "incomplete": "…",
    "not comparable": "–",
}

NO_SPREAD = "the same difference for every seed: exact sign test"
IMAGES_ERR = "within the margin by its seeds, but test images alone err by {:.2f} points"
# columns of the table, and the attributes of `PairedTests` they show
OVER_ALL_SEEDS = {"difference": "mean", "difference_sd": "sd", "low": "low", "high": "high"}

# columns of the table, and the attributes of `Decision` they show
AT_THE_LOOK = {"p": "p", "p_holm": "p_holm", "corrected_low": "low", "corrected_high": "high"}

COMPARISON = (*OVER_ALL_SEEDS, *AT_THE_LOOK, "boot_low", "boot_high")


def reach_verdict(
    found: Decision | None,
    paper: float | None,
    *,
    complete: bool,
    comparable: bool,
    hidden: bool = False,
    goes_on: bool = False,
    margin: float = NOISE,
) -> str:
    """Return one of SIGNS; "" where the paper says nothing.

    Args:
        found: decision on the row, None where it is no test.
        paper: the paper's difference to the same baseline, in points.
        complete: the row is decided, or has every seed that may be asked for, as the baseline has.
        comparable: nothing of the rows stands in for what the paper used, and levels are compared
            as the paper compares them.
        hidden: the test images do not let the row be called no different.
        goes_on: the row is not decided at its last look, and more looks were declared.
        margin: points, within which the paper's difference is none.
    """
    # what withholds a verdict
    if paper is None:
        return ""
    if not comparable:
        return "not comparable"
    if not complete:
        return "incomplete"
    if goes_on:
        return "undecided so far"
    if found is None or found.seeds < FEWEST or np.isnan([found.low, found.strict_low]).any():
        return "inconclusive"

    # the margin decides where the paper has no difference, else the direction
    none = found.state == "no_difference"
    if none and not hidden:
        return "no difference"
    if abs(paper) <= margin:
        if -margin <= found.strict_low and found.strict_high <= margin:
            return "reproduced"
        outside = found.strict_low > margin or found.strict_high < -margin
        return "contradicted" if outside else "inconclusive"
    # the interval of one-sided tests is too narrow to tell the direction
    low, high = (found.strict_low, found.strict_high) if none else (found.low, found.high)
    if low <= 0 <= high:
        return "inconclusive"
    return "reproduced" if (low > 0) == (paper > 0) else "contradicted"


def count_seeds_to_decide(
    paper: float, mean: float, sd: float, *, alpha: float, strict: float, margin: float = NOISE
) -> int | None:
    """Count the seeds that would decide an inconclusive row with 80 % power, were `mean` and `sd`
    the truth; None where there is no spread to go by.

    Args:
        alpha: the row's Holm level.
        strict: the study's alpha over the number of tests.
        margin: as in `reach_verdict`.
    """
    if not sd > 0:
        return None
    if abs(paper) <= margin:
        return max(FEWEST, paired.count_seeds_within(mean, sd, strict, margin))
    return max(FEWEST, paired.count_seeds_needed(mean, sd, alpha))


def judge_rows(
    lines: list[dict],
    differences: np.ndarray,
    declared: Sequential,
    errors: Mapping[int, DifferenceError],
    references: Sequence[Reference] = (),
) -> None:
    """Complete a quantity's lines of the table with their comparison to the baseline.

    Args:
        differences: to the baseline (rows, seeds), seeds in the declared order.
        declared: looks that were declared before the first result.
        errors: by a line's place, what seeds and test images add to its error, where it is known.
        references: published numbers beside the paper's, which get verdicts of their own.
    """
    # accuracies are compared with the paper, losses and hours are not
    seeds, judged = range(differences.shape[1]), is_accuracy(lines[0]["metric"])
    family = {i: dict(enumerate(differences[i])) for i, line in enumerate(lines) if line["tested"]}
    decisions, found = decide(family, declared, seeds), paired.compare_pairs(differences)
    margin = {"margin": quantity_of(lines[0]["metric"]).margin} if judged else {}
    for i, line in enumerate(lines):
        # What is seen: over all seeds, corrected for nothing.
        notes, error = [line["note"]], errors.get(i)
        boot = paired.bootstrap(differences[i][np.isfinite(differences[i])]) or (None, None)
        line |= {column: getattr(found, name)[i] for column, name in OVER_ALL_SEEDS.items()}
        line |= {"boot_low": boot[0], "boot_high": boot[1]}
        if errors:
            both = error.interval() if error else (np.nan, np.nan)
            line |= {name: getattr(error, name, np.nan) for name in ("seed_se", "image_se")}
            line |= {"both_low": both[0], "both_high": both[1]}
        notes += [NO_SPREAD] if found.sd[i] == 0 else []

        # What is decided.
        decided, image_se = decisions.get(i), error and error.image_se
        is_decided = decided is not None and not decided.is_open
        line |= {column: getattr(decided, name, np.nan) for column, name in AT_THE_LOOK.items()}
        hidden = decided is not None and is_hidden(decided, declared.margin, image_se)
        notes += [IMAGES_ERR.format(image_se)] if hidden else []
        line["note"] = "; ".join(filter(None, notes))
        if declared.margin is not None:
            line["margin"] = declared.margin
        if judged and (declared.margin is not None or len(declared.looks) > 1):
            line["decided"] = format_decision(decided, declared, hidden=hidden) if decided else ""

        # What the paper says to it.
        paper = line["paper_difference"] if judged else None
        facts = {
            "complete": line["complete"] or is_decided,
            "comparable": line["comparable"],
            "hidden": hidden,
            "goes_on": decided is not None and not is_decided and decided.goes_on(declared),
            **margin,
        }
        line["verdict"] = reach_verdict(decided, paper, **facts)
        given = [line[difference_column(each)] for each in references]
        for each, theirs in zip(references, given, strict=True):
            line[verdict_column(each)] = reach_verdict(decided, theirs, **facts)
        if references:
            line["agreement"] = describe_agreement([paper, *given], margin["margin"])
        if line["verdict"] == "inconclusive" and decided and not hidden:
            levels = {"alpha": decided.alpha, "strict": declared.alpha / len(family), **margin}
            line["seeds_needed"] = count_seeds_to_decide(
                paper, found.mean[i], found.sd[i], **levels
            )


def number_column(reference: Reference) -> str:
    """Name the column of a reference's numbers."""
    return f"reference: {reference.source}"


def difference_column(reference: Reference) -> str:
    """Name the column of a reference's differences to the baseline."""
    return f"{number_column(reference)}, difference"


def verdict_column(reference: Reference) -> str:
    """Name the column of the verdicts on a reference's differences."""
    return f"{number_column(reference)}, verdict"


def describe_agreement(differences: Sequence[float | None], margin: float) -> str:
    """Say whether references go the same way: "agree", "differ"; "" of fewer than two.

    Args:
        differences: to the baseline, in points; None where a reference has none.
        margin: points, within which a difference is none.
    """
    # up, down, or a difference within the margin, which is a way of its own
    known = [each for each in differences if each is not None]
    ways = {0 if abs(each) <= margin else 1 if each > 0 else -1 for each in known}
    return "" if len(known) < 2 else "agree" if len(ways) == 1 else "differ"


def format_verdict(row: Mapping) -> str:
    """Format a row's verdict with its reason: "reproduced: -0.07 against the paper's -10.0"."""
    said, needed, limit = row["verdict"], row.get("seeds_needed"), row.get("image_se")
    if said in ("reproduced", "contradicted", "no difference"):
        ours, paper = row["difference"], row["paper_difference"]
        margin = quantity_of(row["metric"]).margin
        near = abs(paper) <= margin
        if said == "no difference":
            same = "nor" if near else "but"
            size = f"of more than {row['margin']:g}"
            return f"{said} {size}: {ours:+.2f}, {same} the paper's {paper:+.1f}"
        within = f", a difference within {margin:g}" if near else ""
        return f"{said}: {ours:+.2f} against the paper's {paper:+.1f}{within}"
    if needed is None or pd.isna(needed):
        return said

    # the seeds that would decide it, or the test images that will not let any number do so
    if limit is None or pd.isna(limit):
        limit = row.get("test_error")
    if limit is not None and abs(row["difference"]) < limit:
        return f"{said} (smaller than the test split's own error, ±{limit:.2f})"
    few = f"more than {MOST_COUNTED}" if needed > MOST_COUNTED else f"about {int(needed)}"
    return f"{said} ({few} seeds)"


def is_decided_by_sign(rows: pd.DataFrame) -> bool:
    """Say whether the direction of some row's difference decides it, rather than a margin."""
    decided = rows[rows["verdict"].isin(("reproduced", "contradicted"))].to_dict("records")
    return any(abs(row["paper_difference"]) > quantity_of(row["metric"]).margin for row in decided)
