"""The experiment's note in MLflow: a headline, and the report's page as far as a note can show it.

Made of the report's own files, so both say the same.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mae_ablation.report.how_to_read import LINKS
from mae_ablation.report.page import TITLES
from mae_ablation.report.results import HOURS, LOSS
from mae_ablation.report.statistics import LEVELS, possible_best
from mae_ablation.report.verdict import SEEDS

PAD = "&emsp;"  # the UI draws a note's tables without borders and padding


def note(folder: Path) -> str:
    """Text of a report's folder; the first line is all that is seen until it is unfolded.

    **3 reproduced, 6 inconclusive – linear probe may be best: 0.75, 84.93 ± 0.11 (sd of 3 seeds); \
the paper's best: 0.75, 73.5 – 21/21 trials done**
    """
    rows, trials = lines_of(folder / "table.csv"), lines_of(folder / "trials.csv")
    about = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    parts = [about["preamble"], verdicts(rows), against(about["cautions"])]
    for metric in metrics:
        mine = [[line for line in lines if line["metric"] == metric] for lines in (rows, trials)]
        parts.append(may_be_best(metric, *mine))
    first = " – ".join(filter(None, [*parts, done(trials)]))
    page = (folder / "table.md").read_text(encoding="utf-8").splitlines()[1:]  # without the title
    return "\n".join([f"**{first}**", *map(padded, for_a_note(page))]) + "\n"


def lines_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def may_be_best(
    metric: str, rows: Sequence[dict[str, str]], trials: Sequence[dict[str, str]]
) -> str:
    """The levels of an accuracy that no test rules out as the best, and the paper's own best.

    Only levels that have every seed, none of them apart, are candidates, and only where there are
    enough of both for a test. What has the highest mean is no finding by itself.
    """
    # candidates: whole rows, and enough of them
    levels = [
        row
        for row in rows
        if row["kind"] != "reference" and row["seeds"] == row["seeds_asked"] and not row["apart"]
    ]
    if metric in (LOSS, HOURS) or len(levels) < LEVELS or int(levels[0]["seeds"]) < SEEDS:
        return ""

    # their values by level and seed, and those that no test rules out
    values = {(t["factor"], t["level"], t["seed"]): t["value"] for t in trials}
    every = dict.fromkeys(t["seed"] for t in trials)
    seeds = [s for s in every if all((r["factor"], r["level"], s) in values for r in levels)]
    matrix = [[float(values[row["factor"], row["level"], s]) for s in seeds] for row in levels]
    best = possible_best(np.array(matrix))
    title = TITLES[metric][0].lower() + TITLES[metric][1:]
    if len(best) == len(levels):
        return f"{title}: any level may be best{papers_best(rows)}"
    names = ", ".join(format_level(levels[i]) for i in best)
    counts = {int(row["seeds"]) for row in levels}
    of = f"{len(seeds)} seeds" if len(counts) == 1 else f"{min(counts)} to {max(counts)} seeds"
    return f"{title} may be best: {names} (± sd of {of}){papers_best(rows)}"


def format_level(row: dict[str, str]) -> str:
    """ "0.75, 84.93 ± 0.11"; that a level is a stand-in stands in its name or is added."""
    stand_in = " (stand-in)" if "stand-in" in row["note"] and "stand-in" not in row["level"] else ""
    return f"{row['level']}{stand_in} {float(row['mean']):.2f} ± {float(row['sd']):.2f}"


def papers_best(rows: Sequence[dict[str, str]]) -> str:
    """Where the paper's own highest number is, among the levels that the table has."""
    known = [row for row in rows if row["paper"]]
    if not known:
        return ""
    highest = max(float(row["paper"]) for row in known)
    names = " and ".join(row["level"] for row in known if float(row["paper"]) == highest)
    return f"; the paper's best here: {names} {highest:.1f}"


def done(trials: Iterable[dict[str, str]]) -> str:
    """Of the trials behind the table, each once, those with every result."""
    cells: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for line in trials:
        cells.setdefault((line["kind"], line["factor"], line["level"], line["seed"]), []).append(
            line
        )
    finished = {
        tuple(line["trial_id"] for line in lines): all(x["status"] == "finished" for x in lines)
        for lines in cells.values()
    }
    return f"{sum(finished.values())}/{len(finished)} trials done"


def verdicts(rows: Iterable[dict[str, str]]) -> str:
    given = [row["verdict"] for row in rows if row["verdict"]]
    return ", ".join(f"{given.count(word)} {word}" for word in dict.fromkeys(given))


def against(cautions: Mapping[str, Sequence[str]]) -> str:
    """What the tables say against a reading of the verdicts: here they stand alone."""
    said = [text for each in cautions.values() for text in each]
    return " ".join(said).removesuffix(".")


def for_a_note(page: Iterable[str]) -> list[str]:
    """The page without pictures and links to files, which a note cannot reach."""
    return [line.replace(f" {LINKS}", "") for line in page if not line.startswith("![")]


def padded(line: str) -> str:
    return line.replace(" |", f"{PAD} |") if line.startswith("| ") else line
