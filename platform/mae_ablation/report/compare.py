"""Two reports side by side: what differs between them, and their levels, paired by seed."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mae_ablation.report.apart import apart
from mae_ablation.report.page import TITLES, bounds, chance, digits_of, number, signed
from mae_ablation.report.paired import ALPHA, Compared, compared, summed
from mae_ablation.report.results import HOURS, LOSS
from mae_ablation.report.saved import SavedReport
from mae_ablation.report.statistics import LEVELS, spearman
from mae_ablation.report.summary import counted, some
from mae_ablation.report.verdict import SEEDS
from mae_ablation.study.factors import canonical

SCALE = re.compile(r" \((?:here |stand-in).*\)$")
"""ends the label of a level: what a recipe's scale made of it"""

Place = tuple[str, str]
"""factor and level, in one spelling and without its scale"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """One report's values of a metric."""

    values: dict[Place, dict[int, float]]
    """by seed"""
    labels: dict[Place, str]
    trainings: dict[Place, dict[int, str]]
    """identity by seed"""
    baseline: Place | None
    references: frozenset[Place]


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One metric: its table (the first line is the head), and what it says."""

    title: str
    table: list[list[str]]
    sentences: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Everything that is printed of two reports, as text."""

    names: tuple[str, str]
    same: list[str]
    differs: list[tuple[str, str, str]]
    """what, in A, in B"""
    sections: list[Section]
    notes: list[str]


def compare(a: SavedReport, b: SavedReport) -> Comparison:
    """B against A: per metric and level both means, and B - A paired by seed.

    Of different data the heights say nothing: there each level's difference to the baseline of its
    own report is compared instead.
    """
    facts = [(what, *(fact(report.about) for report in (a, b))) for what, fact in FACTS.items()]
    other = other_data(a.about, b.about)
    metrics = [list(dict.fromkeys(t["metric"] for t in report.trials)) for report in (a, b)]
    both = [metric for metric in metrics[0] if metric in metrics[1]]
    notes = [
        f"Only in {name}: {TITLES.get(metric, metric)}."
        for name, mine in zip("AB", metrics, strict=True)
        for metric in mine
        if metric not in both
    ]
    notes += [
        f"{name}: {report.about['descriptive']}"
        for name, report in zip("AB", (a, b), strict=True)
        if report.about.get("descriptive")
    ]
    return Comparison(
        names=tuple(f"{r.about.get('title', r.folder.name)}, {r.folder}" for r in (a, b)),
        same=[f"{what} {one}" for what, one, two in facts if one == two and one],
        differs=[fact for fact in facts if fact[1] != fact[2]],
        sections=[section(metric, a, b, relative=other) for metric in both],
        notes=[OTHER_DATA, *notes] if other else notes,
    )


def recipe_of(about: dict) -> str:
    changed = about.get("changed") or []
    return str(about.get("recipe", "")) + (f" with {', '.join(changed)}" if changed else "")


def listed(key: str):
    return lambda about: ", ".join(map(str, about.get(key) or []))


def told(key: str, unit: str = ""):
    return lambda about: f"{about[key]}{unit}" if about.get(key) is not None else ""


FACTS = {
    "study": told("study"),
    "recipe": recipe_of,
    "data": told("data"),
    "image size": told("image_size", " px"),
    "pre-training epochs": told("epochs"),
    "phases": listed("phases"),
    "seeds": listed("seeds"),
    "commit": listed("commits"),
}
"""what two reports may differ in, and how report.json says it"""

OTHER_DATA = (
    "Different data: heights are not comparable. B - A is of the differences to the baseline of "
    "each report."
)


def other_data(a: dict, b: dict) -> bool:
    """The test splits are of different sets, or of different files; an old report.json does not
    say which files, nor does one that was written where there were none."""
    prints = [str(about.get("fingerprint") or "absent-") for about in (a, b)]
    known = not any(each.startswith("absent-") for each in prints)
    return a.get("data") != b.get("data") or (known and prints[0] != prints[1])


def cells(report: SavedReport, metric: str) -> Cells:
    """What a report has of a metric."""
    values, labels, trainings, kinds = {}, {}, {}, {}
    mine = [trial for trial in report.trials if trial["metric"] == metric]
    places = places_of(mine)
    for trial in mine:
        place = places[trial["factor"], trial["level"]]
        labels[place], kinds[place] = trial["level"], trial["kind"]
        by_seed = values.setdefault(place, {})
        trainings.setdefault(place, {})[int(trial["seed"])] = trial["trial_id"]
        if trial["value"]:
            by_seed[int(trial["seed"])] = float(trial["value"])
    return Cells(
        values=values,
        labels=labels,
        trainings=trainings,
        baseline=next((place for place, kind in kinds.items() if kind == "baseline"), None),
        references=frozenset(place for place, kind in kinds.items() if kind == "reference"),
    )


def places_of(trials: Sequence[dict[str, str]]) -> dict[tuple[str, str], Place]:
    """The place of each factor and label: levels of one value are one, however it is spelled.

    Names that would fall together with another label of the same report stay as they are.
    """
    plain = {(t["factor"], t["level"]): SCALE.sub("", t["level"]) for t in trials}
    found = {key: (key[0], canonical(key[0], level)) for key, level in plain.items()}
    meant = Counter((found[key], level) for key, level in plain.items())
    several = Counter(place for place, _ in meant)
    return {k: place if several[place] == 1 else (k[0], plain[k]) for k, place in found.items()}


def against_baseline(mine: Cells) -> Cells:
    """Every level's difference to the baseline of its report, where both have the seed."""
    base = mine.values.get(mine.baseline, {})
    apart = {
        place: {seed: value - base[seed] for seed, value in values.items() if seed in base}
        for place, values in mine.values.items()
        if place != mine.baseline
    }
    return replace(mine, values=apart)


def section(metric: str, a: SavedReport, b: SavedReport, *, relative: bool) -> Section:
    """One metric of both reports."""
    one, two = cells(a, metric), cells(b, metric)
    places = [place for place in one.values if place in two.values]
    ours, theirs = (against_baseline(side) if relative else side for side in (one, two))
    seeds = sorted(seeds_of(one) & seeds_of(two))
    paired = matrix(theirs, places, seeds) - matrix(ours, places, seeds)
    alike = [one.trainings[place] == two.trainings[place] for place in places]
    found = compared(paired)
    tested = compared(np.where(np.array(alike, bool)[:, None], np.nan, paired))
    head = ["level", "A", "B", "B - A", "95 %", "p (Holm)", ""]
    digits = digits_of(metric)
    several = len({factor for factor, _ in places} - {""}) > 1
    lines = [
        [
            (f"{place[0]} " if several and place[0] else "") + label(one, two, place),
            cell(one.values[place], digits, len(seeds_of(one))),
            cell(two.values[place], digits, len(seeds_of(two))),
            signed(found.mean[i], found.sd[i], digits),
            bounds(found.low[i], found.high[i], digits),
            chance(tested.p_holm[i]),
            remark(one, two, place, same=alike[i], spread=found.sd[i] != 0),
        ]
        for i, place in enumerate(places)
    ]
    odd = [] if metric in (HOURS, LOSS) else [*seeds_apart("A", one), *seeds_apart("B", two)]
    said = odd or [verdicts(tested, lines, relative)]
    said += [*no_pairs(one, two, seeds), *([] if odd else orders(one, two, places))]
    said += [under(metric, a, b), identical(alike), *alone(one, two)]
    return Section(
        title=TITLES.get(metric, metric), table=[head, *lines], sentences=list(filter(None, said))
    )


def seeds_of(mine: Cells) -> set[int]:
    return {seed for values in mine.values.values() for seed in values}


def matrix(mine: Cells, places: Sequence[Place], seeds: Sequence[int]) -> NDArray:
    """Values (levels, seeds), NaN where there is none."""
    rows = [[mine.values.get(place, {}).get(seed, np.nan) for seed in seeds] for place in places]
    return np.array(rows, float).reshape(len(places), len(seeds))


def label(one: Cells, two: Cells, place: Place) -> str:
    """A level's label where both say the same, else both."""
    names = one.labels[place], two.labels[place]
    return names[0] if names[0] == names[1] else f"{names[0]} / {names[1]}"


def cell(values: dict[int, float], digits: int, seeds: int) -> str:
    """Mean and standard deviation, and over how many seeds where not all are there."""
    n, mean, sd = summed(np.array(list(values.values()), float))
    spread = f" ± {sd:.{digits}f}" if n > 1 else ""
    return number(mean, digits) + spread + (f" (n {n})" if 0 < n < seeds else "")


def remark(one: Cells, two: Cells, place: Place, *, same: bool, spread: bool) -> str:
    """Which report's baseline a level is, and why a difference has no p."""
    is_baseline = [place == side.baseline for side in (one, two)]
    words = ["baseline"] if all(is_baseline) else []
    words += [f"baseline of {'A' if is_baseline[0] else 'B'}"] if sum(is_baseline) == 1 else []
    words += ["same trainings"] if same else [] if spread else ["equal for every seed: sign test"]
    return "; ".join(words)


def verdicts(found: Compared, lines: list[list[str]], relative: bool) -> str:
    """What the paired differences say, in one sentence."""
    tested = np.isfinite(found.p_holm) & (found.pairs >= SEEDS)
    if not tested.any():
        return f"No level can be decided: that takes {SEEDS} common seeds, and differences."
    clear = tested & (found.p_holm <= ALPHA)
    what = "the difference to the baseline" if relative else "the mean"
    parts = [
        f"{word} in B for {some([lines[i][0] for i in np.flatnonzero(clear & side)])}"
        for word, side in (("higher", found.mean > 0), ("lower", found.mean < 0))
        if (clear & side).any()
    ]
    decided = f"{what} is {' and '.join(parts)}" if parts else f"{what} differs clearly for none"
    return (
        f"Of {counted(int(tested.sum()), 'level')} tested (t, paired by seed, Holm's p at most "
        f"{ALPHA:g}) {decided}; {int((tested & ~clear).sum())} undecided."
    )


def seeds_apart(name: str, mine: Cells) -> list[str]:
    """The levels of a report with a seed far from its others: nothing is counted over those."""
    each = [
        f"{mine.labels[place]}: {text}"
        for place, values in mine.values.items()
        if (text := apart(pd.Series(values, dtype=float), None))
    ]
    return [f"Seeds of {name} lie apart ({some(each)}): no levels are counted."] if each else []


def no_pairs(one: Cells, two: Cells, seeds: Sequence[int]) -> list[str]:
    """Seeds that only one report has: they are in its means, and in no difference."""
    sides = (("A", seeds_of(one) - {*seeds}), ("B", seeds_of(two) - {*seeds}))
    apart = [f"{some([*map(str, sorted(left))])} in {name} only" for name, left in sides if left]
    if seeds:
        return [f"Seeds without a partner, in no difference: {'; '.join(apart)}."] if apart else []
    return ["No seed in common: nothing is paired."] if seeds_of(one) and seeds_of(two) else []


def orders(one: Cells, two: Cells, places: Sequence[Place]) -> list[str]:
    """Whether both put the levels into the same order, of those that have every seed in both."""
    levels = [
        place
        for place in places
        if place not in one.references | two.references
        and all(len(side.values[place]) == len(seeds_of(side)) for side in (one, two))
    ]
    means = np.array(
        [
            [summed(np.array([*side.values[p].values()], float))[1] for p in levels]
            for side in (one, two)
        ]
    ).reshape(2, len(levels))
    means = means[:, np.isfinite(means).all(0)]
    if means.shape[1] < LEVELS or np.isnan(rho := float(spearman(*means))):
        return []
    return [f"Rank correlation (Spearman) of the means of {means.shape[1]} levels: {rho:.2f}."]


def under(metric: str, a: SavedReport, b: SavedReport) -> str:
    """A warning where hours were measured under different conditions."""
    names = ("device", "lanes", "workers", "threads")
    one, two = (
        {
            tuple(t.get(n, "") for n in names)
            for t in side.trials
            if t["metric"] == metric and t["value"]
        }
        for side in (a, b)
    )
    if metric != HOURS or one == two:
        return ""
    return "Hours were measured under different conditions: B - A is not the trainings' alone."


def identical(alike: list[bool]) -> str:
    if not any(alike):
        return ""
    return f"{sum(alike)} of {counted(len(alike), 'level')} are the same trainings in both reports."


def alone(one: Cells, two: Cells) -> list[str]:
    """Levels that only one of them has."""
    return [
        f"Only in {name}: {some([mine.labels[p] for p in mine.labels if p not in other.labels])}."
        for name, mine, other in (("A", one, two), ("B", two, one))
        if mine.labels.keys() - other.labels.keys()
    ]
