"""The experiment's note in MLflow: a headline, and the report's page as far as a note can show it.

Made of the report's own files, so both say the same.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from mae_ablation.report.page import TITLES
from mae_ablation.report.results import HOURS, LOSS

BEST = {HOURS: "Fastest", LOSS: "Lowest pre-training loss"}
"""word for the best level of what is not an accuracy"""
PAD = "&emsp;"  # the UI draws a note's tables without borders and padding


def note(folder: Path) -> str:
    """Text of a report's folder; the first line is all that is seen until it is unfolded.

    **Best linear probe: 0.75, 84.93 ± 0.11 (paper 73.5) – 21/21 done – 3 reproduced, ...**
    """
    rows, trials = lines_of(folder / "table.csv"), lines_of(folder / "trials.csv")
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    parts = [best(metric, [row for row in rows if row["metric"] == metric]) for metric in metrics]
    parts = [part for part in [*parts, done(trials), verdicts(rows)] if part]
    page = (folder / "table.md").read_text(encoding="utf-8").splitlines()[1:]  # without the title
    return "\n".join([f"**{' – '.join(parts)}**", *map(padded, without_pictures(page))]) + "\n"


def lines_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def best(metric: str, rows: Sequence[dict[str, str]]) -> str:
    """The best level, its mean ± sd over seeds, and the paper's value; "" while there is none."""
    levels = [row for row in rows if row["mean"] and row["kind"] != "reference"]
    if not levels:
        return ""
    pick = min if metric in BEST else max
    row = pick(levels, key=lambda row: float(row["mean"]))
    digits = 4 if metric in BEST else 2
    spread = f" ± {float(row['sd']):.{digits}f}" if row["sd"] else ""
    paper = f" (paper {float(row['paper']):.1f})" if row["paper"] else ""
    name = BEST.get(metric) or f"Best {TITLES[metric].lower()}"
    return f"{name}: {row['level']}, {float(row['mean']):.{digits}f}{spread}{paper}"


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


def without_pictures(page: Iterable[str]) -> list[str]:
    return [line for line in page if not line.startswith("![")]


def padded(line: str) -> str:
    return line.replace(" |", f"{PAD} |") if line.startswith("| ") else line
