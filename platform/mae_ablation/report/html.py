"""The page of a study in HTML: one file that needs nothing else, neither network nor scripts."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mae_ablation.report.cells import format_number, is_known, table_cells
from mae_ablation.report.curves import MOST_CURVES, curves_svg, rows_with_curves
from mae_ablation.report.document import ReportDocument, Section
from mae_ablation.report.drawing import inline_svg
from mae_ablation.report.findings import COULD_SEE
from mae_ablation.report.how_to_read import HOW_TO_READ, WHY, verdict_rule
from mae_ablation.report.method import LOOKS_TITLE, caption_curves, caption_figure, caption_looks
from mae_ablation.report.metrics import HOURS, LOSS, column_of, count_decimals, quantity_of
from mae_ablation.report.readings import Readings, phases_behind, trials_behind
from mae_ablation.report.reconstructions import list_reconstructions, say_left_out_levels
from mae_ablation.report.spread import class_accuracies, read_answers
from mae_ablation.study.plan import Plan
from mae_ablation.study.trial import Trial

TEXT_COLUMNS = ("level", "decided", "verdict", "tuned", "note")
"""Columns of the table that are no numbers."""

MEANS = ("mean", "hours")
"""Columns whose cells lead to their trials."""

RunAddresses = Mapping[str, str]
"""Address of the MLflow run of each trial, by its result_id joined with ","."""


@lru_cache(maxsize=1)
def templates() -> Environment:
    """Load the package's templates; whatever is put into them is escaped."""
    found = Environment(
        loader=PackageLoader("mae_ablation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["emphasised"] = emphasise
    return found


def emphasise(text: str) -> Markup:
    """Show the *words* of a Markdown sentence as emphasis."""
    return Markup(re.sub(r"\*([^*]+)\*", r"<em>\1</em>", str(escape(text))))


def html_page(
    document: ReportDocument,
    readings: Readings,
    *,
    figure: str,
    looks: Mapping[str, str] | None = None,
    runs: RunAddresses | None = None,
) -> str:
    """Write the page of a study.

    Args:
        figure: the text of figure.svg.
        looks: by metric the text of the SVG of its looks, of a study that declares some.
        runs: address of the MLflow run of each trial.
    """
    plan, table, results = document.plan, document.table, document.results
    curves = curves_svg(plan, results)
    many = [f for f in plan.study.factors if len(f.levels) > MOST_CURVES]
    few = [
        f"{len(rows_with_curves(plan, f.name))} of {len(f.levels)} levels of {f.name}" for f in many
    ]
    return (
        templates()
        .get_template("study.html")
        .render(
            document=document,
            metrics=[_show_section(document, s, readings, runs or {}) for s in document.sections],
            could_see_title=COULD_SEE,
            rule=" ".join(verdict_rule()) if (table["verdict"] != "").any() else "",
            how_to_read=f"../{HOW_TO_READ}",
            why=f"../{WHY}",
            figure=inline_svg(figure, "f"),
            figure_caption=caption_figure(table),
            looks_title=LOOKS_TITLE,
            looks_caption=caption_looks(plan),
            looks=[
                {"title": quantity_of(metric).title, "svg": inline_svg(svg, f"l{place}")}
                for place, (metric, svg) in enumerate((looks or {}).items())
            ],
            curves=inline_svg(curves, "c") if curves else "",
            curves_caption=caption_curves(plan),
            curves_left_out=f"Shown are {', '.join(few)}, evenly chosen." if few else "",
            pictures=list_reconstructions(plan, results),
            pictures_left_out=say_left_out_levels(plan),
            cost=tabulate_cost(plan, readings),
        )
    )


def _show_section(
    document: ReportDocument, section: Section, readings: Readings, runs: RunAddresses
) -> dict:
    """Prepare one measured quantity: the cells of its table, and the trials behind each of them."""
    plan, metric = document.plan, section.metric
    mine = document.results[document.results["metric"] == metric]
    columns, cells = table_cells(section.rows)
    numbers, rows = sorted(set(mine["row"])), []
    for number, kind, texts in zip(numbers, section.rows["kind"], cells, strict=True):
        reference = kind == "reference"
        rows.append(
            {
                "kind": kind,
                "level": texts["level"],
                "first_reference": reference and rows and rows[-1]["kind"] != "reference",
                "runs": anchor(metric, number),
                "cells": [(column, texts[column]) for column in columns],
                "seeds": _show_seeds(plan, metric, number, mine[mine["row"] == number], runs),
            }
        )

    # accuracies of single classes, a column for each row, where answers to single images are kept
    answers = read_answers(plan, metric, document.results, readings)
    labels = [row.label for row in (*plan.rows, *plan.references)]
    by_class = [class_accuracies(answers[n], plan.data.classes) for n in sorted(answers)]
    return {
        "section": section,
        "key": metric,
        "columns": columns,
        "words": TEXT_COLUMNS,
        "means": MEANS,
        "rows": rows,
        "unit": {LOSS: "loss", HOURS: "hours"}.get(metric, "top-1 (%)"),
        "linked": any(seed["run"] for row in rows for seed in row["seeds"]),
        "class_levels": [labels[number] for number in sorted(answers)],
        "classes": [[format_number(v, 1) for v in line] for line in zip(*by_class, strict=True)],
    }


def anchor(metric: str, row: int) -> str:
    """Name the place in a study's page where the trials of a cell stand."""
    return f"runs-{metric}-{row}"


def _show_seeds(
    plan: Plan, metric: str, number: int, results: pd.DataFrame, runs: RunAddresses
) -> list[dict]:
    """Prepare the trials behind one cell, a seed each."""
    trials = trials_behind(plan, results, metric, number)
    seeds = []
    for record in results.to_dict("records"):
        trial, reason = trials[record["seed"]], record["reason"]
        phases = phases_behind(trial, column_of(metric))
        seeds.append(
            {
                "seed": record["seed"],
                "value": format_number(record["value"], count_decimals(metric)),
                "status": record["status"] + (f": {reason}" if is_known(reason) else ""),
                "identity": record["trial_id"],
                "folders": [phase.folder(plan.store).name for phase in phases],
                "run": safe_address(runs.get(",".join(trial.result_id))),
            }
        )
    return seeds


def safe_address(address: str | None) -> str | None:
    """Return an address that leads to a page; None for others, such as of scripts."""
    return address if address and address.startswith(("http://", "https://")) else None


def tabulate_cost(plan: Plan, readings: Readings) -> dict:
    """List each trial in the order of the table: seconds of its phases and how they were spent.

    A phase that several trials share is counted with the first of them.
    """
    whole = {trial.id: trial for trial in plan.trials}
    trials = [whole[identity] for identity in dict.fromkeys(cell.id for cell in plan.cells)]
    kinds = list(dict.fromkeys(phase.prefix for trial in trials for phase in trial.phases))
    seen: set[str] = set()
    lines, columns = [], []
    for trial in trials:
        found: dict[str, float] = {}
        for phase in trial.phases:
            if phase.identity not in seen and (result := readings.of(phase)):
                found[phase.prefix] = found.get(phase.prefix, 0.0) + result["seconds"]
            seen.add(phase.identity)
        columns.append([found.get(kind) for kind in kinds])
        lines.append(_show_cost(trial, columns[-1], readings))
    sums = [sum(filter(None, column)) for column in zip(*columns, strict=True)]
    return {"kinds": kinds, "trials": lines, "sums": [format_number(total, 1) for total in sums]}


def _show_cost(trial: Trial, seconds: Sequence[float | None], readings: Readings) -> dict:
    """Prepare a trial's line of the table of costs."""
    results = [result for phase in trial.phases if (result := readings.of(phase))]
    first = readings.of(trial.phases[0]) or {}
    return {
        "label": trial.label,
        "seconds": [format_number(value, 1) for value in seconds],
        "images_per_s": format_number(first.get("images_per_s"), 0),
        "epochs": format_number(first.get("epochs"), 0),
        "attempts": str(max((r.get("attempts", 1) for r in results), default="–")),
        "device": first.get("processor", first.get("device", "–")),
    }
