"""reports/index.html: every report of a folder, found by its report.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mae_ablation.errors import Emptier, UserError
from mae_ablation.report.readings import Readings
from mae_ablation.store import atomic
from mae_ablation.study.plan import Plan
from mae_ablation.study.suite import Suite

NEEDED = {"kind", "title", "headline", "recipe", "seeds"}


def write_overviews(
    suites: Sequence[Suite],
    plans: Sequence[Plan],
    reports: Path,
    *,
    readings: Mapping[str, Readings] | None = None,
) -> list[Path]:
    """The pages above those of single studies: one for each suite, and the index.

    Arguments as in `write_suite_report`. Returns the pages.

    Raises:
        Emptier: a suite's page shows more results than there are now; the others are written.
        UserError: the store cannot be read, or a folder cannot be written.
    """
    from mae_ablation.report.suite import write_suite_report

    pages, kept = [], None
    for suite in suites:
        try:
            pages.append(write_suite_report(suite, plans, reports, readings=readings)[0])
        except Emptier as error:
            kept = kept or error
    pages.append(write_index(reports))
    if kept:
        raise kept
    return pages


def write_index(reports: Path) -> Path:
    """Write `reports`/index.html anew, in the order of the folders' names, and beside it the page
    that explains all tables.

    Raises:
        UserError: it cannot be written.
    """
    from mae_ablation.report.how_to_read import HOW_TO_READ, write_how_to_read
    from mae_ablation.report.html import templates
    from mae_ablation.report.published import FOLDER

    found, damaged = reports_in(reports)
    text = (
        templates()
        .get_template("index.html")
        .render(
            title="Ablation studies",
            how_to_read=HOW_TO_READ,
            suites=[with_details(r) for r in found if r["kind"] == "suite"],
            studies=[r for r in found if r["kind"] == "study"],
            damaged=damaged,
            published=FOLDER if reports_in(reports / FOLDER)[0] else "",
        )
    )
    try:
        atomic.write_text(reports / "index.html", text)
        write_how_to_read(reports)
    except OSError as error:
        lines = f"index not written: {error}".splitlines()
        raise UserError(lines[0], str(reports)) from None
    return reports / "index.html"


def reports_in(reports: Path) -> tuple[list[dict], list[str]]:
    """The report.json of every folder, with the folder's name; and the folders where it is none."""
    found, damaged = [], []
    for path in sorted(reports.glob("*/report.json")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            report = None
        if isinstance(report, dict) and report.keys() >= NEEDED:
            found.append({"data": "", **report, "folder": path.parent.name})
        else:
            damaged.append(path.parent.name)
    return found, damaged


def with_details(report: dict) -> dict:
    count = f"{len(report['seeds'])} seed" + "s" * (len(report["seeds"]) != 1)
    studies = len(report.get("studies", ()))
    return {**report, "details": f"{studies} studies, recipe {report['recipe']}, {count}"}
