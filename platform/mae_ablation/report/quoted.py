"""The sentence of a table that a reader would quote: what the baseline beats, and what it does not.

Only rows that are decided are named as decided; a table without any has no such sentence.
"""

from collections.abc import Mapping

import pandas as pd

from mae_ablation.report.limits import margin_allows
from mae_ablation.report.results import HOURS, LOSS
from mae_ablation.report.verdict import MARGINS
from mae_ablation.study.plan import Plan

BESIDE_THE_PAPER = {
    "reproduced": "as in the paper",
    "contradicted": "against the paper",
    "paper differs": "where the paper has a difference",
}
SAME = "no difference"


def quoted(plan: Plan, metric: str, rows: pd.DataFrame) -> str:
    """One sentence on a quantity's levels; "" where none of them is decided, where the study varies
    several factors, or where lower is better.

    Args:
        rows: the quantity's lines of the table.
    """
    levels, study = rows[rows["kind"] == "level"], plan.study
    if metric in (LOSS, HOURS) or len(set(levels["factor"])) != 1 or len(study.factors) != 1:
        return ""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in levels.to_dict("records"):
        groups.setdefault(relation(row), []).append(str(row["level"]))
    open_rows = groups.pop(("", ""), [])
    if not groups:
        return ""
    parts = [clause(group, ", ".join(names)) for group, names in groups.items()]
    parts += [f"is not told from {', '.join(open_rows)}"] if open_rows else []
    [baseline] = [row.label for row in plan.rows if row.is_baseline]
    what = f"{levels['factor'].iloc[0].replace('_', ' ')} {baseline}"
    where = f"{study.baseline.data.name}, recipe {study.recipe_name}"
    where += f" with {', '.join(study.changed)}" if study.changed else ""
    return f"On {where}: {what} {'; '.join(parts)}."


def relation(row: Mapping) -> tuple[str, str]:
    """How the baseline stands to a row ("beats", "loses to", "does not differ by more than 1 from")
    and which key of BESIDE_THE_PAPER goes with it; ("", "") where that is not decided."""
    verdict, decided = row["verdict"], row.get("decided") or ""
    said = verdict if verdict in BESIDE_THE_PAPER else ""
    margin = MARGINS[row["metric"]]

    # Within a margin: the study's own, or that of a difference which the paper does not have.
    if decided.startswith(SAME) and margin_allows(row["margin"], number(row.get("image_se"))):
        if verdict == SAME:
            said = "reproduced" if abs(row["paper_difference"]) <= margin else "paper differs"
        return f"does not differ by more than {row['margin']:g} from", said
    if verdict == "reproduced" and abs(row["paper_difference"]) <= margin:
        shown = margin_allows(margin, number(row.get("image_se")))
        return (f"does not differ by more than {margin:g} from", said) if shown else ("", "")

    # Different.
    if decided.startswith("different") or said:
        return ("beats" if row["difference"] < 0 else "loses to"), said
    return "", ""


def number(value: float | None) -> float | None:
    """None for what a frame does not have."""
    return None if value is None or pd.isna(value) else value


def clause(group: tuple[str, str], names: str) -> str:
    """ "beats 0.1, 0.9, as in the paper"."""
    words, verdict = group
    beside = BESIDE_THE_PAPER.get(verdict, "")
    return f"{words} {names}" + (f", {beside}" if beside else "")
