"""Steps between neighbouring levels of a factor whose levels are numbers.

A row that is compared with the baseline alone can hide that its neighbour goes the other way.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mae_ablation.report.paired import compared
from mae_ablation.report.results import HOURS, LOSS
from mae_ablation.report.statistics import LEVELS
from mae_ablation.report.summary import counted
from mae_ablation.report.verdict import MARGINS
from mae_ablation.study.plan import Plan
from mae_ablation.study.study import Factor

NAMED_STEPS = 3
"""steps that a headline lists"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """From one level to the next higher one, paired by seed; points."""

    low: str
    high: str
    difference: float
    p: float
    """by Holm's method over the factor's steps; NaN without spread"""
    paper: float | None


def steps_of(factor: Factor, metric: str, table: pd.DataFrame, results: pd.DataFrame) -> list[Step]:
    """A factor's steps in the order of its values; empty where levels are names or too few.

    There is none to or from a level that lacks a seed, or has one that lies apart.
    """
    values = {level.label: level.value for level in factor.levels}
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values.values())
    if metric in (LOSS, HOURS) or not numbers:
        return []
    rows = table[(table["metric"] == metric) & (table["factor"] == factor.name)]
    rows = rows.sort_values("level", key=lambda labels: labels.map(values), kind="stable")
    whole = ((rows["seeds"] == rows["seeds_asked"]) & (rows["apart"] == "")).tolist()
    pairs = [i for i in range(len(rows) - 1) if whole[i] and whole[i + 1]]
    if sum(whole) < LEVELS or not pairs:
        return []

    # every level's seeds in a row, and what they rise by from each to the next
    mine = results[(results["metric"] == metric) & (results["factor"] == factor.name)]
    seeds = mine.pivot(index="level", columns="seed", values="value").astype(float)
    measured = seeds.loc[rows["level"]].to_numpy()
    common = np.isfinite(measured[whole]).all(0)  # rows stop once they are decided
    found = compared(np.diff(measured[:, common], axis=0)[pairs])
    names, paper = rows["level"].tolist(), rows["paper"].tolist()
    return [
        Step(
            low=names[i],
            high=names[i + 1],
            difference=float(found.mean[k]),
            p=float(found.p_holm[k]),
            paper=None if pd.isna(rise := paper[i + 1] - paper[i]) else round(rise, 1),
        )
        for k, i in enumerate(pairs)
    ]


def step_by_step(
    factor: Factor, metric: str, table: pd.DataFrame, results: pd.DataFrame
) -> list[str]:
    """A sentence with every step of a factor; none where there are no steps."""
    steps = steps_of(factor, metric, table, results)
    if not steps:
        return []
    tested = sum(np.isfinite(step.p) for step in steps)
    how = f", with Holm's p over {counted(tested, 'test')}" if tested else ""
    each = "; ".join(f"{step.low} to {step.high} {format_step(step)}" for step in steps)
    return [f"Steps between neighbouring levels, paired by seed{how}: {each}."]


def format_step(step: Step) -> str:
    """ "-0.13 (p 0.81, paper +7.1)"."""
    chance = f"p {'<0.001' if step.p < 0.001 else format(step.p, '.3f')}"
    paper = f"paper {step.paper:+.1f}" if step.paper is not None else ""
    behind = ", ".join(filter(None, [chance if np.isfinite(step.p) else "", paper]))
    return f"{step.difference:+.2f}" + (f" ({behind})" if behind else "")


def against_the_paper(
    plan: Plan, metric: str, table: pd.DataFrame, results: pd.DataFrame
) -> list[str]:
    """Where means of neighbouring levels go the other way than the paper's, beneath a table that
    says of some row that it is reproduced."""
    found = []
    for factor in plan.study.factors:
        rows = table[(table["metric"] == metric) & (table["factor"] == factor.name)]
        if "reproduced" not in set(rows["verdict"]):
            continue
        margin = MARGINS[metric]
        steps = steps_of(factor, metric, table, results)
        known = [s for s in steps if s.paper is not None and abs(s.paper) > margin]
        other = [s for s in known if s.difference * s.paper < 0]
        if other:
            each = "; ".join(
                f"{s.low} to {s.high} {s.difference:+.2f}, there {s.paper:+.1f}"
                for s in other[:NAMED_STEPS]
            )
            more = f"; and {len(other) - NAMED_STEPS} more" if len(other) > NAMED_STEPS else ""
            go = "goes" if len(other) == 1 else "go"
            found.append(
                f"But {len(other)} of {len(known)} steps between neighbouring levels {go} the "
                f"other way than the paper's ({each}{more})."
            )
    return found
