"""Two reports side by side: what differs between them, and their levels, paired by seed."""

import re
from collections import Counter
from typing import NamedTuple

import numpy as np
import pandas as pd

from mae_ablation.report import cells
from mae_ablation.report.metrics import HOURS, count_decimals, is_accuracy, quantity_of
from mae_ablation.report.paired import ALPHA, PairedTests, compare_pairs, summarise
from mae_ablation.report.saved import SavedReport
from mae_ablation.report.table import describe_outliers
from mae_ablation.report.wording import count_noun, list_names
from mae_ablation.study.factors import canonical
from mae_ablation.study.seeds import FEWEST

# end of a level's label: what a recipe's scale made of it
SCALE = re.compile(r" \((?:here |stand-in).*\)$")

OTHER_DATA = (
    "Different data: heights are not comparable. B - A is of the differences to the baseline of "
    "each report."
)
HEAD = ["level", "A", "B", "B - A", "95 %", "p (Holm)", ""]


class ComparedMetric(NamedTuple):
    """One metric: its table (the first line is the head), and what it says."""

    title: str
    table: list[list[str]]
    sentences: list[str]


class Comparison(NamedTuple):
    """Everything that is printed of two reports, as text."""

    names: list[str]
    facts: list[str]  # the same in both reports, and those that differ
    notes: list[str]
    sections: list[ComparedMetric]


def compare_reports(a: SavedReport, b: SavedReport) -> Comparison:
    """Compare B with A: per metric and level both means, and B - A paired by seed.

    Of different data the heights say nothing: there each level's difference to the baseline of its
    own report is compared instead.
    """
    # what the reports are of; not all of them know which files their data were
    one, two = _list_facts(a.about), _list_facts(b.about)
    same = "; ".join(f"{name} {one[name]}" for name in one if one[name] == two[name] != "")
    facts = [f"same: {same}"] if same else []
    facts += [
        f"{name}: {one[name] or '–'} (A), {two[name] or '–'} (B)"
        for name in one
        if one[name] != two[name]
    ]
    prints = [str(report.about.get("fingerprint") or "absent-") for report in (a, b)]
    known = not any(each.startswith("absent-") for each in prints)
    other = one["data"] != two["data"] or (known and prints[0] != prints[1])

    # what only one of them has
    metrics = [list(dict.fromkeys(t["metric"] for t in report.trials)) for report in (a, b)]
    notes = [OTHER_DATA] if other else []
    for name, mine, theirs in (("A", *metrics), ("B", *metrics[::-1])):
        notes += [f"Only in {name}: {quantity_of(m).title}." for m in mine if m not in theirs]
    sides = (("A", a), ("B", b))
    notes += [f"{n}: {r.about['descriptive']}" for n, r in sides if r.about.get("descriptive")]
    both = [metric for metric in metrics[0] if metric in metrics[1]]
    return Comparison(
        names=[f"{n}: {r.about.get('title', r.folder.name)}, {r.folder}" for n, r in sides],
        facts=facts,
        notes=notes,
        sections=[_compare_metric(metric, a, b, relative=other) for metric in both],
    )


def _list_facts(about: dict) -> dict[str, str]:
    """List what two reports may differ in, as report.json says it."""
    keys = {"study": "study", "recipe": "recipe", "data": "data", "image_size": "image size"}
    keys |= {"epochs": "pre-training epochs", "phases": "phases", "seeds": "seeds"}
    facts = {}
    for key, name in {**keys, "commits": "commit"}.items():
        value = about.get(key)
        words = value if isinstance(value, list) else [] if value is None else [value]
        facts[name] = ", ".join(map(str, words))
    facts["image size"] += " px" * bool(facts["image size"])
    changed = ", ".join(map(str, about.get("changed") or []))
    facts["recipe"] += f" with {changed}" if changed else ""
    return facts


def _read_side(report: SavedReport, metric: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a report's levels of a metric: label, kind and trainings; and their values by seed.

    Both are indexed by factor and level, in one spelling and without its scale.
    """
    mine = pd.DataFrame(report.trials)
    mine = mine[mine["metric"] == metric]
    levels = list(zip(mine["factor"], mine["level"], strict=True))
    plain = {level: (level[0], SCALE.sub("", level[1])) for level in levels}
    found = {level: (place[0], canonical(*place)) for level, place in plain.items()}

    # names that would fall together with another of the same report stay as they are
    several = Counter(place for place, _ in {(found[level], plain[level]) for level in plain})
    places = [found[x] if several[found[x]] == 1 else plain[x] for x in levels]
    mine = mine.assign(seed=mine["seed"].astype(int), value=pd.to_numeric(mine["value"]))
    mine["spelling"] = [spelling for _, spelling in places]
    by = ["factor", "spelling"]
    rows = mine.groupby(by, sort=False).agg(
        label=("level", "last"), kind=("kind", "last"), trainings=("trial_id", tuple)
    )
    return rows, mine.pivot(index=by, columns="seed", values="value").reindex(rows.index)


def _compare_metric(
    metric: str, a: SavedReport, b: SavedReport, *, relative: bool
) -> ComparedMetric:
    """Compare one metric of both reports."""
    # paired differences, of heights or of differences to the own baseline, and their tests without
    # those of the same trainings
    (rows, ours), (other_rows, theirs) = _read_side(a, metric), _read_side(b, metric)
    places = [place for place in rows.index if place in other_rows.index]
    heights = {"A": ours, "B": theirs}
    if relative:
        ours, theirs = _against_baseline(rows, ours), _against_baseline(other_rows, theirs)
    seeds = [{*side.columns[side.notna().any()]} for side in heights.values()]
    common = sorted(seeds[0] & seeds[1])
    paired = (theirs.loc[places, common] - ours.loc[places, common]).to_numpy(float)
    alike = [rows.trainings[place] == other_rows.trainings[place] for place in places]
    found = compare_pairs(paired)
    tested = compare_pairs(np.where(np.array(alike, bool)[:, None], np.nan, paired))

    # a line for each level
    digits, lines = count_decimals(metric), []
    several = len({factor for factor, _ in places} - {""}) > 1
    for i, place in enumerate(places):
        label = " / ".join(dict.fromkeys((rows.label[place], other_rows.label[place])))
        of = "".join(
            name
            for name, side in zip("AB", (rows, other_rows), strict=True)
            if side.kind[place] == "baseline"
        )
        remarks = [{"AB": "baseline"}.get(of, f"baseline of {of}")] if of else []
        sign = ["equal for every seed: sign test"] if found.sd[i] == 0 else []
        remarks += ["same trainings"] if alike[i] else sign
        lines.append(
            [
                f"{place[0]} {label}".strip() if several else label,
                *(_format_mean(side, place, digits) for side in heights.values()),
                cells.format_difference(found.mean[i], found.sd[i], digits),
                cells.format_interval(found.low[i], found.high[i], digits),
                cells.format_p_value(tested.p_holm[i]),
                "; ".join(remarks),
            ]
        )

    # and what they say; nothing is counted over seeds that lie apart
    said = []
    for name, side, names in zip("AB", heights.values(), (rows, other_rows), strict=True):
        texts = {place: describe_outliers(side.loc[place], None) for place in side.index}
        each = [f"{names.label[place]}: {text}" for place, text in texts.items() if text]
        if each and is_accuracy(metric):
            said.append(f"Seeds of {name} lie apart ({list_names(each)}): no levels are counted.")
    said = said or [_describe_tests(tested, lines, relative)]

    # seeds that only one report has: they are in its means, and in no difference
    alone = [sorted(one - {*common}) for one in seeds]
    parts = [
        f"{list_names([*map(str, one)])} in {name} only"
        for name, one in zip("AB", alone, strict=True)
        if one
    ]
    if parts and common:
        said.append(f"Seeds without a partner, in no difference: {'; '.join(parts)}.")
    if all(seeds) and not common:
        said.append("No seed in common: nothing is paired.")
    if metric == HOURS and _conditions(a) != _conditions(b):
        said.append(
            "Hours were measured under different conditions: B - A is not the trainings' alone."
        )
    if any(alike):
        levels = count_noun(len(alike), "level")
        said.append(f"{sum(alike)} of {levels} are the same trainings in both reports.")
    for name, mine, other in (("A", rows, other_rows), ("B", other_rows, rows)):
        if only := mine.label[[place not in other.index for place in mine.index]].tolist():
            said.append(f"Only in {name}: {list_names(only)}.")
    return ComparedMetric(title=quantity_of(metric).title, table=[HEAD, *lines], sentences=said)


def _against_baseline(rows: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Return every level's difference to the baseline of its report, where both have the seed."""
    base = values.loc[(rows["kind"] == "baseline").to_numpy()]
    return values.drop(base.index).reindex(values.index) - (base.iloc[0] if len(base) else np.nan)


def _format_mean(values: pd.DataFrame, place: tuple[str, str], digits: int) -> str:
    """Format mean and standard deviation, and over how many seeds where not all are there."""
    n, mean, sd = summarise(values.loc[[place]].to_numpy(float)[0])
    spread = f" ± {sd:.{digits}f}" if n > 1 else ""
    few = f" (n {n})" if 0 < n < values.notna().any().sum() else ""
    return cells.format_number(mean, digits) + spread + few


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


def format_comparison(found: Comparison) -> str:
    """Format as Markdown, with columns that are aligned for a terminal, too."""
    lines = ["# Two reports side by side", ""]
    lines += [f"- {words}" for words in (*found.names, *found.facts)]
    for note in found.notes:
        lines += ["", note]
    for part in found.sections:
        # columns without any number are left out
        columns = enumerate(zip(*part.table, strict=True))
        kept = [c for i, c in columns if i < 3 or {*c[1:]} - {*cells.NOTHING}]
        kept = [list(map(cells.escape_markdown_cell, column)) for column in kept]
        widths = [max(3, *map(len, column)) for column in kept]
        table = [
            " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
            for line in zip(*kept, strict=True)
        ]
        table.insert(1, " | ".join("-" * width for width in widths))
        lines += ["", f"**{part.title}.**", "", *(f"| {line} |" for line in table)]
        lines += ["", *(f"- {sentence}" for sentence in part.sentences)]
    return "\n".join(lines) + "\n"
