"""What a whole table says: rank correlation with the paper, the optimum, what could be seen.

`findings` puts it into sentences. Levels are fixed; what is random is the seeds.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mae_ablation.report.paired import (
    ALPHA,
    DIGITS,
    MOST_SEEDS,
    POWER,
    detectable,
    half_width,
    seeds_needed,
    sign_chance,
    summed,
)
from mae_ablation.report.results import HOURS, LOSS
from mae_ablation.report.summary import some
from mae_ablation.report.verdict import NOISE
from mae_ablation.study.plan import Plan
from mae_ablation.study.study import Factor

LEVELS = 3
"""that a rank correlation or an optimum needs at least"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """Spearman's rho of levels with the paper's numbers; NaN where one side has a single value."""

    levels: int
    seeds: int
    """that have every level"""
    of_means: float
    single: float
    """mean of the single seeds' own rho"""
    low: float
    """`low` and `high`: its 95 % t interval over the seeds, within -1 and 1; NaN without spread"""
    high: float


def rank_correlation(values: ArrayLike, paper: ArrayLike) -> Correlation:
    """Of measured values (levels, seeds; NaN where missing) with the paper's numbers (levels,)."""
    values, paper = np.asarray(values, float), np.asarray(paper, float)
    _, means, _ = summed(values)
    whole = values[:, np.isfinite(values).all(0)]
    n, single, sd = summed(spearman(whole.T, paper))
    half = half_width(sd, n, ALPHA)
    return Correlation(
        levels=len(paper),
        seeds=whole.shape[1],
        of_means=float(spearman(means, paper)),
        single=float(single),
        low=float(np.maximum(single - half, -1)),
        high=float(np.minimum(single + half, 1)),
    )


def spearman(values: NDArray, others: NDArray) -> NDArray:
    """Spearman's rho along the last axis, equal values by their mean rank; NaN without spread."""
    one, two = (stats.rankdata(np.round(side, DIGITS), axis=-1) for side in (values, others))
    one, two = (ranks - ranks.mean(-1, keepdims=True) for ranks in (one, two))
    size = np.sqrt((one**2).sum(-1) * (two**2).sum(-1))
    return (one * two).sum(-1) / np.where(size > 0, size, np.nan)


def possible_best(values: ArrayLike) -> list[int]:
    """Levels, of values (levels, seeds; NaN where missing), that may have the highest true mean.

    A level is ruled out where a one-sided t test, paired by seed, finds it below the level with the
    highest mean at ALPHA / (levels - 1). However the highest was picked, the truly best level stays
    with 95 % confidence: ruling it out takes one of levels - 1 false findings against it (the
    argument of Hsu's comparisons with the best).
    """
    values = np.asarray(values, float)
    _, means, _ = summed(values)
    best = int(np.nanargmax(means))
    n, short, sd = summed(values[best] - values)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = short * np.sqrt(n) / np.where((sd > 0) & (n > 1), sd, np.nan)
    p = stats.t.sf(t, np.maximum(n - 1, 1))
    p = np.where((sd == 0) & (short > 0), sign_chance(n), p)  # short by the same in every seed
    ruled_out = p <= ALPHA / max(int(np.isfinite(means).sum()) - 1, 1)
    return [i for i in range(len(values)) if np.isfinite(means[i]) and not ruled_out[i]]


def findings(plan: Plan, metric: str, results: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """Sentences for under the table of a measured quantity, in plain text.

    How its levels are ordered, against the paper; where the optimum of a factor with numbers for
    levels lies; how large a difference has to be to be seen; how many seeds the paper's differences
    would take.
    """
    rows = table[table["metric"] == metric]
    accuracy = metric not in (LOSS, HOURS)
    said = []
    for factor in plan.study.factors:
        mine = rows[rows["factor"] == factor.name]
        values = measured(mine, results[results["metric"] == metric])
        about = f"{factor.name}: " if len(plan.study.factors) > 1 else ""
        said += [about + text for text in order(mine, values, metric)]
        if accuracy and ordered(factor):
            said += [about + text for text in optimum(mine, values)]
    return said + seen_by(plan, metric, rows, results) if accuracy else said


def seen_by(plan: Plan, metric: str, rows: pd.DataFrame, results: pd.DataFrame) -> list[str]:
    """What differences the seeds of an accuracy could have shown; nothing of a study with looks,
    whose levels and seeds are not those of one test."""
    if plan.study.grows:
        return []
    return visible(rows, len(plan.study.seeds), tests_of(results, metric))


def tests_of(results: pd.DataFrame, metric: str) -> int:
    """How many tests a quantity's table has: a row that is not finished is one, too, and a level
    that is the baseline's own training is none."""
    mine = results[results["metric"] == metric]
    trainings = mine.groupby("row")["trial_id"].agg(tuple)
    baseline = trainings[mine.loc[mine["kind"] == "baseline", "row"].iloc[0]]
    return int((trainings != baseline).sum())


def ordered(factor: Factor) -> bool:
    """Its levels are numbers."""
    values = [level.value for level in factor.levels]
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def measured(rows: pd.DataFrame, results: pd.DataFrame) -> NDArray:
    """A factor's values (levels, seeds), in the order of the table's rows."""
    mine = results[results["factor"].isin(rows["factor"])]
    values = mine.pivot(index="level", columns="seed", values="value").astype(float)
    return values.reindex(rows["level"]).to_numpy()


def order(rows: pd.DataFrame, values: NDArray, metric: str) -> list[str]:
    """The rank correlation with the paper, over the levels that can be compared with it."""
    given = rows["paper"].notna() & (rows["verdict"] != "not comparable") & rows["mean"].notna()
    given = given.to_numpy()
    if rows["paper"].notna().sum() < 2 or (metric == HOURS and rows["conditions"].nunique() > 1):
        return []
    if given.sum() < LEVELS:
        return [f"Fewer than {LEVELS} levels to compare with the paper: no rank correlation."]
    found = rank_correlation(values[given], rows["paper"].astype(float)[given])
    if np.isnan(found.of_means):
        return ["All levels are equal, here or in the paper: no rank correlation."]
    return [
        f"Rank correlation (Spearman) with the paper over {found.levels} levels: "
        f"{found.of_means:.2f} of the means{over_seeds(found)}."
    ]


def over_seeds(found: Correlation) -> str:
    """What single seeds say of a rank correlation."""
    if found.seeds < 2 or np.isnan(found.single):
        return "; no interval, which takes two seeds that have every level"
    mean = f"; {found.single:.2f} on average over {found.seeds} single seeds"
    if np.isnan(found.low):
        return f"{mean}, equal in each: no interval"
    return (
        f"{mean}, 95 % t interval [{found.low:.2f}, {found.high:.2f}] (the levels are fixed, what "
        f"is random is the seeds)"
    )


def optimum(rows: pd.DataFrame, values: NDArray) -> list[str]:
    """Where the highest mean lies, of single seeds too, which levels may be best, and the paper's.

    Nothing below LEVELS measured levels.
    """
    names, means = rows["level"].to_numpy(), rows["mean"].to_numpy(float)
    if np.isfinite(means).sum() < LEVELS:
        return []

    # Rows that are decided stop: compared is over the seeds that all have, which no result chose.
    asked = np.isfinite(values).any(0)
    there = values[:, np.isfinite(values[np.isfinite(means)]).all(0)]
    fewer = there.shape[1] < asked.sum()
    if fewer:
        means = summed(there)[1]
    tops = [highest(names, seed) for seed in there.T]
    single = "in every seed" if len(set(tops)) == 1 else f"single seeds: {'; '.join(tops)}"
    over = f"Over the {there.shape[1]} seeds that every level has: highest" if fewer else "Highest"
    text = f"{over} mean at {highest(names, means)}"
    if there.shape[1] > 1:
        text += f" ({single}). {among(names, there, means)}"
    if rows["paper"].notna().sum() >= LEVELS:
        text += f". The paper's highest is at {highest(names, rows['paper'].to_numpy(float))}"
    return [f"{text}."]


def highest(names: NDArray, values: NDArray) -> str:
    """The level of the highest value; all of them where several are equal."""
    return " and ".join(names[values == np.nanmax(values)])


def among(names: NDArray, values: NDArray, means: NDArray) -> str:
    """The levels that may be the best, and how that was tested."""
    best, tests = possible_best(values), int(np.isfinite(means).sum()) - 1
    _, short, sd = summed(values[int(np.nanargmax(means))] - values)
    alike = ", or sign tests where all seeds differ alike," * bool(((sd == 0) & (short > 0)).any())
    how = f"one-sided t tests{alike} against the highest mean, paired by seed, at {ALPHA:g}/{tests}"
    if len(best) == tests + 1:
        return f"No level can be ruled out as the best with 95 % confidence ({how})"
    if len(best) == 1:
        return f"Every other level is ruled out as the best with 95 % confidence ({how})"
    return f"With 95 % confidence the best is one of {some([str(names[i]) for i in best])} ({how})"


def visible(rows: pd.DataFrame, seeds: int, tests: int) -> list[str]:
    """What differences this many seeds can see, and how many seeds the paper's would take."""
    levels = rows[rows["kind"] == "level"]
    levels = levels[levels["p"].notna() & (levels["difference_sd"] > 0)]
    if levels.empty:
        known = rows["difference"].notna().any()
        return ["Without a spread over seeds there is no interval and no p value."] if known else []
    level, sd = ALPHA / tests, float(levels["difference_sd"].median())
    seen = detectable(sd, seeds, level)
    of = f"the first of Holm's {tests} tests" if tests > 1 else "the only test"
    text = (
        f"{seeds} seeds, with the median spread of the levels' paired differences ({sd:.2f} "
        f"points), find a difference of {seen:.1f} points or more with {100 * POWER:.0f} % power "
        f"at {of} (level {level:.2g})."
    )
    return [text, *for_the_paper(levels, level)]


def for_the_paper(rows: pd.DataFrame, level: float) -> list[str]:
    """How many seeds would find the paper's differences, were they the truth here."""
    paper = rows["paper_difference"].astype(float)  # all None where the study has no paper
    rows = rows[(paper.abs() > NOISE) & (rows["verdict"] != "not comparable")]
    needed = [
        (row["level"], seeds_needed(row["paper_difference"], row["difference_sd"], level))
        for row in rows.to_dict("records")
    ]
    if not needed:
        return []
    most = f"more than {MOST_SEEDS}"
    each = ", ".join(f"{name}: {n if n <= MOST_SEEDS else most}" for name, n in needed)
    return [
        f"Were the paper's differences the truth here and the spread as seen, finding each with "
        f"that power would take this many seeds: {each}."
    ]
