"""Judge: the rows of one quantity, compared with their baseline and with the paper."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mae_ablation.report.limits import Split, margin_allows
from mae_ablation.report.paired import bootstrap, compared
from mae_ablation.report.sequential import Decision, decide, format_decision
from mae_ablation.report.verdict import MARGINS, Evidence, evidence, seeds_to_decide, verdict
from mae_ablation.study.sequential import Sequential

NO_SPREAD = "the same difference for every seed: exact sign test"
HIDDEN = "within the margin by its seeds, but test images alone err by {:.2f} points"
COMPARED = {
    "difference": "mean",
    "difference_sd": "sd",
    "low": "low",
    "high": "high",
}
"""columns, and what of `Compared` they are: over every seed that is there"""

DECIDED = {"p": "p", "p_holm": "p_holm", "corrected_low": "low", "corrected_high": "high"}
"""columns, and what of `Decision` they are: over the seeds of a complete look"""

COMPARISON = (*COMPARED, *DECIDED, "boot_low", "boot_high")
SPLIT = {"seed_se": "seed_se", "image_se": "image_se", "both_low": "low", "both_high": "high"}
"""columns, and what of `Split` they are: only there where answers to test images are kept"""


def differences(by_row: dict[int, pd.DataFrame], baseline: int, lines: list[dict]) -> np.ndarray:
    """To the baseline, (rows, seeds); NaN where a seed is missing, and in rows not compared."""
    seeds = by_row[baseline].index
    values = np.array([by_row[i]["value"].reindex(seeds).astype(float) for i in sorted(by_row)])
    paired = values - by_row[baseline]["value"].astype(float).to_numpy()
    told = [line["kind"] != "baseline" and line["alike"] for line in lines]
    return np.where(np.array(told)[:, None], paired, np.nan)


def judge(
    lines: list[dict],
    paired: np.ndarray,
    declared: Sequential,
    splits: Mapping[int, Split],
    *,
    judged: bool,
) -> None:
    """Complete the lines of one quantity with their comparison to the baseline.

    Args:
        paired: differences (rows, seeds), seeds in the declared order.
        declared: looks that were declared before the first result.
        splits: by a line's place, what seeds and test images add to its error, where it is known.
        judged: whether the paper is compared with: accuracies are.
    """
    seeds = range(paired.shape[1])
    family = {str(i): dict(enumerate(paired[i])) for i, line in enumerate(lines) if line["tested"]}
    decisions, found = decide(family, declared, seeds), compared(paired)
    for i, line in enumerate(lines):
        # What is seen: over all seeds, corrected for nothing.
        boot = bootstrap(paired[i][np.isfinite(paired[i])]) or (None, None)
        line |= {column: getattr(found, name)[i] for column, name in COMPARED.items()}
        line |= {"boot_low": boot[0], "boot_high": boot[1]}
        split = splits.get(i)
        if splits:
            line |= {column: getattr(split, name, np.nan) for column, name in SPLIT.items()}
        if found.sd[i] == 0:
            add_note(line, NO_SPREAD)

        # What is decided.
        decided, image_se = decisions.get(str(i)), split and split.image_se
        line |= {column: getattr(decided, name, np.nan) for column, name in DECIDED.items()}
        hidden = is_hidden(decided, declared.margin, image_se)
        if hidden:
            add_note(line, HIDDEN.format(image_se))
        if declared.margin is not None:
            line["margin"] = declared.margin
        if judged and (declared.margin is not None or len(declared.looks) > 1):
            line["decided"] = format_decision(decided, declared) if decided else ""

        # What the paper says to it.
        paper = line["paper_difference"] if judged else None
        margin = {"margin": MARGINS[line["metric"]]} if judged else {}
        line["verdict"] = verdict(
            evidence(decided, declared.margin, image_se) if decided else Evidence(),
            paper,
            complete=line["complete"] or is_decided(decided),
            comparable=line["comparable"],
            goes_on=decided is not None and not is_decided(decided) and decided.goes_on(declared),
            **margin,
        )
        if line["verdict"] == "inconclusive" and decided and not hidden:
            levels = {"alpha": decided.alpha, "strict": declared.alpha / len(family), **margin}
            line["seeds_needed"] = seeds_to_decide(paper, found.mean[i], found.sd[i], **levels)


def add_note(line: dict, text: str) -> None:
    line["note"] = "; ".join(filter(None, [line["note"], text]))


def is_decided(found: Decision | None) -> bool:
    return found is not None and found.state != "undecided"


def is_hidden(found: Decision | None, margin: float | None, image_se: float | None) -> bool:
    """Whether the seeds find a row no different, and the test images do not let it be said."""
    return (
        found is not None and found.state == "no_difference" and not margin_allows(margin, image_se)
    )
