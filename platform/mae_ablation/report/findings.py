"""Findings: the sentences beneath a table, of the rows that can be compared with each other.

How the levels are ordered, against the paper; where the optimum lies; how neighbouring levels
differ; what seeds and test images could have shown. Levels are fixed; what is random is the seeds.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mae_ablation.report.choice import EDGE
from mae_ablation.report.metrics import HOURS, NOISE, is_accuracy, quantity_of
from mae_ablation.report.paired import (
    ALPHA,
    MOST_COUNTED,
    POINT_DIGITS,
    POWER,
    compare_pairs,
    count_seeds_needed,
    detectable,
    half_width,
    sign_chance,
    summarise,
)
from mae_ablation.report.spread import format_limit, root_mean_square
from mae_ablation.report.wording import count_noun, list_names
from mae_ablation.study.factors import Factor
from mae_ablation.study.plan import Plan
from mae_ablation.study.values import are_numbers

LEVELS = 3
"""Levels that a rank correlation or an optimum needs at least."""

COULD_SEE = "What this many seeds could have seen"
"""Title of what is folded away beneath a table."""

NAMED_STEPS = 3
"""Steps that a headline lists."""


def list_findings(plan: Plan, metric: str, results: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """Say of a table how its levels are ordered, where the optimum lies, and step by step.

    A level that lacks a seed, or has one that lies apart, is left out of comparisons of means: over
    other seeds, the highest mean is no finding. Nothing is said where the baseline lies apart.
    """
    rows = table[table["metric"] == metric]
    if _is_baseline_apart(rows):
        return []
    left_out, whole, frame = _comparable(metric, results, table)
    several, said = len(plan.study.factors) > 1, []

    # order and optimum, over whole levels
    for factor in plan.study.factors:
        mine = whole[(whole["metric"] == metric) & (whole["factor"] == factor.name)]
        values = _values(mine, frame[frame["metric"] == metric])
        texts = _describe_order(mine, values, metric)
        if is_accuracy(metric) and is_ordered(factor):
            texts += _describe_optimum(mine, values)
        said += [f"{factor.name}: {text}" if several else text for text in texts]

    # steps beside them, and what all of these leave out
    for factor in plan.study.factors:
        texts = _describe_steps(find_steps(factor, metric, table, results))
        said += [f"{factor.name}: {text}" if several else text for text in texts]
    if said and left_out:
        names = list_names(left_out)
        said.insert(0, f"Left out of what follows, as a seed is missing or lies apart: {names}.")
    return said + _describe_limit(rows) + _describe_edges(rows)


def list_detectable(
    plan: Plan, metric: str, results: pd.DataFrame, table: pd.DataFrame
) -> list[str]:
    """Say which differences this many seeds and test images could have shown; of the seeds nothing
    in a study with looks, whose levels and seeds are not those of one test."""
    rows = table[table["metric"] == metric]
    if not is_accuracy(metric) or _is_baseline_apart(rows):
        return []
    _, whole, _ = _comparable(metric, results, table)
    said = []
    if not plan.study.grows:
        mine = whole[whole["metric"] == metric]
        alpha = plan.study.declared.alpha
        said = _describe_power(mine, len(plan.study.seeds), count_tests(results, metric), alpha)

    # what the test split adds to every mean, however many seeds there are
    errors = rows.loc[rows["kind"] != "reference", "test_error"].dropna()
    known = "image_se" in rows and rows["image_se"].notna().any()  # `_describe_limit` says more
    if errors.empty or known:
        return said
    return [
        *said,
        f"The {plan.data.test_images} test images alone leave a binomial standard error of "
        f"{errors.max():.2f} points in a mean; more seeds do not take it away, though levels on "
        f"the same images share part of it.",
    ]


def count_tests(results: pd.DataFrame, metric: str) -> int:
    """Count the tests of a quantity's table: a row that is not finished is one, too, and a level
    that is the baseline's own training is none."""
    mine = results[results["metric"] == metric]
    trainings = mine.groupby("row")["trial_id"].agg(tuple)
    baseline = trainings[mine.loc[mine["kind"] == "baseline", "row"].iloc[0]]
    return int((trainings != baseline).sum())


def _is_baseline_apart(rows: pd.DataFrame) -> bool:
    """Say whether a seed of the baseline, which every difference rests on, lies apart."""
    return bool((rows.loc[rows["kind"] == "baseline", "apart"] != "").any())


def _comparable(
    metric: str, results: pd.DataFrame, table: pd.DataFrame
) -> tuple[list[str], pd.DataFrame, pd.DataFrame]:
    """Return the names of the levels whose means are no match for the others', and table and
    results with those emptied; the tests keep their number."""
    rows = table[(table["metric"] == metric) & (table["kind"] != "reference")]
    left_out = rows[(rows["seeds"] < rows["seeds_asked"]) | (rows["apart"] != "")]
    whole, frame = table.copy(), results.copy()
    whole.loc[left_out.index, "mean"] = np.nan
    for factor, level in left_out[["factor", "level"]].itertuples(index=False):
        mine = (frame["metric"] == metric) & (frame["level"] == level)
        same = frame["factor"].isna() if pd.isna(factor) else frame["factor"] == factor
        frame.loc[mine & same, "value"] = np.nan

    # what is within the margin is no difference that seeds could find
    if is_accuracy(metric):
        within = whole["paper_difference"].abs() <= quantity_of(metric).margin
        whole.loc[within & (whole["metric"] == metric), "paper_difference"] = np.nan
    return left_out["level"].tolist(), whole, frame


def is_ordered(factor: Factor) -> bool:
    """Say whether a factor's levels are numbers."""
    return are_numbers(level.value for level in factor.levels)


def _values(rows: pd.DataFrame, results: pd.DataFrame) -> NDArray:
    """Return a factor's values (levels, seeds), in the order of the table's rows."""
    mine = results[results["factor"].isin(rows["factor"])]
    values = mine.pivot(index="level", columns="seed", values="value").astype(float)
    return values.reindex(rows["level"]).to_numpy()


# order --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """Spearman's rho of levels with the paper's numbers; NaN where one side has a single value."""

    levels: int
    seeds: int
    """Seeds that have every level."""
    of_means: float
    single: float
    """Mean of the single seeds' own rho."""
    low: float
    """`low` and `high`: its 95 % t interval over the seeds, within -1 and 1; NaN without spread."""
    high: float


def rank_correlation(values: ArrayLike, paper: ArrayLike) -> Correlation:
    """Correlate measured values (levels, seeds; NaN where missing) with the paper's (levels,)."""
    values, paper = np.asarray(values, float), np.asarray(paper, float)
    _, means, _ = summarise(values)
    whole = values[:, np.isfinite(values).all(0)]
    n, single, sd = summarise(spearman(whole.T, paper))
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
    """Return Spearman's rho along the last axis, equal values by their mean rank; NaN without
    spread."""
    one, two = (stats.rankdata(np.round(side, POINT_DIGITS), axis=-1) for side in (values, others))
    one, two = (ranks - ranks.mean(-1, keepdims=True) for ranks in (one, two))
    size = np.sqrt((one**2).sum(-1) * (two**2).sum(-1))
    return (one * two).sum(-1) / np.where(size > 0, size, np.nan)


def _describe_order(rows: pd.DataFrame, values: NDArray, metric: str) -> list[str]:
    """Give the rank correlation with the paper, over the levels that can be compared with it."""
    # the levels that both have
    given = rows["paper"].notna() & (rows["verdict"] != "not comparable") & rows["mean"].notna()
    given = given.to_numpy()
    if rows["paper"].notna().sum() < 2 or (metric == HOURS and rows["conditions"].nunique() > 1):
        return []
    if given.sum() < LEVELS:
        return [f"Fewer than {LEVELS} levels to compare with the paper: no rank correlation."]
    found = rank_correlation(values[given], rows["paper"].astype(float)[given])
    if np.isnan(found.of_means):
        return ["All levels are equal, here or in the paper: no rank correlation."]

    # of the means, and of single seeds
    text = (
        f"Rank correlation (Spearman) with the paper over {found.levels} levels: "
        f"{found.of_means:.2f} of the means"
    )
    if found.seeds < 2 or np.isnan(found.single):
        return [f"{text}; no interval, which takes two seeds that have every level."]
    text += f"; {found.single:.2f} on average over {found.seeds} single seeds"
    if np.isnan(found.low):
        return [f"{text}, equal in each: no interval."]
    return [
        f"{text}, 95 % t interval [{found.low:.2f}, {found.high:.2f}] (the levels are fixed, what "
        f"is random is the seeds)."
    ]


# optimum ------------------------------------------------------------------------------------------


def possible_best(values: ArrayLike) -> list[int]:
    """List the levels, of values (levels, seeds; NaN where missing), that may have the highest true
    mean.

    A level is ruled out where a one-sided t test, paired by seed, finds it below the level with the
    highest mean at ALPHA / (levels - 1). However the highest was picked, the truly best level stays
    with 95 % confidence: ruling it out takes one of levels - 1 false findings against it (the
    argument of Hsu's comparisons with the best).
    """
    values = np.asarray(values, float)
    _, means, _ = summarise(values)
    n, short, sd = summarise(values[int(np.nanargmax(means))] - values)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = short * np.sqrt(n) / np.where((sd > 0) & (n > 1), sd, np.nan)
    p = stats.t.sf(t, np.maximum(n - 1, 1))
    p = np.where((sd == 0) & (short > 0), sign_chance(n), p)  # short by the same in every seed
    ruled_out = p <= ALPHA / max(int(np.isfinite(means).sum()) - 1, 1)
    return [i for i in range(len(values)) if np.isfinite(means[i]) and not ruled_out[i]]


def _describe_optimum(rows: pd.DataFrame, values: NDArray) -> list[str]:
    """Say where the highest mean lies, of single seeds too, which levels may be best, and the
    paper's; nothing below LEVELS measured levels."""
    names, means = rows["level"].to_numpy(), rows["mean"].to_numpy(float)
    if np.isfinite(means).sum() < LEVELS:
        return []

    # Rows that are decided stop: compared is over the seeds that all have, which no result chose.
    asked = np.isfinite(values).any(0)
    there = values[:, np.isfinite(values[np.isfinite(means)]).all(0)]
    fewer = there.shape[1] < asked.sum()
    if fewer:
        means = summarise(there)[1]

    # the highest here, with what may be as high, and the paper's
    tops = [_highest(names, seed) for seed in there.T]
    single = "in every seed" if len(set(tops)) == 1 else f"single seeds: {'; '.join(tops)}"
    over = f"Over the {there.shape[1]} seeds that every level has: highest" if fewer else "Highest"
    text = f"{over} mean at {_highest(names, means)}"
    if there.shape[1] > 1:
        text += f" ({single}). {_describe_possible_best(names, there, means)}"
    if rows["paper"].notna().sum() >= LEVELS:
        text += f". The paper's highest is at {_highest(names, rows['paper'].to_numpy(float))}"
    return [f"{text}."]


def _highest(names: NDArray, values: NDArray) -> str:
    """Name the level of the highest value; all of them where several are equal."""
    return " and ".join(names[values == np.nanmax(values)])


def _describe_possible_best(names: NDArray, values: NDArray, means: NDArray) -> str:
    """Name the levels that may be the best, and say how that was tested."""
    best, tests = possible_best(values), int(np.isfinite(means).sum()) - 1
    _, short, sd = summarise(values[int(np.nanargmax(means))] - values)
    alike = ", or sign tests where all seeds differ alike," * bool(((sd == 0) & (short > 0)).any())
    how = f"one-sided t tests{alike} against the highest mean, paired by seed, at {ALPHA:g}/{tests}"
    if len(best) == tests + 1:
        return f"No level can be ruled out as the best with 95 % confidence ({how})"
    if len(best) == 1:
        return f"Every other level is ruled out as the best with 95 % confidence ({how})"
    candidates = list_names([str(names[i]) for i in best])
    return f"With 95 % confidence the best is one of {candidates} ({how})"


# steps --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelStep:
    """The difference from one level to the next higher one, paired by seed, in points."""

    low: str
    high: str
    difference: float
    p: float
    """p value by Holm's method over the factor's steps; NaN without spread."""
    paper: float | None


def find_steps(
    factor: Factor, metric: str, table: pd.DataFrame, results: pd.DataFrame
) -> list[LevelStep]:
    """List a factor's steps in the order of its values; none where levels are names or too few.

    A row that is compared with the baseline alone can hide that its neighbour goes the other way.
    There is no step to or from a level that lacks a seed, or has one that lies apart.
    """
    # neighbours that are whole
    values = {level.label: level.value for level in factor.levels}
    if not is_accuracy(metric) or not is_ordered(factor):
        return []
    rows = table[(table["metric"] == metric) & (table["factor"] == factor.name)]
    rows = rows.sort_values("level", key=lambda labels: labels.map(values), kind="stable")
    whole = ((rows["seeds"] == rows["seeds_asked"]) & (rows["apart"] == "")).tolist()
    pairs = [i for i in range(len(rows) - 1) if whole[i] and whole[i + 1]]
    if sum(whole) < LEVELS or not pairs:
        return []

    # every level's seeds in a row, and what they rise by from each to the next
    mine = results[(results["metric"] == metric) & (results["factor"] == factor.name)]
    measured = _values(rows, mine)
    common = np.isfinite(measured[whole]).all(0)  # rows stop once they are decided
    found = compare_pairs(np.diff(measured[:, common], axis=0)[pairs])
    names, paper = rows["level"].tolist(), rows["paper"].tolist()
    return [
        LevelStep(
            low=names[i],
            high=names[i + 1],
            difference=float(found.mean[k]),
            p=float(found.p_holm[k]),
            paper=None if pd.isna(rise := paper[i + 1] - paper[i]) else round(rise, 1),
        )
        for k, i in enumerate(pairs)
    ]


def _describe_steps(steps: list[LevelStep]) -> list[str]:
    """Give every step of a factor in a sentence; none where there are no steps."""
    if not steps:
        return []
    tested = sum(np.isfinite(step.p) for step in steps)
    how = f", with Holm's p over {count_noun(tested, 'test')}" if tested else ""
    each = "; ".join(f"{step.low} to {step.high} {_format_step(step)}" for step in steps)
    return [f"Steps between neighbouring levels, paired by seed{how}: {each}."]


def _format_step(step: LevelStep) -> str:
    """Format "-0.13 (p 0.81, paper +7.1)"."""
    chance = f"p {'<0.001' if step.p < 0.001 else format(step.p, '.3f')}"
    paper = f"paper {step.paper:+.1f}" if step.paper is not None else ""
    behind = ", ".join(filter(None, [chance if np.isfinite(step.p) else "", paper]))
    return f"{step.difference:+.2f}" + (f" ({behind})" if behind else "")


def describe_contrary_steps(
    plan: Plan, metric: str, table: pd.DataFrame, results: pd.DataFrame
) -> list[str]:
    """Say where means of neighbouring levels go the other way than the paper's, beneath a table
    that calls some row reproduced."""
    found = []
    for factor in plan.study.factors:
        rows = table[(table["metric"] == metric) & (table["factor"] == factor.name)]
        if "reproduced" not in set(rows["verdict"]):
            continue
        steps = find_steps(factor, metric, table, results)
        known = [
            s for s in steps if s.paper is not None and abs(s.paper) > quantity_of(metric).margin
        ]
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


# what limits them ---------------------------------------------------------------------------------


def _describe_power(rows: pd.DataFrame, seeds: int, tests: int, alpha: float) -> list[str]:
    """Say what differences this many seeds can see, and how many the paper's would take."""
    levels = rows[rows["kind"] == "level"]
    levels = levels[levels["p"].notna() & (levels["difference_sd"] > 0)]
    if levels.empty:
        known = rows["difference"].notna().any()
        return ["Without a spread over seeds there is no interval and no p value."] if known else []
    level, sd = alpha / tests, float(levels["difference_sd"].median())
    seen = detectable(sd, seeds, level)
    of = f"the first of Holm's {tests} tests" if tests > 1 else "the only test"
    said = [
        f"{seeds} seeds, with the median spread of the levels' paired differences ({sd:.2f} "
        f"points), find a difference of {seen:.1f} points or more with {100 * POWER:.0f} % power "
        f"at {of} (level {level:.2g})."
    ]

    # were the paper's differences the truth here
    paper = levels["paper_difference"].astype(float)  # all None where the study has no paper
    levels = levels[(paper.abs() > NOISE) & (levels["verdict"] != "not comparable")]
    needed = []
    for row in levels.to_dict("records"):
        n = count_seeds_needed(row["paper_difference"], row["difference_sd"], level)
        needed.append(f"{row['level']}: {n if n <= MOST_COUNTED else f'more than {MOST_COUNTED}'}")
    if needed:
        said.append(
            f"Were the paper's differences the truth here and the spread as seen, finding each "
            f"with that power would take this many seeds: {', '.join(needed)}."
        )
    return said


def _describe_limit(rows: pd.DataFrame) -> list[str]:
    """Say whether seeds or test images limit the differences of a table, where both are known."""
    if "image_se" not in rows:
        return []
    levels = rows[(rows["kind"] == "level") & (rows["apart"] == "") & rows["image_se"].notna()]
    if levels.empty:
        return []
    seed_se, image_se = (root_mean_square(levels[name]) for name in ("seed_se", "image_se"))
    return [f"Standard error of a difference: {format_limit(seed_se, image_se)}."]


def _describe_edges(rows: pd.DataFrame) -> list[str]:
    """Say which rows were tuned to a value beyond which nothing was tried."""
    names = rows.loc[rows["tuned"].str.contains(EDGE), "level"].tolist() if "tuned" in rows else []
    if not names:
        return []
    edge = "Tuned to the edge of what was tried, beyond which a better value may lie"
    return [f"{edge}: {list_names(names)}."]
