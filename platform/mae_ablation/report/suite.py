"""The page of a suite: the tables of its studies side by side, as in the paper's Table 1."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mae_ablation.errors import UserError
from mae_ablation.report import page
from mae_ablation.report.headline import cautions, too_few
from mae_ablation.report.how_to_read import HOW_TO_READ
from mae_ablation.report.html import anchor, templates
from mae_ablation.report.kept import require_no_emptier
from mae_ablation.report.readings import Readings
from mae_ablation.report.results import HOURS, LOSS, metrics_of, results_frame
from mae_ablation.report.saved import report_in
from mae_ablation.report.summary import counted, some
from mae_ablation.report.table import paper_of, table_frame
from mae_ablation.report.verdict import RULE, SEEDS, by_sign, worded
from mae_ablation.store import atomic
from mae_ablation.study.owner import path_from, require_own_place
from mae_ablation.study.plan import Plan, Row
from mae_ablation.study.suite import Suite

SIGNS = {
    "reproduced": "✓",
    "contradicted": "✗",
    "no difference": "≈",
    "undecided so far": "→",
    "inconclusive": "○",
    "incomplete": "…",
    "not comparable": "–",
}
"""by verdict; differing in shape, not in colour"""

HEADS = {
    "finetune_acc1": "ft",
    "linear_probe_acc1": "lin",
    "partial_acc1": "partial",
    "knn_acc1": "k-NN",
    LOSS: "loss",
    HOURS: "hours",
}
"""columns, in the paper's order"""

TABLE_1 = (
    "The paper's ablations of the pre-training, one change at a time from the bold row: top-1 "
    "accuracy after fine-tuning end to end (ft) and of a linear probe on the frozen encoder (lin), "
    "in per cent. Ours beside the paper's ViT-L/16, pre-trained for 800 epochs on ImageNet-1K: "
    "compare how the rows differ, not how high they stand."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One study of a suite, and its numbers."""

    plan: Plan
    table: pd.DataFrame
    results: pd.DataFrame

    @property
    def metrics(self) -> list[str]:
        known = list(HEADS)
        return sorted(metrics_of(self.plan), key=known.index)


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
        members = [member(plan, (readings or {}).get(plan.study.experiment)) for plan in mine]
        return _write(suite, members, folder)
    except OSError as error:
        lines = f"report not written: {error}".splitlines()
        raise UserError(lines[0], str(folder)) from None


def member(plan: Plan, readings: Readings | None) -> Member:
    readings = readings or Readings(plan.store)
    results = results_frame(plan, readings)
    return Member(plan=plan, table=table_frame(plan, results, readings), results=results)


def _write(suite: Suite, members: Sequence[Member], folder: Path) -> list[Path]:
    finished = sum(int((m.results["status"] == "finished").sum()) for m in members)
    asked = sum(len(m.results) for m in members)
    require_no_emptier(folder, finished, asked)
    headline = suite_headline(members, folder.parent)
    html, report = folder / "index.html", folder / "report.json"
    text = (
        templates()
        .get_template("suite.html")
        .render(
            title=suite.title,
            headline=headline,
            caption=caption(members),
            groups=groups(members, folder.parent),
            legend=[{"sign": sign, "words": words} for words, sign in SIGNS.items()],
            rule=RULE,
            how_to_read=f"../{HOW_TO_READ}",
            command=command(suite, members),
        )
    )
    said = {
        "kind": "suite",
        "title": suite.title,
        "headline": headline,
        "studies": [m.plan.study.experiment for m in members],
        "recipe": ", ".join(dict.fromkeys(m.plan.study.recipe_name for m in members)),
        "seeds": list(dict.fromkeys(seed for m in members for seed in m.plan.study.seeds)),
        "finished": finished,
        "asked": asked,
        "command": command(suite, members),
        "files": [html.name, report.name],
        "study_file": path_from(folder, suite.path),
    }
    atomic.write_text(html, text)
    with atomic.replacing(report) as file:
        file.write(atomic.to_json(said))
    return [html, report]


def suite_headline(members: Sequence[Member], reports: Path) -> str:
    """The verdicts of all studies, and what takes from them."""
    said = [in_one_sentence([v for m in members for v in m.table["verdict"] if v])]
    said += (
        ["Directions are compared, not sizes."] if any(by_sign(m.table) for m in members) else []
    )
    few = [m for m in members if len(m.plan.study.seeds) < SEEDS]
    said += [f"Fewer than {SEEDS} seeds decide nothing."] if few else []
    late = [m.plan.study.name for m in members if descriptive(m, reports)]
    if late:
        said.append(f"Descriptive, as declared after results had been seen: {some(late)}.")
    return " ".join(said)


def in_one_sentence(verdicts: Sequence[str]) -> str:
    """How many verdicts of each kind there are, in all studies together."""
    if not verdicts:
        return "Nothing to compare with the paper yet."
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in SIGNS if v in verdicts)
    return (
        f"Against the paper, of {counted(len(verdicts), 'difference')} to the baseline: {counts}."
    )


def caption(members: Sequence[Member]) -> str:
    """Data, recipes, seeds and commits of all tables."""
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
        f"commit {some(commits) or 'none'}."
    )


def groups(members: Sequence[Member], reports: Path) -> list[dict]:
    """Table 1 from a to f, then the figures and whatever else the suite has, in its order.

    `reports`: where the studies' own pages lie.
    """
    first = sorted((m for m in members if letter(m.plan)), key=lambda m: letter(m.plan))
    rest = [m for m in members if not letter(m.plan)]
    titles = {"Table 1": (TABLE_1, first), "Figures and further studies": ("", rest)}
    return [
        {"title": title, "text": text, "studies": [card(m, reports) for m in some_members]}
        for title, (text, some_members) in titles.items()
        if some_members
    ]


def letter(plan: Plan) -> str:
    """ "c" of the paper's Table 1c; "" of any other."""
    name = plan.study.paper or ""
    return name.removeprefix("table_1") if name.startswith("table_1") else ""


def own_report(m: Member, reports: Path) -> dict:
    """What the report.json of a study's own page says; empty where there is none."""
    try:
        path = reports / m.plan.study.experiment / "report.json"
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def descriptive(m: Member, reports: Path) -> str:
    """That seeds were added to a study after results had been seen; "" where they were not."""
    own = own_report(m, reports)
    return own.get("descriptive", "") if own.get("seeds") == list(m.plan.study.seeds) else ""


def other_seeds(m: Member, reports: Path) -> str:
    """That a study's own page shows other seeds; "" where it shows these."""
    seeds = own_report(m, reports).get("seeds")
    if seeds is None or seeds == list(m.plan.study.seeds):
        return ""
    return f"Its own page has seeds {', '.join(map(str, seeds))}."


def card(m: Member, reports: Path) -> dict:
    """One study's compact table."""
    study, metrics = m.plan.study, m.metrics
    figure = (study.paper or "").startswith("figure")
    name = f"{study.paper.replace('_', ' ').capitalize()}: " if figure else ""
    shown = {metric: m.table[m.table["metric"] == metric] for metric in metrics}
    judged = any((rows["verdict"] != "").any() for rows in shown.values())
    rows = [row_of(m, i, row) for i, row in enumerate(m.plan.rows)]
    return {
        "letter": letter(m.plan),
        "title": name + study.title,
        "link": f"../{study.experiment}/index.html",
        "heads": [HEADS[metric] for metric in metrics],
        "has_paper": judged or any(text != "–" for row in rows for text in row["paper"]),
        "rows": rows,
        "aside": " ".join(
            filter(
                None,
                [
                    *(
                        f"{text[0].upper()}{text[1:]}"
                        for metric in metrics
                        for text in cautions(m.plan, metric, m.table, m.results)
                    ),
                    descriptive(m, reports),
                    too_few(m.plan),
                    other_seeds(m, reports),
                ],
            )
        ),
        "headline": in_one_sentence([v for part in shown.values() for v in part["verdict"] if v])
        if judged
        else "",
    }


def row_of(m: Member, number: int, row: Row) -> dict:
    """A level: our means, the paper's numbers, and a mark for each verdict."""
    ours, paper, marks = [], [], []
    for metric in m.metrics:
        line = line_of(m, metric, number)
        digits = 4 if metric in (LOSS, HOURS) else 1
        mean = line["mean"] if line is not None else None
        ours.append({"text": page.number(mean, digits), "runs": anchor(metric, number)})
        paper.append(page.number(paper_of(m.plan, metric, row), 1))
        verdict = line["verdict"] if line is not None else ""
        if verdict:
            marks.append({"sign": SIGNS[verdict], "words": f"{HEADS[metric]}: {worded(line)}"})
    kind = "baseline" if row.is_baseline else "level"
    return {"kind": kind, "level": row.label, "ours": ours, "paper": paper, "marks": marks}


def line_of(m: Member, metric: str, number: int) -> pd.Series | None:
    """The table's line of a row of the plan; None where it is not measured."""
    rows = sorted(set(m.results.loc[m.results["metric"] == metric, "row"]))
    lines = m.table[m.table["metric"] == metric]
    return lines.iloc[rows.index(number)] if number in rows else None


def command(suite: Suite, members: Sequence[Member]) -> str:
    """The command that makes all of it: the first study's, of the suite's file."""
    if not members:
        return f"python -m platform.run {suite.path}"
    plan = members[0].plan
    return page.command(plan).replace(str(plan.study.path), str(suite.path), 1)
