"""Two reports side by side: what differs between them, and their levels, paired by seed."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mae_ablation.report.cells import (
    NOTHING,
    escape_markdown_cell,
    format_difference,
    format_interval,
    format_number,
    format_p_value,
)
from mae_ablation.report.findings import LEVELS, spearman
from mae_ablation.report.metrics import HOURS, count_decimals, is_accuracy, quantity_of
from mae_ablation.report.outliers import describe_outliers
from mae_ablation.report.paired import ALPHA, PairedTests, compare_pairs, summarise
from mae_ablation.report.saved import SavedReport
from mae_ablation.report.wording import count_noun, list_names
from mae_ablation.study.factors import canonical
from mae_ablation.study.seeds import FEWEST

SCALE = re.compile(r" \((?:here |stand-in).*\)$")
"""End of a level's label: what a recipe's scale made of it."""

OTHER_DATA = (
    "Different data: heights are not comparable. B - A is of the differences to the baseline of "
    "each report."
)

LevelKey = tuple[str, str]
"""Factor and level, in one spelling and without its scale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportSide:
    """One report's values of a metric."""

    values: dict[LevelKey, dict[int, float]]
    """Values by seed."""
    labels: dict[LevelKey, str]
    trainings: dict[LevelKey, dict[int, str]]
    """Identities by seed."""
    kinds: dict[LevelKey, str]
    """Kind of each row: baseline, level or reference."""

    @property
    def seeds(self) -> set[int]:
        return {seed for values in self.values.values() for seed in values}


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedMetric:
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
    """Subject, value in A, value in B."""
    sections: list[ComparedMetric]
    notes: list[str]


def compare_reports(a: SavedReport, b: SavedReport) -> Comparison:
    """Compare B with A: per metric and level both means, and B - A paired by seed.

    Of different data the heights say nothing: there each level's difference to the baseline of its
    own report is compared instead.
    """
    # what the reports are of; not all of them know which files their data were
    one, two = _list_facts(a.about), _list_facts(b.about)
    facts = [(name, one[name], two[name]) for name in one]
    prints = [str(report.about.get("fingerprint") or "absent-") for report in (a, b)]
    known = not any(each.startswith("absent-") for each in prints)
    other = one["data"] != two["data"] or (known and prints[0] != prints[1])

    # what only one of them has
    metrics = [list(dict.fromkeys(t["metric"] for t in report.trials)) for report in (a, b)]
    both = [metric for metric in metrics[0] if metric in metrics[1]]
    notes = [OTHER_DATA] if other else []
    notes += [
        f"Only in {name}: {quantity_of(metric).title}."
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
        same=[f"{name} {ours}" for name, ours, theirs in facts if ours == theirs and ours],
        differs=[fact for fact in facts if fact[1] != fact[2]],
        sections=[_compare_metric(metric, a, b, relative=other) for metric in both],
        notes=notes,
    )


def _list_facts(about: dict) -> dict[str, str]:
    """List what two reports may differ in, as report.json says it."""

    def join(key: str) -> str:
        return ", ".join(map(str, about.get(key) or []))

    def tell(key: str, unit: str = "") -> str:
        return f"{about[key]}{unit}" if about.get(key) is not None else ""

    changed = f" with {join('changed')}" if about.get("changed") else ""
    return {
        "study": tell("study"),
        "recipe": tell("recipe") + changed,
        "data": tell("data"),
        "image size": tell("image_size", " px"),
        "pre-training epochs": tell("epochs"),
        "phases": join("phases"),
        "seeds": join("seeds"),
        "commit": join("commits"),
    }


def _read_side(report: SavedReport, metric: str) -> ReportSide:
    """Collect what a report has of a metric.

    Levels of one value are one, however it is spelled; names that would fall together with another
    label of the same report stay as they are.
    """
    mine = [trial for trial in report.trials if trial["metric"] == metric]
    plain = {(t["factor"], t["level"]): SCALE.sub("", t["level"]) for t in mine}
    found = {key: (key[0], canonical(key[0], level)) for key, level in plain.items()}
    several = Counter(place for place, _ in {(found[key], level) for key, level in plain.items()})
    side = ReportSide(values={}, labels={}, trainings={}, kinds={})
    for trial in mine:
        key = trial["factor"], trial["level"]
        place = found[key] if several[found[key]] == 1 else (key[0], plain[key])
        side.labels[place], side.kinds[place] = trial["level"], trial["kind"]
        by_seed = side.values.setdefault(place, {})
        side.trainings.setdefault(place, {})[int(trial["seed"])] = trial["trial_id"]
        if trial["value"]:
            by_seed[int(trial["seed"])] = float(trial["value"])
    return side


def _against_baseline(mine: ReportSide) -> ReportSide:
    """Return every level's difference to the baseline of its report, where both have the seed."""
    baseline = next((place for place, kind in mine.kinds.items() if kind == "baseline"), None)
    base = mine.values.get(baseline, {})
    differences = {
        place: {seed: value - base[seed] for seed, value in values.items() if seed in base}
        for place, values in mine.values.items()
        if place != baseline
    }
    return replace(mine, values=differences)


def _compare_metric(
    metric: str, a: SavedReport, b: SavedReport, *, relative: bool
) -> ComparedMetric:
    """Compare one metric of both reports."""
    # paired differences, and their tests without those of the same trainings
    one, two = _read_side(a, metric), _read_side(b, metric)
    places = [place for place in one.values if place in two.values]
    ours, theirs = (_against_baseline(side) if relative else side for side in (one, two))
    seeds = sorted(one.seeds & two.seeds)
    paired = _matrix(theirs, places, seeds) - _matrix(ours, places, seeds)
    alike = [one.trainings[place] == two.trainings[place] for place in places]
    found = compare_pairs(paired)
    tested = compare_pairs(np.where(np.array(alike, bool)[:, None], np.nan, paired))

    # a line for each level
    digits = count_decimals(metric)
    several = len({factor for factor, _ in places} - {""}) > 1
    lines = [
        [
            (f"{place[0]} " if several and place[0] else "") + _label(one, two, place),
            _format_mean(one, place, digits),
            _format_mean(two, place, digits),
            format_difference(found.mean[i], found.sd[i], digits),
            format_interval(found.low[i], found.high[i], digits),
            format_p_value(tested.p_holm[i]),
            _remark(one, two, place, same=alike[i], spread=found.sd[i] != 0),
        ]
        for i, place in enumerate(places)
    ]

    # and what they say; nothing is counted over seeds that lie apart
    apart = [*_seeds_apart("A", one), *_seeds_apart("B", two)] if is_accuracy(metric) else []
    said = apart or [_describe_tests(tested, lines, relative)]
    said += _describe_unpaired(one, two, seeds)
    said += [] if apart else _describe_order(one, two, places)
    if metric == HOURS and _conditions(a) != _conditions(b):
        said.append(
            "Hours were measured under different conditions: B - A is not the trainings' alone."
        )
    if any(alike):
        levels = count_noun(len(alike), "level")
        said.append(f"{sum(alike)} of {levels} are the same trainings in both reports.")
    for name, mine, other in (("A", one, two), ("B", two, one)):
        if alone := [label for place, label in mine.labels.items() if place not in other.labels]:
            said.append(f"Only in {name}: {list_names(alone)}.")
    head = ["level", "A", "B", "B - A", "95 %", "p (Holm)", ""]
    return ComparedMetric(title=quantity_of(metric).title, table=[head, *lines], sentences=said)


def _matrix(mine: ReportSide, places: Sequence[LevelKey], seeds: Sequence[int]) -> NDArray:
    """Return values (levels, seeds), NaN where there is none."""
    rows = [[mine.values.get(place, {}).get(seed, np.nan) for seed in seeds] for place in places]
    return np.array(rows, float).reshape(len(places), len(seeds))


def _label(one: ReportSide, two: ReportSide, place: LevelKey) -> str:
    """Return a level's label where both say the same, else both."""
    names = one.labels[place], two.labels[place]
    return names[0] if names[0] == names[1] else f"{names[0]} / {names[1]}"


def _format_mean(mine: ReportSide, place: LevelKey, digits: int) -> str:
    """Format mean and standard deviation, and over how many seeds where not all are there."""
    n, mean, sd = summarise(np.array(list(mine.values[place].values()), float))
    spread = f" ± {sd:.{digits}f}" if n > 1 else ""
    return format_number(mean, digits) + spread + (f" (n {n})" if 0 < n < len(mine.seeds) else "")


def _remark(one: ReportSide, two: ReportSide, place: LevelKey, *, same: bool, spread: bool) -> str:
    """Say which report's baseline a level is, and why a difference has no p."""
    is_baseline = [side.kinds[place] == "baseline" for side in (one, two)]
    words = ["baseline"] if all(is_baseline) else []
    words += [f"baseline of {'A' if is_baseline[0] else 'B'}"] if sum(is_baseline) == 1 else []
    words += ["same trainings"] if same else [] if spread else ["equal for every seed: sign test"]
    return "; ".join(words)


def _conditions(report: SavedReport) -> set[tuple[str, ...]]:
    """Return under what a report's hours were measured."""
    names = ("device", "lanes", "workers", "threads")
    mine = [t for t in report.trials if t["metric"] == HOURS and t["value"]]
    return {tuple(t.get(name, "") for name in names) for t in mine}


def _describe_tests(found: PairedTests, lines: list[list[str]], relative: bool) -> str:
    """Say in one sentence what the paired differences decide."""
    tested = np.isfinite(found.p_holm) & (found.pairs >= FEWEST)
    if not tested.any():
        return f"No level can be decided: that takes {FEWEST} common seeds, and differences."
    clear = tested & (found.p_holm <= ALPHA)
    what = "the difference to the baseline" if relative else "the mean"
    parts = [
        f"{word} in B for {list_names([lines[i][0] for i in np.flatnonzero(clear & side)])}"
        for word, side in (("higher", found.mean > 0), ("lower", found.mean < 0))
        if (clear & side).any()
    ]
    decided = f"{what} is {' and '.join(parts)}" if parts else f"{what} differs clearly for none"
    return (
        f"Of {count_noun(int(tested.sum()), 'level')} tested (t, paired by seed, Holm's p at most "
        f"{ALPHA:g}) {decided}; {int((tested & ~clear).sum())} undecided."
    )


def _seeds_apart(name: str, mine: ReportSide) -> list[str]:
    """Name the levels of a report with a seed far from its others."""
    each = [
        f"{mine.labels[place]}: {text}"
        for place, values in mine.values.items()
        if (text := describe_outliers(pd.Series(values, dtype=float), None))
    ]
    if not each:
        return []
    return [f"Seeds of {name} lie apart ({list_names(each)}): no levels are counted."]


def _describe_unpaired(one: ReportSide, two: ReportSide, seeds: Sequence[int]) -> list[str]:
    """Name the seeds that only one report has: they are in its means, and in no difference."""
    sides = (("A", one.seeds - {*seeds}), ("B", two.seeds - {*seeds}))
    apart = [
        f"{list_names([*map(str, sorted(left))])} in {name} only" for name, left in sides if left
    ]
    if seeds:
        return [f"Seeds without a partner, in no difference: {'; '.join(apart)}."] if apart else []
    return ["No seed in common: nothing is paired."] if one.seeds and two.seeds else []


def _describe_order(one: ReportSide, two: ReportSide, places: Sequence[LevelKey]) -> list[str]:
    """Say whether both put the levels into the same order, of those that have every seed in
    both."""
    levels = [
        place
        for place in places
        if all(side.kinds[place] != "reference" for side in (one, two))
        and all(len(side.values[place]) == len(side.seeds) for side in (one, two))
    ]
    values = [[[*side.values[p].values()] for p in levels] for side in (one, two)]
    means = np.array([[summarise(np.array(v, float))[1] for v in side] for side in values])
    means = means.reshape(2, len(levels))
    means = means[:, np.isfinite(means).all(0)]
    if means.shape[1] < LEVELS or np.isnan(rho := float(spearman(*means))):
        return []
    return [f"Rank correlation (Spearman) of the means of {means.shape[1]} levels: {rho:.2f}."]


# as text, and as a page ---------------------------------------------------------------------------


def as_text(found: Comparison, width: int) -> str:
    """Format for a terminal: columns where they fit, else a level's cells beneath each other."""
    lines = [f"{name}: {words}" for name, words in zip("AB", found.names, strict=True)]
    lines += [*_facts(found), *found.notes]
    for part in found.sections:
        lines += ["", part.title, *_columns(part.table, width), *part.sentences]
    return "\n".join(lines)


def as_markdown(found: Comparison) -> str:
    """Format as a page."""
    lines = ["# Two reports side by side", ""]
    lines += [f"- {name}: {words}" for name, words in zip("AB", found.names, strict=True)]
    lines += [f"- {fact}" for fact in _facts(found)]
    for note in found.notes:
        lines += ["", note]
    for part in found.sections:
        head, *rows = _without_empty(part.table)
        lines += ["", f"**{part.title}.**", "", "| " + " | ".join(head) + " |"]
        lines += ["|" + "---|" * len(head)]
        lines += ["| " + " | ".join(map(escape_markdown_cell, row)) + " |" for row in rows]
        lines += ["", *(f"- {sentence}" for sentence in part.sentences)]
    return "\n".join(lines) + "\n"


def _facts(found: Comparison) -> list[str]:
    """List what is the same, and what differs."""
    lines = [f"same: {'; '.join(found.same)}"] if found.same else []
    return lines + [f"{name}: {a or '–'} (A), {b or '–'} (B)" for name, a, b in found.differs]


def _columns(table: list[list[str]], width: int) -> list[str]:
    """Align a table's lines, at most `width` characters wide where it can be."""
    table = _without_empty(table)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) <= width:
        return [
            "  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip()
            for line in table
        ]

    # else a level, and what stands under each heading beneath it
    (_, *heads), *rows = table
    lines = []
    for level, *texts in rows:
        cells = [f"{h} {c}".strip() for h, c in zip(heads, texts, strict=True) if c not in NOTHING]
        beneath = [""]
        for cell in cells:
            longer = f"{beneath[-1]}; {cell}" if beneath[-1] else cell
            fits = len(longer) <= width - 2
            beneath = [*beneath[:-1], longer] if fits else [*beneath, cell]
        lines += [level, *(f"  {line}" for line in beneath if line)]
    return lines


def _without_empty(table: list[list[str]]) -> list[list[str]]:
    """Return the columns that say something."""
    head, *rows = table
    kept = [i for i in range(len(head)) if i < 3 or any(row[i] not in NOTHING for row in rows)]
    return [[line[i] for i in kept] for line in table]
