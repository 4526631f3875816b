"""The page of a study in HTML: one file that needs nothing else, neither network nor scripts."""

from collections.abc import Mapping

from mae_ablation.report.cells import format_number, is_known, table_cells
from mae_ablation.report.curves import MOST_CURVES, curves_svg, rows_with_curves
from mae_ablation.report.document import ReportDocument, Section
from mae_ablation.report.drawing import inline_svg
from mae_ablation.report.findings import COULD_SEE
from mae_ablation.report.how_to_read import HOW_TO_READ, WHY, load_template, verdict_rule
from mae_ablation.report.method import caption_figure
from mae_ablation.report.metrics import HOURS, LOSS, count_decimals, evaluation_of, quantity_of
from mae_ablation.report.readings import Readings, phases_behind, trials_behind
from mae_ablation.report.reconstructions import list_reconstructions, say_left_out_levels
from mae_ablation.report.spread import class_accuracies, read_answers
from mae_ablation.study.plan import Plan

# columns of the table that are no numbers
TEXT_COLUMNS = ("level", "decided", "verdict", "tuned", "note")

MEANS = ("mean", "hours")  # columns whose cells lead to their trials
# address of the MLflow run of each trial, by its result_id joined with ","
RunAddresses = Mapping[str, str]


def html_page(
    document: ReportDocument,
    readings: Readings,
    *,
    figure: str,
    looks: Mapping[str, str] | None = None,
    runs: RunAddresses | None = None,
) -> str:
    """Write the page of a study; `figure` and, by metric, `looks` are texts of SVG files."""
    plan, table, results = document.plan, document.table, document.results
    curves = curves_svg(plan, results)
    few = [
        f"{len(rows_with_curves(plan, factor.name))} of {len(factor.levels)} levels of "
        f"{factor.name}"
        for factor in plan.study.factors
        if len(factor.levels) > MOST_CURVES
    ]
    # names within an SVG get a prefix each, as they share the page
    return load_template("study.html").render(
        document=document,
        metrics=[_show_section(document, s, readings, runs or {}) for s in document.sections],
        could_see_title=COULD_SEE,
        rule=" ".join(verdict_rule()) if (table["verdict"] != "").any() else "",
        text_columns=TEXT_COLUMNS,
        means=MEANS,
        how_to_read=f"../{HOW_TO_READ}",
        why=f"../{WHY}",
        figure=inline_svg(figure, "f"),
        figure_caption=caption_figure(table),
        declared=plan.study.declared,
        looks=[
            {"title": quantity_of(metric).title, "svg": inline_svg(svg, f"l{place}")}
            for place, (metric, svg) in enumerate((looks or {}).items())
        ],
        curves=inline_svg(curves, "c") if curves else "",
        curves_left_out=f"Shown are {', '.join(few)}, evenly chosen." if few else "",
        pictures=list_reconstructions(plan, results),
        pictures_left_out=say_left_out_levels(plan),
        cost=tabulate_cost(plan, readings),
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
        trials, seeds = trials_behind(plan, mine, metric, number), []
        for record in mine[mine["row"] == number].to_dict("records"):
            trial, reason = trials[record["seed"]], record["reason"]
            phases = phases_behind(trial, evaluation_of(metric))
            seed = {"seed": record["seed"], "identity": record["trial_id"]}
            seed["value"] = format_number(record["value"], count_decimals(metric))
            seed["status"] = record["status"] + (f": {reason}" if is_known(reason) else "")
            seed["folders"] = [phase.folder(plan.store).name for phase in phases]
            seed["run"] = safe_address(runs.get(",".join(trial.result_id)))
            seeds.append(seed)
        first = kind == "reference" and rows and rows[-1]["kind"] != "reference"
        row = {"kind": kind, "level": texts["level"], "first_reference": first, "seeds": seeds}
        row |= {"runs": anchor(metric, number), "cells": [(c, texts[c]) for c in columns]}
        rows.append(row)

    # accuracies of single classes, a column for each row, where answers to single images are kept
    answers = read_answers(plan, metric, document.results, readings)
    labels = [row.label for row in (*plan.rows, *plan.references)]
    by_class = [class_accuracies(answers[n], plan.data.classes) for n in sorted(answers)]
    return {
        "section": section,
        "key": metric,
        "columns": columns,
        "rows": rows,
        "unit": {LOSS: "loss", HOURS: "hours"}.get(metric, "top-1 (%)"),
        "linked": any(seed["run"] for row in rows for seed in row["seeds"]),
        "class_levels": [labels[number] for number in sorted(answers)],
        "classes": [[format_number(v, 1) for v in line] for line in zip(*by_class, strict=True)],
    }


def anchor(metric: str, row: int) -> str:
    """Name the place in a study's page where the trials of a cell stand."""
    return f"runs-{metric}-{row}"


def safe_address(address: str | None) -> str | None:
    """Return an address that leads to a page; None for others, such as of scripts."""
    return address if address and address.startswith(("http://", "https://")) else None


def tabulate_cost(plan: Plan, readings: Readings) -> dict:
    """List each trial in the order of the table: seconds of its phases and how they were spent."""
    whole = {trial.id: trial for trial in plan.trials}
    trials = [whole[identity] for identity in dict.fromkeys(cell.id for cell in plan.cells)]
    kinds = list(dict.fromkeys(phase.prefix for trial in trials for phase in trial.phases))
    seen, sums, lines = set(), dict.fromkeys(kinds, 0.0), []
    for trial in trials:
        # a phase that several trials share is counted with the first of them
        done = [(phase, readings.read_result(phase) or {}) for phase in trial.phases]
        seconds: dict[str, float] = {}
        for phase, result in done:
            if result and phase.identity not in seen:
                seconds[phase.prefix] = seconds.get(phase.prefix, 0.0) + result["seconds"]
                sums[phase.prefix] += result["seconds"]
            seen.add(phase.identity)

        # how fast and where the first phase ran
        _, first = done[0]
        attempts = (result.get("attempts", 1) for _, result in done if result)
        line = {"label": trial.label, "attempts": str(max(attempts, default="–"))}
        line["seconds"] = [format_number(seconds.get(kind), 1) for kind in kinds]
        line |= {n: format_number(first.get(n), 0) for n in ("images_per_s", "epochs")}
        line["device"] = first.get("processor", first.get("device", "–"))
        lines.append(line)
    totals = [format_number(total, 1) for total in sums.values()]
    return {"kinds": kinds, "trials": lines, "sums": totals}
