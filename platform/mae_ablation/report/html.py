"""The page of a study in HTML: one file that needs nothing else, neither network nor scripts."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mae_ablation.report import page, pictures
from mae_ablation.report.answers import answers_of
from mae_ablation.report.captions import LOOKS_TITLE, curves_caption, figure_caption, looks_caption
from mae_ablation.report.cells import trials_behind
from mae_ablation.report.choice import phases_behind
from mae_ablation.report.curves import SHOWN, curves_svg, shown
from mae_ablation.report.headline import cautions, preamble, verdicts_or_why
from mae_ablation.report.how_to_read import HOW_TO_READ, WHY
from mae_ablation.report.markdown import in_short, remarks
from mae_ablation.report.measured import measured, where
from mae_ablation.report.published import Published
from mae_ablation.report.readings import Readings
from mae_ablation.report.results import HOURS, LOSS, column_of, metrics_of
from mae_ablation.report.sentences import COULD_SEE, could_see, sentences
from mae_ablation.report.vector import inline
from mae_ablation.report.verdict import RULE
from mae_ablation.study.plan import Plan
from mae_ablation.study.trial import Trial

WORDS = ("level", "decided", "verdict", "tuned", "note")
"""columns of the table that are no numbers"""

MEANS = ("mean", "hours")
"""columns whose cells lead to their trials"""

Runs = Mapping[str, str]
"""address of the MLflow run of each trial, by its result_id joined with ","""


@lru_cache(maxsize=1)
def templates() -> Environment:
    """The package's templates; whatever is put into them is escaped."""
    loader = PackageLoader("mae_ablation.report")
    found = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["emphasised"] = emphasised
    return found


def emphasised(text: str) -> Markup:
    """*words* of a Markdown sentence as emphasis."""
    return Markup(re.sub(r"\*([^*]+)\*", r"<em>\1</em>", str(escape(text))))


def study_page(
    plan: Plan,
    table: pd.DataFrame,
    results: pd.DataFrame,
    readings: Readings,
    *,
    figure: str,
    looks: Mapping[str, str] | None = None,
    runs: Runs | None = None,
    descriptive: str = "",
    published: Sequence[Published] = (),
) -> str:
    """The page of a study.

    Args:
        figure: the text of figure.svg.
        looks: by metric the text of the SVG of its looks, of a study that declares some.
        runs: address of the MLflow run of each trial.
        descriptive: that its tables are descriptive only, and why, or "".
        published: reports of the study that ship with the project.
    """
    study, finished = plan.study, readings.finished(plan)
    curves = curves_svg(plan, results)
    return (
        templates()
        .get_template("study.html")
        .render(
            title=study.title,
            preamble=preamble(plan, descriptive),
            caption=page.caption(plan, results),
            metrics=[
                metric_of(plan, m, table, results, readings, runs or {}) for m in metrics_of(plan)
            ],
            could_see_title=COULD_SEE,
            in_short=in_short(plan, table, results),
            rule=RULE if (table["verdict"] != "").any() else "",
            how_to_read=f"../{HOW_TO_READ}",
            why=f"../{WHY}",
            remarks=remarks(plan, finished),
            published=published,
            figure=inline(figure, "f"),
            figure_caption=figure_caption(table),
            looks_title=LOOKS_TITLE,
            looks_caption=looks_caption(plan),
            looks=[
                {"key": metric, "title": page.TITLES[metric], "svg": inline(svg, f"l{place}")}
                for place, (metric, svg) in enumerate((looks or {}).items())
            ],
            curves=inline(curves, "c") if curves else "",
            curves_caption=curves_caption(plan),
            curves_left_out=left_out(plan),
            pictures=pictures.reconstructions(plan, results),
            pictures_left_out=pictures.left_out(plan),
            cost=cost(plan, readings),
            command=page.command(plan),
            spent=page.spent(plan, finished),
        )
    )


def metric_of(
    plan: Plan,
    metric: str,
    table: pd.DataFrame,
    results: pd.DataFrame,
    readings: Readings,
    runs: Runs,
) -> dict:
    """What the page says of one measured quantity."""
    lines = table[table["metric"] == metric]
    mine = results[results["metric"] == metric]
    columns, cells = page.table_cells(lines)
    numbers, rows = sorted(set(mine["row"])), []
    for number, kind, texts in zip(numbers, lines["kind"], cells, strict=True):
        reference = kind == "reference"
        rows.append(
            {
                "kind": kind,
                "level": texts["level"],
                "first_reference": reference and rows and rows[-1]["kind"] != "reference",
                "runs": anchor(metric, number),
                "cells": [(column, texts[column]) for column in columns],
                "seeds": seeds_of(plan, metric, number, mine[mine["row"] == number], runs),
            }
        )
    return {
        "key": metric,
        "title": page.TITLES[metric],
        "headline": verdicts_or_why(plan, metric, lines),
        "cautions": cautions(plan, metric, table, results),
        "findings": sentences(plan, metric, results, table),
        "could_see": could_see(plan, metric, results, table),
        "columns": columns,
        "words": WORDS,
        "means": MEANS,
        "rows": rows,
        "unit": {LOSS: "loss", HOURS: "hours"}.get(metric, "top-1 (%)"),
        "linked": any(seed["run"] for row in rows for seed in row["seeds"]),
        "classes": classes_of(plan, metric, results, readings),
        "measured": measured(plan, metric),
        "where": where(lines) if metric == HOURS else "",
    }


def classes_of(plan: Plan, metric: str, results: pd.DataFrame, readings: Readings) -> dict:
    """Accuracies of single classes, a column for each row of the table; empty where answers to
    single test images are not kept."""
    found = answers_of(plan, metric, results, readings).by_class(plan.data.classes)
    if not found:
        return {}
    labels = [row.label for row in (*plan.rows, *plan.references)]
    each = zip(*(found[number] for number in sorted(found)), strict=True)
    return {
        "levels": [labels[number] for number in sorted(found)],
        "lines": [[page.number(value, 1) for value in line] for line in each],
    }


def anchor(metric: str, row: int) -> str:
    """Name of the place in a study's page where the trials of a cell stand."""
    return f"runs-{metric}-{row}"


def seeds_of(plan: Plan, metric: str, number: int, results: pd.DataFrame, runs: Runs) -> list[dict]:
    """The trials behind one cell, a seed each."""
    trials = trials_behind(plan, results, metric, number)
    digits = page.digits_of(metric)
    seeds = []
    for record in results.to_dict("records"):
        trial, reason = trials[record["seed"]], record["reason"]
        phases = phases_behind(trial, column_of(metric))
        seeds.append(
            {
                "seed": record["seed"],
                "value": page.number(record["value"], digits),
                "status": record["status"] + (f": {reason}" if page.there(reason) else ""),
                "identity": record["trial_id"],
                "folders": [phase.folder(plan.store).name for phase in phases],
                "run": safe_address(runs.get(",".join(trial.result_id))),
            }
        )
    return seeds


def safe_address(address: str | None) -> str | None:
    """An address that leads to a page: others, such as of scripts, are left out."""
    return address if address and address.startswith(("http://", "https://")) else None


def left_out(plan: Plan) -> str:
    """What is said of levels without a curve."""
    many = [f for f in plan.study.factors if len(f.levels) > SHOWN]
    few = [f"{len(shown(plan, f.name))} of {len(f.levels)} levels of {f.name}" for f in many]
    return f"Shown are {', '.join(few)}, evenly chosen." if few else ""


def cost(plan: Plan, readings: Readings) -> dict:
    """Each trial in the order of the table: seconds of its phases and how they were spent.

    A phase that several trials share is counted with the first of them.
    """
    whole = {trial.id: trial for trial in plan.trials}
    trials = [whole[identity] for identity in dict.fromkeys(cell.id for cell in plan.cells)]
    kinds = list(dict.fromkeys(phase.prefix for trial in trials for phase in trial.phases))
    seen: set[str] = set()
    spent = [seconds_of(trial, kinds, readings, seen) for trial in trials]
    sums = [sum(filter(None, column)) for column in zip(*spent, strict=True)]
    return {
        "kinds": kinds,
        "trials": [
            cost_of(trial, seconds, readings) for trial, seconds in zip(trials, spent, strict=True)
        ],
        "sums": [page.number(total, 1) for total in sums],
    }


def seconds_of(
    trial: Trial, kinds: Sequence[str], readings: Readings, seen: set[str]
) -> list[float | None]:
    """Of all phases of each kind that are not `seen`, where they are put; None without a result."""
    found: dict[str, float] = {}
    for phase in trial.phases:
        if phase.identity not in seen and (result := readings.of(phase)):
            found[phase.prefix] = found.get(phase.prefix, 0.0) + result["seconds"]
        seen.add(phase.identity)
    return [found.get(kind) for kind in kinds]


def cost_of(trial: Trial, seconds: Sequence[float | None], readings: Readings) -> dict:
    results = [result for phase in trial.phases if (result := readings.of(phase))]
    first = readings.of(trial.phases[0]) or {}
    return {
        "label": trial.label,
        "seconds": [page.number(value, 1) for value in seconds],
        "images_per_s": page.number(first.get("images_per_s"), 0),
        "epochs": page.number(first.get("epochs"), 0),
        "attempts": str(max((r.get("attempts", 1) for r in results), default="–")),
        "device": first.get("processor", first.get("device", "–")),
    }
