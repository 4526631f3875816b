"""Findings: the sentences beneath a table, of the rows that can be compared with each other.

How the levels are ordered, against the paper; where the optimum lies; how neighbouring levels
differ; what seeds and test images could have shown. Levels are fixed; what is random is the seeds.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mae_ablation.report import paired
from mae_ablation.report.choice import EDGE
from mae_ablation.report.metrics import HOURS, NOISE, is_accuracy, quantity_of
from mae_ablation.report.paired import ALPHA, MOST_COUNTED, POINT_DIGITS, POWER
from mae_ablation.report.results import count_tests
from mae_ablation.report.spread import format_limit, root_mean_square
from mae_ablation.report.wording import count_noun, list_names
from mae_ablation.study.factors import Factor
from mae_ablation.study.plan import Plan
from mae_ablation.study.values import are_numbers

LEVELS = 3  # levels that a rank correlation or an optimum needs at least
COULD_SEE = "What this many seeds could have seen"  # title of what is folded away beneath a table


def list_findings(plan: Plan, metric: str, results: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """Say of a table how its levels are ordered, where the optimum lies, and step by step.

    A level that lacks a seed, or has one that lies apart, is left out of comparisons of means: over
    other seeds, the highest mean is no finding. Nothing is said where the baseline lies apart.
    """
    rows = table[table["metric"] == metric]
    if _is_baseline_apart(rows):
        return []
    left_out, whole, measured = _comparable(metric, results, rows)
    orders, steps = [], []
    for factor in plan.study.factors:
        # order and optimum, over whole levels; steps are listed after those of all factors
        name = f"{factor.name}: " if len(plan.study.factors) > 1 else ""
        mine = whole[whole["factor"] == factor.name]
        values = _values(mine, measured)
        texts = _describe_order(mine, values, metric)
        if is_accuracy(metric) and is_ordered(factor):
            texts += _describe_optimum(mine, values)
        orders += [name + text for text in texts]
        steps += [
            name + text for text in _describe_steps(find_steps(factor, metric, rows, results))
        ]
    said = orders + steps
    if said and left_out:
        names = list_names(left_out)
        said.insert(0, f"Left out of what follows, as a seed is missing or lies apart: {names}.")

    # whether seeds or test images limit the differences, where both are known
    if "image_se" in rows:
        known = rows[(rows["kind"] == "level") & (rows["apart"] == "") & rows["image_se"].notna()]
        if len(known):
            errors = (root_mean_square(known[each]) for each in ("seed_se", "image_se"))
            said.append(f"Standard error of a difference: {format_limit(*errors)}.")

    # choices beyond which nothing was tried
    if "tuned" in rows and (names := rows.loc[rows["tuned"].str.contains(EDGE), "level"].tolist()):
        said.append(
            "Tuned to the edge of what was tried, beyond which a better value may lie: "
            f"{list_names(names)}."
        )
    return said


def list_detectable(
    plan: Plan, metric: str, results: pd.DataFrame, table: pd.DataFrame
) -> list[str]:
    """Say which differences this many seeds and test images could have shown."""
    rows = table[table["metric"] == metric]
    if not is_accuracy(metric) or _is_baseline_apart(rows):
        return []

    # levels and seeds of a study with looks are not those of one test
    said = []
    if not plan.study.grows:
        _, mine, _ = _comparable(metric, results, rows)
        alpha = plan.study.declared.alpha
        said = _describe_power(mine, len(plan.study.seeds), count_tests(results, metric), alpha)

    # what the test split adds to every mean; where answers are kept, the findings say more
    errors = rows.loc[rows["kind"] != "reference", "test_error"].dropna()
    known = "image_se" in rows and rows["image_se"].notna().any()
    if errors.empty or known:
        return said
    return [
        *said,
        f"The {plan.data.test_images} test images alone leave a binomial standard error of "
        f"{errors.max():.2f} points in a mean; more seeds do not take it away, though levels on "
        f"the same images share part of it.",
    ]


def _is_baseline_apart(rows: pd.DataFrame) -> bool:
    """Say whether a seed of the baseline, which every difference rests on, lies apart."""
    return bool((rows.loc[rows["kind"] == "baseline", "apart"] != "").any())


def _comparable(
    metric: str, results: pd.DataFrame, rows: pd.DataFrame
) -> tuple[list[str], pd.DataFrame, pd.DataFrame]:
    """Return the names of the levels whose means are no match for the others', and a quantity's
    rows and results with those emptied; the tests keep their number."""
    rows, measured = rows.copy(), results[results["metric"] == metric].copy()
    lacking = (rows["seeds"] < rows["seeds_asked"]) | (rows["apart"] != "")
    lacking &= rows["kind"] != "reference"
    rows.loc[lacking, "mean"] = np.nan
    numbers = zip(sorted(set(measured["row"])), lacking, strict=True)
    measured.loc[measured["row"].isin([n for n, out in numbers if out]), "value"] = np.nan

    # what is within the margin is no difference that seeds could find
    if is_accuracy(metric):
        within = rows["paper_difference"].abs() <= quantity_of(metric).margin
        rows.loc[within, "paper_difference"] = np.nan
    return rows.loc[lacking, "level"].tolist(), rows, measured


def is_ordered(factor: Factor) -> bool:
    """Say whether a factor's levels are numbers."""
    return are_numbers(level.value for level in factor.levels)


def _values(rows: pd.DataFrame, results: pd.DataFrame) -> NDArray:
    """Return a factor's values (levels, seeds), in the order of the table's rows."""
    mine = results[results["factor"].isin(rows["factor"])]
    values = mine.pivot(index="level", columns="seed", values="value").astype(float)
    return values.reindex(rows["level"]).to_numpy()


# order --------------------------------------------------------------------------------------------


class Correlation(NamedTuple):
    """Spearman's rho of levels with the paper's numbers; NaN where one side has a single value."""

    of_means: float
    seeds: int  # that have every level
    single: float  # mean of the single seeds' own rho
    low: float  # of the 95 % t interval over the seeds, within -1 and 1; NaN without spread
    high: float


def rank_correlation(values: ArrayLike, paper: ArrayLike) -> Correlation:
    """Correlate measured values (levels, seeds; NaN where missing) with the paper's (levels,)."""
    values, paper = np.asarray(values, float), np.asarray(paper, float)
    whole = values[:, np.isfinite(values).all(0)]
    n, single, sd = paired.summarise(_spearman(whole.T, paper))
    half = paired.half_width(sd, n, ALPHA)
    of_means = float(_spearman(paired.summarise(values)[1], paper))
    low, high = np.maximum(single - half, -1), np.minimum(single + half, 1)
    return Correlation(of_means, whole.shape[1], float(single), float(low), float(high))


def _spearman(values: NDArray, others: NDArray) -> NDArray:
    """Return Spearman's rho along the last axis; NaN without spread."""
    # equal values have their mean rank, however they differ in the last bits
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
        f"Rank correlation (Spearman) with the paper over {given.sum()} levels: "
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


def possible_best(values: ArrayLike) -> tuple[list[int], bool]:
    """List the levels, of values (levels, seeds), that may have the highest true mean.

    A level is ruled out where a one-sided t test, paired by seed, finds it below the level with the
    highest mean at ALPHA / (levels - 1). However the highest was picked, the truly best level stays
    with 95 % confidence: ruling it out takes one of levels - 1 false findings against it (the
    argument of Hsu's comparisons with the best).

    Returns them, and whether a sign test was among the tests, as some level is short by the same in
    every seed.
    """
    values = np.asarray(values, float)
    _, means, _ = paired.summarise(values)
    n, short, sd = paired.summarise(values[int(np.nanargmax(means))] - values)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = short * np.sqrt(n) / np.where((sd > 0) & (n > 1), sd, np.nan)
    alike = (sd == 0) & (short > 0)
    p = np.where(alike, paired.sign_chance(n), stats.t.sf(t, np.maximum(n - 1, 1)))
    left = np.isfinite(means) & ~(p <= ALPHA / max(int(np.isfinite(means).sum()) - 1, 1))
    return np.flatnonzero(left).tolist(), bool(alike.any())


def _describe_optimum(rows: pd.DataFrame, values: NDArray) -> list[str]:
    """Say where the highest mean lies, which levels may be best, and where the paper's lies."""
    names, means = rows["level"].to_numpy(), rows["mean"].to_numpy(float)
    if np.isfinite(means).sum() < LEVELS:
        return []

    # Rows that are decided stop: compared is over the seeds that all have, which no result chose.
    there = values[:, np.isfinite(values[np.isfinite(means)]).all(0)]
    fewer = there.shape[1] < np.isfinite(values).any(0).sum()
    means = paired.summarise(there)[1] if fewer else means

    # the highest here, also of single seeds, with what may be as high
    over = f"Over the {there.shape[1]} seeds that every level has: highest" if fewer else "Highest"
    text = f"{over} mean at {_highest(names, means)}"
    if there.shape[1] > 1:
        tops = [_highest(names, seed) for seed in there.T]
        single = "in every seed" if len(set(tops)) == 1 else f"single seeds: {'; '.join(tops)}"
        best, alike = possible_best(there)
        tests = int(np.isfinite(means).sum()) - 1
        sign = ", or sign tests where all seeds differ alike," * alike
        how = f"one-sided t tests{sign} against the highest mean, paired by seed, at {ALPHA:g}/"
        found = "Every other level is ruled out as the best with 95 % confidence"
        if len(best) == tests + 1:
            found = "No level can be ruled out as the best with 95 % confidence"
        elif len(best) > 1:
            candidates = list_names([str(names[i]) for i in best])
            found = f"With 95 % confidence the best is one of {candidates}"
        text += f" ({single}). {found} ({how}{tests})"

    # and the paper's
    if rows["paper"].notna().sum() >= LEVELS:
        text += f". The paper's highest is at {_highest(names, rows['paper'].to_numpy(float))}"
    return [f"{text}."]


def _highest(names: NDArray, values: NDArray) -> str:
    """Name the level of the highest value; all of them where several are equal."""
    return " and ".join(names[values == np.nanmax(values)])


# steps --------------------------------------------------------------------------------------------


class LevelStep(NamedTuple):
    """The difference from one level to the next higher one, paired by seed, in points."""

    low: str
    high: str
    difference: float
    p: float  # by Holm's method over the factor's steps; NaN without spread
    paper: float | None


def find_steps(
    factor: Factor, metric: str, table: pd.DataFrame, results: pd.DataFrame
) -> list[LevelStep]:
    """List a factor's steps in the order of its values; none where levels are names or too few.

    A row that is compared with the baseline alone can hide that its neighbour goes the other way.
    There is no step to or from a level that lacks a seed, or has one that lies apart.
    """
    # neighbours that are whole
    if not is_accuracy(metric) or not is_ordered(factor):
        return []
    values = {level.label: level.value for level in factor.levels}
    rows = table[(table["metric"] == metric) & (table["factor"] == factor.name)]
    rows = rows.sort_values("level", key=lambda labels: labels.map(values), kind="stable")
    whole = ((rows["seeds"] == rows["seeds_asked"]) & (rows["apart"] == "")).tolist()
    pairs = [i for i in range(len(rows) - 1) if whole[i] and whole[i + 1]]
    if sum(whole) < LEVELS or not pairs:
        return []

    # every level's seeds in a row, and what they rise by from each to the next
    measured = _values(rows, results[results["metric"] == metric])
    common = np.isfinite(measured[whole]).all(0)  # rows stop once they are decided
    found = paired.compare_pairs(np.diff(measured[:, common], axis=0)[pairs])
    names, rises = rows["level"].tolist(), rows["paper"].astype(float).diff().tolist()
    papers = [None if np.isnan(rises[i + 1]) else round(rises[i + 1], 1) for i in pairs]
    ours = zip(found.mean.tolist(), found.p_holm.tolist(), papers, strict=True)
    return [LevelStep(names[i], names[i + 1], *each) for i, each in zip(pairs, ours, strict=True)]


def _describe_steps(steps: list[LevelStep]) -> list[str]:
    """Give every step of a factor in a sentence; none where there are no steps."""
    each = []
    for step in steps:  # "0.5 to 0.75 -0.13 (p 0.81, paper +7.1)"
        chance = f"p {'<0.001' if step.p < 0.001 else format(step.p, '.3f')}"
        paper = f"paper {step.paper:+.1f}" if step.paper is not None else ""
        behind = ", ".join(filter(None, [chance if np.isfinite(step.p) else "", paper]))
        text = f"{step.low} to {step.high} {step.difference:+.2f}"
        each.append(f"{text} ({behind})" if behind else text)
    tested = sum(np.isfinite(step.p) for step in steps)
    how = f", with Holm's p over {count_noun(tested, 'test')}" if tested else ""
    said = f"Steps between neighbouring levels, paired by seed{how}: {'; '.join(each)}."
    return [said] if steps else []


# what limits them ---------------------------------------------------------------------------------


def _describe_power(rows: pd.DataFrame, seeds: int, tests: int, alpha: float) -> list[str]:
    """Say what differences this many seeds can see, and how many the paper's would take."""
    # by the median spread of the levels
    levels = rows[rows["kind"] == "level"]
    levels = levels[levels["p"].notna() & (levels["difference_sd"] > 0)]
    if levels.empty:
        known = rows["difference"].notna().any()
        return ["Without a spread over seeds there is no interval and no p value."] if known else []
    level, sd = alpha / tests, float(levels["difference_sd"].median())
    of = f"the first of Holm's {tests} tests" if tests > 1 else "the only test"
    said = [
        f"{seeds} seeds, with the median spread of the levels' paired differences ({sd:.2f} "
        f"points), find a difference of {paired.detectable(sd, seeds, level):.1f} points or more "
        f"with {100 * POWER:.0f} % power at {of} (level {level:.2g})."
    ]

    # were the paper's differences the truth here; all are None where the study has no paper
    paper = levels["paper_difference"].astype(float)
    levels = levels[(paper.abs() > NOISE) & (levels["verdict"] != "not comparable")]
    needed = []
    for row in levels.to_dict("records"):
        n = paired.count_seeds_needed(row["paper_difference"], row["difference_sd"], level)
        needed.append(f"{row['level']}: {n if n <= MOST_COUNTED else f'more than {MOST_COUNTED}'}")
    if needed:
        said.append(
            f"Were the paper's differences the truth here and the spread as seen, finding each "
            f"with that power would take this many seeds: {', '.join(needed)}."
        )
    return said
