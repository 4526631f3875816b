"""A report as it lies in its folder: report.json and trials.csv, read without heavy imports."""

import csv
import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from mae_ablation.errors import UserError, unknown
from mae_ablation.store.paths import expanded

COLUMNS = ("factor", "level", "kind", "metric", "seed", "value", "trial_id")
"""of trials.csv, that a comparison needs"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedReport:
    """What a study's report says of itself, and every trial's result."""

    folder: Path
    about: dict
    """report.json"""
    trials: list[dict[str, str]]
    """lines of trials.csv"""


def open_report(name: str, reports: Path) -> SavedReport:
    """The report in a folder, or of that name in the folder of reports.

    Raises:
        UserError: there is none, it is not a study's, or its files cannot be read.
    """
    folder = next((f for f in (expanded(name), reports / name) if f.is_dir()), None)
    if folder is None:
        there = sorted(f.parent.name for f in reports.glob("*/report.json"))
        raise UserError(unknown("report", name, there) if there else "no report there", name)
    try:
        about = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
            trials = list(csv.DictReader(file))
    except FileNotFoundError as error:
        file = Path(error.filename).name
        if file == "trials.csv" and is_suite(about):
            message = "a report of a suite; compare those of its studies"
            raise UserError(message, str(folder)) from None
        message = f"no {file} in there; `python -m platform report STUDY` writes it"
        raise UserError(message, str(folder)) from None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"cannot read the report: {error}", str(folder)) from None
    if not isinstance(about, dict) or is_suite(about):
        raise UserError("not the report of a study; compare two of those", str(folder))
    if lacking := [name for name in COLUMNS if trials and name not in trials[0]]:
        raise UserError(f"no column {', '.join(lacking)}", str(folder / "trials.csv"))
    for line, trial in enumerate(trials, 2):
        if not (trial["seed"].isdigit() and is_number(trial["value"] or "0")):
            message = f"seed {trial['seed']!r} or value {trial['value']!r} is not a number"
            raise UserError(message, f"{folder / 'trials.csv'}:{line}")
    return SavedReport(folder=folder, about=about, trials=trials)


def report_in(folder: Path) -> object:
    """The folder's report.json as it is; None where there is none that can be read."""
    try:
        return json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def is_suite(about: object) -> bool:
    return isinstance(about, dict) and about.get("kind", "study") != "study"


def is_number(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False
