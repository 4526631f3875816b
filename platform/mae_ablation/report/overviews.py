"""The pages above those of single studies: one for each suite, and the index of all reports.

A suite's page has the tables of its studies side by side, as in the paper's Table 1.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mae_ablation.errors import Emptier
from mae_ablation.report.cells import format_number
from mae_ablation.report.headline import describe_too_few, list_cautions, list_counts
from mae_ablation.report.how_to_read import (
    HOW_TO_READ,
    load_template,
    verdict_rule,
    write_how_to_read,
)
from mae_ablation.report.html import anchor
from mae_ablation.report.method import run_command
from mae_ablation.report.metrics import is_accuracy, list_metrics, quantity_of
from mae_ablation.report.readings import Readings
from mae_ablation.report.results import results_frame
from mae_ablation.report.saved import PUBLISHED, report_in, require_no_emptier, writing
from mae_ablation.report.table import paper_number, table_frame
from mae_ablation.report.verdict import SIGNS, format_verdict, is_decided_by_sign
from mae_ablation.report.wording import count_noun, list_names
from mae_ablation.store import atomic
from mae_ablation.study.places import path_from, require_own_place
from mae_ablation.study.plan import Plan
from mae_ablation.study.seeds import FEWEST
from mae_ablation.study.suite import Suite

# keys of a report.json that the index shows
REPORT_KEYS = {"kind", "title", "headline", "recipe", "seeds"}

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

    Args:
        readings: by experiment, where results are read (default: the plan's store).

    Raises:
        Emptier: a suite's page shows more results than there are now; the others are written.
        UserError: the store cannot be read, a folder cannot be written, or it holds the report of
            another file.
    """
    # a page that is kept as it shows more is told of once the others are written
    pages, kept = [], None
    for suite in suites:
        mine = [plan for plan in plans if suite.holds(plan.study)]
        folder = reports / suite.experiment([plan.study for plan in mine])
        require_own_place(folder, report_in(folder), suite.path)
        known = readings or {}
        try:
            with writing("report", folder):
                found = [Member(plan, reports, known.get(plan.study.experiment)) for plan in mine]
                pages.append(_write_suite(suite, found, folder))
        except Emptier as error:
            kept = kept or error
    pages.append(write_index(reports))
    if kept:
        raise kept
    return pages


# the index ----------------------------------------------------------------------------------------


def write_index(reports: Path) -> Path:
    """Write `reports`/index.html anew, and beside it the page that explains all tables.

    Raises:
        UserError: it cannot be written.
    """
    # one's own reports, those that cannot be read, and a link to what ships with the project
    found, damaged = _reports_in(reports)
    page = load_template("index.html")
    text = page.render(
        title="Ablation studies",
        how_to_read=HOW_TO_READ,
        suites=[report for report in found if report["kind"] == "suite"],
        studies=[report for report in found if report["kind"] == "study"],
        damaged=damaged,
        published=PUBLISHED if _reports_in(reports / PUBLISHED)[0] else "",
    )
    with writing("index", reports):
        atomic.write_text(reports / "index.html", text)
        write_how_to_read(reports)
    return reports / "index.html"


def _reports_in(reports: Path) -> tuple[list[dict], list[str]]:
    """Return the report.json of every folder, with the folder's name and its details in words; and
    the folders where it is damaged."""
    found, damaged = [], []
    for path in sorted(reports.glob("*/report.json")):
        about = report_in(path.parent) or {}
        if about.keys() >= REPORT_KEYS:
            studies, seeds = len(about.get("studies", ())), count_noun(len(about["seeds"]), "seed")
            details = f"{studies} studies, recipe {about['recipe']}, {seeds}"
            found.append({"data": "", **about, "folder": path.parent.name, "details": details})
        else:
            damaged.append(path.parent.name)
    return found, damaged


# a suite ------------------------------------------------------------------------------------------


class Member:
    """One study of a suite, and its numbers."""

    def __init__(self, plan: Plan, reports: Path, readings: Readings | None = None) -> None:
        """Read a study's numbers; `reports`: where its own page lies."""
        readings = readings or Readings(plan.store)
        self.plan, self.results = plan, results_frame(plan, readings)
        self.table = table_frame(plan, self.results, readings)
        self.verdicts = [verdict for verdict in self.table["verdict"] if verdict]

        # "c" of the paper's Table 1c; "" of any other
        paper = plan.study.paper or ""
        self.letter = paper.removeprefix("table_1") if paper.startswith("table_1") else ""

        # what its own page says, where it has one: seeds added after results had been seen
        own = report_in(reports / plan.study.experiment) or {}
        self.own_seeds = own.get("seeds", list(plan.study.seeds))
        same = own.get("seeds") == list(plan.study.seeds)
        self.descriptive = own.get("descriptive", "") if same else ""


def _write_suite(suite: Suite, members: Sequence[Member], folder: Path) -> Path:
    """Write a suite's index.html and report.json; returns the page, which links to its studies'."""
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
    groups = (("Table 1", TABLE_1, first), ("Figures and further studies", "", rest))
    html, report, headline = folder / "index.html", folder / "report.json", suite_headline(members)
    page = load_template("suite.html")
    text = page.render(
        title=suite.title,
        headline=headline,
        caption=_describe_members(members),
        groups=[
            {"title": title, "text": text, "studies": list(map(show_card, mine))}
            for title, text, mine in groups
            if mine
        ],
        legend=[{"sign": sign, "words": words} for words, sign in SIGNS.items()],
        rule=" ".join(verdict_rule()),
        how_to_read=f"../{HOW_TO_READ}",
        command=command,
    )
    atomic.write_text(html, text)

    # and what it is of
    studies = [m.plan.study for m in members]
    about = {"kind": "suite", "title": suite.title, "headline": headline, "command": command}
    about |= {"studies": [study.experiment for study in studies]}
    about |= {"recipe": ", ".join(dict.fromkeys(study.recipe_name for study in studies))}
    about |= {"seeds": list(dict.fromkeys(seed for study in studies for seed in study.seeds))}
    about |= {"finished": finished, "asked": asked, "files": [html.name, report.name]}
    about |= {"study_file": path_from(folder, suite.path)}
    with atomic.replacing(report) as file:
        file.write(atomic.to_json(about))
    return html


def suite_headline(members: Sequence[Member]) -> str:
    """Count the verdicts of all studies, and say what takes from them."""
    verdicts = [verdict for m in members for verdict in m.verdicts]
    said = [_count_verdicts(verdicts) or "Nothing to compare with the paper yet."]
    if any(is_decided_by_sign(m.table) for m in members):
        said.append("Directions are compared, not sizes.")
    if any(len(m.plan.study.seeds) < FEWEST for m in members):
        said.append(f"Fewer than {FEWEST} seeds decide nothing.")
    if late := [m.plan.study.name for m in members if m.descriptive]:
        said.append(f"Descriptive, as declared after results had been seen: {list_names(late)}.")
    return " ".join(said)


def _count_verdicts(verdicts: Sequence[str]) -> str:
    """Count the verdicts of each kind, in the order of SIGNS; "" of none."""
    counts = list_counts(sorted(verdicts, key=list(SIGNS).index))
    differences = count_noun(len(verdicts), "difference")
    return f"Against the paper, of {differences} to the baseline: {counts}." if verdicts else ""


def _describe_members(members: Sequence[Member]) -> str:
    """Name data, recipes, seeds and commits of all tables."""
    studies = [m.plan.study for m in members]
    commits = sorted({commit for m in members for commit in m.results["commit"].dropna()})
    recipes = dict.fromkeys(
        study.recipe_name + (f" with {', '.join(study.changed)}" if study.changed else "")
        for study in studies
    )
    data = [study.baseline.data for study in studies]
    shown = dict.fromkeys(f"{each.name} ({each.image_size} px)" for each in data)
    seeds = (sorted(set(m.results["seed"])) for m in members)
    seeds = dict.fromkeys(", ".join(map(str, each)) for each in seeds)
    return (
        f"Data {', '.join(shown)}, recipe {', '.join(recipes)}, seeds {' or '.join(seeds)}, "
        f"commit {list_names(commits) or 'none'}."
    )


def show_card(m: Member) -> dict:
    """Prepare one study's compact table."""
    study = m.plan.study
    metrics = sorted(list_metrics(m.plan), key=lambda metric: quantity_of(metric).place)
    heads = [quantity_of(metric).head for metric in metrics]
    figure = (study.paper or "").startswith("figure")
    name = f"{study.paper.replace('_', ' ').capitalize()}: " if figure else ""

    # the table's lines by number of the row, of each quantity it is measured in
    lines: dict[tuple[str, int], dict] = {}
    for metric in metrics:
        measured = sorted(set(m.results.loc[m.results["metric"] == metric, "row"]))
        records = m.table[m.table["metric"] == metric].to_dict("records")
        lines |= {(metric, i): line for i, line in zip(measured, records, strict=True)}

    # our means, the paper's numbers, and a mark for each verdict
    rows = []
    for number, row in enumerate(m.plan.rows):
        ours, paper, marks = [], [], []
        for metric, head in zip(metrics, heads, strict=True):
            line = lines.get((metric, number), {})
            text = format_number(line.get("mean"), 1 if is_accuracy(metric) else 4)
            ours.append({"text": text, "runs": anchor(metric, number)})
            paper.append(format_number(paper_number(m.plan, metric, row), 1))
            if verdict := line.get("verdict"):
                words = f"{head}: {format_verdict(line)}"
                marks.append({"sign": SIGNS[verdict], "words": words})
        shown = {"kind": "baseline" if row.is_baseline else "level", "level": row.label}
        rows.append({**shown, "ours": ours, "paper": paper, "marks": marks})

    # what takes from its verdicts
    cautions = [c for metric in metrics for c in list_cautions(m.plan, metric, m.table, m.results)]
    aside = [f"{text[0].upper()}{text[1:]}" for text in cautions]
    aside += [m.descriptive, describe_too_few(m.plan)]
    if m.own_seeds != list(study.seeds):
        aside.append(f"Its own page has seeds {', '.join(map(str, m.own_seeds))}.")
    has_paper = bool(m.verdicts) or any(text != "–" for row in rows for text in row["paper"])
    card = {"letter": m.letter, "title": name + study.title, "heads": heads, "rows": rows}
    card |= {"link": f"../{study.experiment}/index.html", "has_paper": has_paper}
    aside = " ".join(filter(None, aside))
    return {**card, "aside": aside, "headline": _count_verdicts(m.verdicts)}
