"""The pages above those of single studies: one for each suite, and the index of all reports.

A suite's page has the tables of its studies side by side, as in the paper's Table 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mae_ablation.errors import Emptier, UserError
from mae_ablation.report.cells import format_number
from mae_ablation.report.headline import describe_too_few, list_cautions, list_counts
from mae_ablation.report.how_to_read import HOW_TO_READ, verdict_rule, write_how_to_read
from mae_ablation.report.html import anchor, templates
from mae_ablation.report.method import run_command
from mae_ablation.report.metrics import is_accuracy, list_metrics, quantity_of
from mae_ablation.report.readings import Readings
from mae_ablation.report.results import results_frame
from mae_ablation.report.saved import PUBLISHED, report_in, require_no_emptier
from mae_ablation.report.table import paper_number, table_frame
from mae_ablation.report.verdict import SIGNS, format_verdict, is_decided_by_sign
from mae_ablation.report.wording import count_noun, list_names
from mae_ablation.store import atomic
from mae_ablation.study.places import path_from, require_own_place
from mae_ablation.study.plan import Plan, Row
from mae_ablation.study.seeds import FEWEST
from mae_ablation.study.suite import Suite

REPORT_KEYS = {"kind", "title", "headline", "recipe", "seeds"}
"""Keys of a report.json that the index shows."""

TABLE_1 = (
    "The paper's ablations of the pre-training, one change at a time from the bold row: top-1 "
    "accuracy after fine-tuning end to end (ft) and of a linear probe on the frozen encoder (lin), "
    "in per cent. Ours beside the paper's ViT-L/16, pre-trained for 800 epochs on ImageNet-1K: "
    "compare how the rows differ, not how high they stand."
)


def write_overviews(
    suites: Sequence[Suite],
    plans: Sequence[Plan],
    reports: Path,
    *,
    readings: Mapping[str, Readings] | None = None,
) -> list[Path]:
    """Write the pages above those of single studies; returns them.

    Arguments as in `write_suite_report`.

    Raises:
        Emptier: a suite's page shows more results than there are now; the others are written.
        UserError: the store cannot be read, or a folder cannot be written.
    """
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


# the index ----------------------------------------------------------------------------------------


def write_index(reports: Path) -> Path:
    """Write `reports`/index.html anew, in the order of the folders' names, and beside it the page
    that explains all tables.

    Raises:
        UserError: it cannot be written.
    """
    found, damaged = _reports_in(reports)
    page = templates().get_template("index.html")
    text = page.render(
        title="Ablation studies",
        how_to_read=HOW_TO_READ,
        suites=[report for report in found if report["kind"] == "suite"],
        studies=[report for report in found if report["kind"] == "study"],
        damaged=damaged,
        published=PUBLISHED if _reports_in(reports / PUBLISHED)[0] else "",
    )
    try:
        atomic.write_text(reports / "index.html", text)
        write_how_to_read(reports)
    except OSError as error:
        lines = f"index not written: {error}".splitlines()
        raise UserError(lines[0], str(reports)) from None
    return reports / "index.html"


def _reports_in(reports: Path) -> tuple[list[dict], list[str]]:
    """Return the report.json of every folder, with the folder's name and its details in words; and
    the folders where it is damaged."""
    found, damaged = [], []
    for path in sorted(reports.glob("*/report.json")):
        about = report_in(path.parent)
        if isinstance(about, dict) and about.keys() >= REPORT_KEYS:
            studies, seeds = len(about.get("studies", ())), count_noun(len(about["seeds"]), "seed")
            details = f"{studies} studies, recipe {about['recipe']}, {seeds}"
            found.append({"data": "", **about, "folder": path.parent.name, "details": details})
        else:
            damaged.append(path.parent.name)
    return found, damaged


# a suite ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One study of a suite, and its numbers."""

    plan: Plan
    table: pd.DataFrame
    results: pd.DataFrame
    own: dict
    """What the report.json of the study's own page says; empty where there is none."""

    @property
    def metrics(self) -> list[str]:
        return sorted(list_metrics(self.plan), key=lambda metric: quantity_of(metric).place)

    @property
    def letter(self) -> str:
        """ "c" of the paper's Table 1c; "" of any other."""
        name = self.plan.study.paper or ""
        return name.removeprefix("table_1") if name.startswith("table_1") else ""

    @property
    def verdicts(self) -> list[str]:
        return [verdict for verdict in self.table["verdict"] if verdict]

    @property
    def descriptive(self) -> str:
        """That seeds were added to the study after results had been seen; "" where not."""
        same = self.own.get("seeds") == list(self.plan.study.seeds)
        return self.own.get("descriptive", "") if same else ""


def write_suite_report(
    suite: Suite,
    plans: Sequence[Plan],
    reports: Path,
    *,
    readings: Mapping[str, Readings] | None = None,
) -> list[Path]:
    """Make the suite's folder in `reports`: index.html and report.json. Links lead to the pages of
    its studies there.

    Args:
        readings: by experiment, where results are read (default: the plan's store).

    Returns the files.

    Raises:
        Emptier: the folder's page shows more results than this one, which is incomplete.
        UserError: the store cannot be read, the folder cannot be written, or it holds the report of
            another file.
    """
    mine = [plan for plan in plans if suite.holds(plan.study)]
    folder = reports / suite.experiment([plan.study for plan in mine])
    require_own_place(folder, report_in(folder), suite.path)
    try:
        known = readings or {}
        members = [read_member(plan, reports, known.get(plan.study.experiment)) for plan in mine]
        return _write_suite(suite, members, folder)
    except OSError as error:
        lines = f"report not written: {error}".splitlines()
        raise UserError(lines[0], str(folder)) from None


def read_member(plan: Plan, reports: Path, readings: Readings | None = None) -> Member:
    """Read a study's numbers; `reports`: where its own page lies."""
    readings = readings or Readings(plan.store)
    results, own = results_frame(plan, readings), report_in(reports / plan.study.experiment)
    return Member(
        plan=plan,
        table=table_frame(plan, results, readings),
        results=results,
        own=own if isinstance(own, dict) else {},
    )


def _write_suite(suite: Suite, members: Sequence[Member], folder: Path) -> list[Path]:
    # the command that makes all of it: the first study's, of the suite's file
    finished = sum(int((m.results["status"] == "finished").sum()) for m in members)
    asked = sum(len(m.results) for m in members)
    require_no_emptier(folder, finished, asked)
    command = f"python -m platform.run {suite.path}"
    if members:
        plan = members[0].plan
        command = run_command(plan).replace(str(plan.study.path), str(suite.path), 1)

    # the page, Table 1 from a to f before the figures and whatever else the suite has
    first = sorted((m for m in members if m.letter), key=lambda m: m.letter)
    rest = [m for m in members if not m.letter]
    titles = {"Table 1": (TABLE_1, first), "Figures and further studies": ("", rest)}
    headline = suite_headline(members)
    page = templates().get_template("suite.html")
    text = page.render(
        title=suite.title,
        headline=headline,
        caption=_describe_members(members),
        groups=[
            {"title": title, "text": text, "studies": [show_card(m) for m in some_members]}
            for title, (text, some_members) in titles.items()
            if some_members
        ],
        legend=[{"sign": sign, "words": words} for words, sign in SIGNS.items()],
        rule=" ".join(verdict_rule()),
        how_to_read=f"../{HOW_TO_READ}",
        command=command,
    )

    # and what it is of
    html, report = folder / "index.html", folder / "report.json"
    about = {
        "kind": "suite",
        "title": suite.title,
        "headline": headline,
        "studies": [m.plan.study.experiment for m in members],
        "recipe": ", ".join(dict.fromkeys(m.plan.study.recipe_name for m in members)),
        "seeds": list(dict.fromkeys(seed for m in members for seed in m.plan.study.seeds)),
        "finished": finished,
        "asked": asked,
        "command": command,
        "files": [html.name, report.name],
        "study_file": path_from(folder, suite.path),
    }
    atomic.write_text(html, text)
    with atomic.replacing(report) as file:
        file.write(atomic.to_json(about))
    return [html, report]


def suite_headline(members: Sequence[Member]) -> str:
    """Count the verdicts of all studies, and say what takes from them."""
    said = [_count_verdicts([v for m in members for v in m.verdicts])]
    if any(is_decided_by_sign(m.table) for m in members):
        said.append("Directions are compared, not sizes.")
    if any(len(m.plan.study.seeds) < FEWEST for m in members):
        said.append(f"Fewer than {FEWEST} seeds decide nothing.")
    if late := [m.plan.study.name for m in members if m.descriptive]:
        said.append(f"Descriptive, as declared after results had been seen: {list_names(late)}.")
    return " ".join(said)


def _count_verdicts(verdicts: Sequence[str]) -> str:
    """Count the verdicts of each kind, in the order of SIGNS."""
    if not verdicts:
        return "Nothing to compare with the paper yet."
    counts = list_counts(sorted(verdicts, key=list(SIGNS).index))
    differences = count_noun(len(verdicts), "difference")
    return f"Against the paper, of {differences} to the baseline: {counts}."


def _describe_members(members: Sequence[Member]) -> str:
    """Name data, recipes, seeds and commits of all tables."""
    studies = [m.plan.study for m in members]
    commits = sorted({commit for m in members for commit in m.results["commit"].dropna()})
    recipes = dict.fromkeys(
        study.recipe_name + (f" with {', '.join(study.changed)}" if study.changed else "")
        for study in studies
    )
    data = dict.fromkeys(
        f"{study.baseline.data.name} ({study.baseline.data.image_size} px)" for study in studies
    )
    shown = (sorted(set(m.results["seed"])) for m in members)
    seeds = dict.fromkeys(", ".join(map(str, each)) for each in shown)
    return (
        f"Data {', '.join(data)}, recipe {', '.join(recipes)}, seeds {' or '.join(seeds)}, "
        f"commit {list_names(commits) or 'none'}."
    )


def show_card(m: Member) -> dict:
    """Prepare one study's compact table."""
    study, metrics = m.plan.study, m.metrics
    figure = (study.paper or "").startswith("figure")
    name = f"{study.paper.replace('_', ' ').capitalize()}: " if figure else ""
    rows = [_show_row(m, i, row) for i, row in enumerate(m.plan.rows)]

    # what takes from its verdicts
    cautions = [c for metric in metrics for c in list_cautions(m.plan, metric, m.table, m.results)]
    other = m.own.get("seeds", list(study.seeds))
    other_seeds = f"Its own page has seeds {', '.join(map(str, other))}."
    aside = [f"{text[0].upper()}{text[1:]}" for text in cautions]
    aside += [m.descriptive, describe_too_few(m.plan)]
    aside += [other_seeds] if other != list(study.seeds) else []
    return {
        "letter": m.letter,
        "title": name + study.title,
        "link": f"../{study.experiment}/index.html",
        "heads": [quantity_of(metric).head for metric in metrics],
        "has_paper": bool(m.verdicts) or any(text != "–" for row in rows for text in row["paper"]),
        "rows": rows,
        "aside": " ".join(filter(None, aside)),
        "headline": _count_verdicts(m.verdicts) if m.verdicts else "",
    }


def _show_row(m: Member, number: int, row: Row) -> dict:
    """Prepare a level: our means, the paper's numbers, and a mark for each verdict."""
    ours, paper, marks = [], [], []
    for metric in m.metrics:
        # the table's line of the row, where it is measured
        measured = sorted(set(m.results.loc[m.results["metric"] == metric, "row"]))
        lines = m.table[m.table["metric"] == metric]
        line = lines.iloc[measured.index(number)] if number in measured else None
        mean = line["mean"] if line is not None else None
        text = format_number(mean, 1 if is_accuracy(metric) else 4)
        ours.append({"text": text, "runs": anchor(metric, number)})
        paper.append(format_number(paper_number(m.plan, metric, row), 1))
        if line is not None and line["verdict"]:
            words = f"{quantity_of(metric).head}: {format_verdict(line)}"
            marks.append({"sign": SIGNS[line["verdict"]], "words": words})
    kind = "baseline" if row.is_baseline else "level"
    return {"kind": kind, "level": row.label, "ours": ours, "paper": paper, "marks": marks}
