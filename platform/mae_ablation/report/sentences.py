"""The findings beneath a table, of the rows that can be compared with each other."""

import numpy as np
import pandas as pd

from mae_ablation.report.choice import EDGE
from mae_ablation.report.limits import limiting
from mae_ablation.report.results import HOURS, LOSS
from mae_ablation.report.spread import together
from mae_ablation.report.statistics import findings, seen_by
from mae_ablation.report.steps import step_by_step
from mae_ablation.report.summary import some
from mae_ablation.report.verdict import MARGINS
from mae_ablation.study.plan import Plan

COULD_SEE = "What this many seeds could have seen"
"""names what is folded away beneath a table"""


def sentences(plan: Plan, metric: str, results: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """What a table says of its levels' order and optimum, and step by step.

    A level that lacks a seed, or has one that lies apart, is left out of comparisons of means: over
    other seeds, the highest mean is no finding. Nothing is said where the baseline lies apart.
    """
    rows = table[table["metric"] == metric]
    if baseline_apart(rows):
        return []

    # findings over whole levels; what could have been seen is folded away
    left_out, whole, frame = comparable(metric, results, table)
    folded = seen_by(plan, metric, whole[whole["metric"] == metric], results)
    said = [text for text in findings(plan, metric, frame, whole) if text not in folded]

    # steps beside them, and what they leave out
    for factor in plan.study.factors:
        about = f"{factor.name}: " if len(plan.study.factors) > 1 else ""
        said += [about + text for text in step_by_step(factor, metric, table, results)]
    if said and left_out:
        names = some(left_out)
        said.insert(0, f"Left out of what follows, as a seed is missing or lies apart: {names}.")
    return said + limited_by(rows) + at_the_edge(rows)


def limited_by(rows: pd.DataFrame) -> list[str]:
    """Whether seeds or test images limit the differences of a table, where both are known."""
    if "image_se" not in rows:
        return []
    levels = rows[(rows["kind"] == "level") & (rows["apart"] == "") & rows["image_se"].notna()]
    if levels.empty:
        return []
    seed_se, image_se = (together(levels[name]) for name in ("seed_se", "image_se"))
    return [f"Standard error of a difference: {limiting(seed_se, image_se)}."]


def could_see(plan: Plan, metric: str, results: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """Which differences this many seeds and test images could have shown."""
    rows = table[table["metric"] == metric]
    if metric in (LOSS, HOURS) or baseline_apart(rows):
        return []
    _, whole, _ = comparable(metric, results, table)
    seen = seen_by(plan, metric, whole[whole["metric"] == metric], results)
    return [*seen, *test_images(plan, rows)]


def baseline_apart(rows: pd.DataFrame) -> bool:
    """Whether a seed of the baseline lies apart, which every difference rests on."""
    return bool((rows.loc[rows["kind"] == "baseline", "apart"] != "").any())


def comparable(
    metric: str, results: pd.DataFrame, table: pd.DataFrame
) -> tuple[list[str], pd.DataFrame, pd.DataFrame]:
    """Names of the levels whose means are no match for the others', and table and results with
    those emptied."""
    rows = table[(table["metric"] == metric) & (table["kind"] != "reference")]
    left_out = rows[(rows["seeds"] < rows["seeds_asked"]) | (rows["apart"] != "")]
    whole, frame = emptied(left_out, table, results)
    if metric in MARGINS:  # what is within the margin is no difference that seeds could find
        within = whole["paper_difference"].abs() <= MARGINS[metric]
        whole.loc[within & (whole["metric"] == metric), "paper_difference"] = np.nan
    return left_out["level"].tolist(), whole, frame


def emptied(
    left_out: pd.DataFrame, table: pd.DataFrame, results: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table and results with some of the table's rows emptied; the tests keep their number."""
    table, results = table.copy(), results.copy()
    table.loc[left_out.index, "mean"] = np.nan
    for metric, factor, level in left_out[["metric", "factor", "level"]].itertuples(index=False):
        mine = (results["metric"] == metric) & (results["level"] == level)
        same = results["factor"].isna() if pd.isna(factor) else results["factor"] == factor
        results.loc[mine & same, "value"] = np.nan
    return table, results


def test_images(plan: Plan, rows: pd.DataFrame) -> list[str]:
    """What the test split adds to every mean, however many seeds there are."""
    errors = rows.loc[rows["kind"] != "reference", "test_error"].dropna()
    if errors.empty or ("image_se" in rows and rows["image_se"].notna().any()):
        return []  # `limited_by` knows better
    return [
        f"The {plan.data.test_images} test images alone leave a binomial standard error of "
        f"{errors.max():.2f} points in a mean; more seeds do not take it away, though levels on "
        f"the same images share part of it."
    ]


def at_the_edge(rows: pd.DataFrame) -> list[str]:
    """Which rows were tuned to a value beyond which nothing was tried."""
    if "tuned" not in rows:
        return []
    names = rows.loc[rows["tuned"].str.contains(EDGE), "level"].tolist()
    if not names:
        return []
    return [
        f"Tuned to the edge of what was tried, beyond which a better value may lie: {some(names)}."
    ]
