"""Reports as they lie in their folders, read without heavy imports.

reports/mask_ratio/                        one's own
reports/published/mask_ratio-overnight/    shipped with the project, which one's own link to
"""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mae_ablation.errors import Emptier, UserError, unknown
from mae_ablation.store.paths import expanded

# columns of trials.csv that a comparison needs
COMPARED_COLUMNS = ("factor", "level", "kind", "metric", "seed", "value", "trial_id")

PUBLISHED = "published"  # name of the folder of reports that ship with the project


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedReport:
    """A study's report as it was written: its facts, and every trial's result."""

    folder: Path
    about: dict  # content of report.json
    trials: list[dict[str, str]]  # lines of trials.csv


def open_report(name: str, reports: Path) -> SavedReport:
    """Open the report in a folder, or of that name in the folder of reports.

    Raises:
        UserError: there is none, it is not a study's, or its files cannot be read.
    """
    # the folder and its files
    folder = next((f for f in (expanded(name), reports / name) if f.is_dir()), None)
    if folder is None:
        there = sorted(f.parent.name for f in reports.glob("*/report.json"))
        raise UserError(unknown("report", name, there) if there else "no report there", name)
    try:
        about = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        if not isinstance(about, dict) or about.get("kind", "study") != "study":
            raise UserError("not the report of a study; compare two of those", str(folder))
        with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
            trials = list(csv.DictReader(file))
    except FileNotFoundError as error:
        file = Path(error.filename).name
        message = f"no {file} in there; `mae-ablation report STUDY` writes it"
        raise UserError(message, str(folder)) from None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"cannot read the report: {error}", str(folder)) from None

    # what they say
    if lacking := [name for name in COMPARED_COLUMNS if trials and name not in trials[0]]:
        raise UserError(f"no column {', '.join(lacking)}", str(folder / "trials.csv"))
    for line, trial in enumerate(trials, 2):
        try:
            int(trial["seed"]), float(trial["value"] or 0)
        except ValueError:
            message = f"seed {trial['seed']!r} or value {trial['value']!r} is not a number"
            raise UserError(message, f"{folder / 'trials.csv'}:{line}") from None
    return SavedReport(folder=folder, about=about, trials=trials)


def report_in(folder: Path) -> dict | None:
    """Return the content of the folder's report.json; None where there is none that can be read."""
    try:
        about = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) else None


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Make what the system refuses, as on a full disk, an error of one line with its place."""
    try:
        yield
    except OSError as error:
        line = f"{what} not written: {error}".splitlines()[0]
        raise UserError(line, str(folder)) from None


def require_no_emptier(folder: Path, finished: int, asked: int) -> None:
    """Refuse to put a report that lacks results in the place of one that has more.

    Raises:
        Emptier: the folder's report has more results than the finished ones of those asked for.
    """
    # a complete one replaces any: then fewer were asked for
    there = (report_in(folder) or {}).get("finished")
    if isinstance(there, int) and finished < min(asked, there):
        raise Emptier(
            f"kept: it shows {there} results, and of this study only {finished} of {asked} are "
            f"finished; --reports DIR writes elsewhere",
            str(folder),
        )


def find_published(study: str, folder: Path) -> list[dict[str, str]]:
    """Find the published reports of a study, for its report in this folder.

    Each has a folder as a report beside it sees it, a recipe and a headline.
    """
    if folder.parent.name == PUBLISHED:  # it is one of them
        return []
    found = []
    for path in sorted((folder.parent / PUBLISHED).glob("*/report.json")):
        about = report_in(path.parent) or {}
        if about.get("study") == study:
            known = {name: str(about.get(name, "")) for name in ("recipe", "headline")}
            found.append({"folder": f"../{PUBLISHED}/{path.parent.name}", **known})
    return found


def describe_news(trials: str, folder: Path) -> dict[str, str]:
    """Say by metric what is new in the text of trials.csv since the last report, a line each.

    Nothing is new in the first report, nor in the first table of its quantity. Written again
    without any change, a report says the same as last time.
    """
    try:
        before = _finished_cells((folder / "trials.csv").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, csv.Error):
        return {}
    now = _finished_cells(trials)
    if now.keys() == before.keys():
        return (report_in(folder) or {}).get("news", {})

    # new levels by name, and rows that have the same new seeds together
    news = {}
    for metric in dict.fromkeys(cell[0] for cell in before):
        known = {cell[1:3] for cell in before if cell[0] == metric}
        new = [cell for cell in now if cell[0] == metric and cell not in before]
        seeds: dict[tuple[str, ...], list[str]] = {}
        for _, factor, level, seed, _ in new:
            seeds.setdefault((factor, level), []).append(seed)
        parts = [f"level {row[1]}" for row in seeds if row not in known]
        groups: dict[tuple[str, ...], list[str]] = {}
        for row in filter(known.__contains__, seeds):
            groups.setdefault(tuple(seeds[row]), []).append(row[1])
        for each, rows in groups.items():
            noun = "seed" if len(each) == 1 else "seeds"
            of = "every row" if len(rows) == len(known) else ", ".join(rows)
            parts.append(f"{noun} {', '.join(each)} of {of}")
        if parts:
            news[metric] = f"New since the last report: {'; '.join(parts)}."
    return news


def _finished_cells(trials: str) -> dict[tuple[str, ...], None]:
    """List metric, factor, level, seed and training of the finished lines of trials.csv."""
    names = ("metric", "factor", "level", "seed", "trial_id")
    return {
        tuple(line[name] for name in names): None
        for line in csv.DictReader(io.StringIO(trials))
        if line["status"] == "finished"
    }
