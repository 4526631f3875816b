"""The experiment's note in MLflow: a headline, and the report's page as far as a note can show it.

Made of the report's own files, so both say the same.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mae_ablation.report.findings import LEVELS, possible_best
from mae_ablation.report.headline import list_counts
from mae_ablation.report.how_to_read import LINKS
from mae_ablation.report.metrics import TITLES, is_accuracy
from mae_ablation.report.saved import report_in
from mae_ablation.study.seeds import FEWEST

PAD = "&emsp;"  # the UI draws a note's tables without borders and padding


def write_note(folder: Path) -> str:
    """Write the note of a report's folder; its first line is all that is seen until it is unfolded.

    **3 reproduced, 6 inconclusive – linear probe may be best: 0.75, 84.93 ± 0.11 (sd of 3 seeds); \
the paper's best: 0.75, 73.5 – 21/21 trials done**
    """
    # the first line: verdicts, with what the tables say against a reading of them
    rows, trials = _read_lines(folder / "table.csv"), _read_lines(folder / "trials.csv")
    about = report_in(folder)
    cautions = " ".join(text for each in about["cautions"].values() for text in each)
    verdicts = list_counts([row["verdict"] for row in rows if row["verdict"]])
    parts = [about["preamble"], verdicts, cautions.removesuffix(".")]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        mine = [[line for line in lines if line["metric"] == metric] for lines in (rows, trials)]
        parts.append(_name_best(metric, *mine))
    first = " – ".join(filter(None, [*parts, _count_done(trials)]))

    # the page without its title, and without pictures and links to files, which a note cannot reach
    page = (folder / "table.md").read_text(encoding="utf-8").splitlines()[1:]
    lines = [line.replace(f" {LINKS}", "") for line in page if not line.startswith("![")]
    lines = [line.replace(" |", f"{PAD} |") if line.startswith("| ") else line for line in lines]
    return "\n".join([f"**{first}**", *lines]) + "\n"


def _read_lines(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _name_best(
    metric: str, rows: Sequence[dict[str, str]], trials: Sequence[dict[str, str]]
) -> str:
    """Name the levels of an accuracy that no test rules out as the best, and the paper's own best.

    Only levels that have every seed, none of them apart, are candidates, and only where there are
    enough of both for a test. What has the highest mean is no finding by itself.
    """
    # candidates: whole rows, and enough of them
    levels = [
        row
        for row in rows
        if row["kind"] != "reference" and row["seeds"] == row["seeds_asked"] and not row["apart"]
    ]
    if not is_accuracy(metric) or len(levels) < LEVELS or int(levels[0]["seeds"]) < FEWEST:
        return ""

    # their values by level and seed, and those that no test rules out
    values = {(t["factor"], t["level"], t["seed"]): t["value"] for t in trials}
    every = dict.fromkeys(t["seed"] for t in trials)
    seeds = [s for s in every if all((r["factor"], r["level"], s) in values for r in levels)]
    matrix = [[float(values[row["factor"], row["level"], s]) for s in seeds] for row in levels]
    best = possible_best(np.array(matrix))
    title = TITLES[metric][0].lower() + TITLES[metric][1:]
    if len(best) == len(levels):
        return f"{title}: any level may be best{name_papers_best(rows)}"
    names = ", ".join(format_level(levels[i]) for i in best)
    counts = {int(row["seeds"]) for row in levels}
    of = f"{len(seeds)} seeds" if len(counts) == 1 else f"{min(counts)} to {max(counts)} seeds"
    return f"{title} may be best: {names} (± sd of {of}){name_papers_best(rows)}"


def format_level(row: dict[str, str]) -> str:
    """Format "0.75, 84.93 ± 0.11"; that a level is a stand-in stands in its name or is added."""
    stand_in = " (stand-in)" if "stand-in" in row["note"] and "stand-in" not in row["level"] else ""
    return f"{row['level']}{stand_in} {float(row['mean']):.2f} ± {float(row['sd']):.2f}"


def name_papers_best(rows: Sequence[dict[str, str]]) -> str:
    """Name the levels of the table that have the paper's own highest number."""
    known = [row for row in rows if row["paper"]]
    if not known:
        return ""
    highest = max(float(row["paper"]) for row in known)
    names = " and ".join(row["level"] for row in known if float(row["paper"]) == highest)
    return f"; the paper's best here: {names} {highest:.1f}"


def _count_done(trials: Iterable[dict[str, str]]) -> str:
    """Count the trials behind the table, each once, and those with every result."""
    cells: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for line in trials:
        key = line["kind"], line["factor"], line["level"], line["seed"]
        cells.setdefault(key, []).append(line)
    finished = {
        tuple(line["trial_id"] for line in lines): all(x["status"] == "finished" for x in lines)
        for lines in cells.values()
    }
    return f"{sum(finished.values())}/{len(finished)} trials done"
