"""Writes a study's report: table, page, figure and every trial, each for another reader."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from mae_ablation.report import saved
from mae_ablation.report.document import ReportDocument
from mae_ablation.report.latex import latex_table
from mae_ablation.report.markdown import markdown_page
from mae_ablation.report.method import list_left_out_images
from mae_ablation.report.metrics import references_of
from mae_ablation.report.readings import Readings, finished_results
from mae_ablation.report.results import results_frame
from mae_ablation.report.standing import find_standing
from mae_ablation.report.table import table_frame
from mae_ablation.report.verdict import number_column, verdict_column
from mae_ablation.store import atomic
from mae_ablation.study.declared import declared_in, descriptive
from mae_ablation.study.places import path_from, require_own_place
from mae_ablation.study.plan import Plan


def write_report(
    plan: Plan,
    folder: Path,
    *,
    readings: Readings | None = None,
    runs: dict[str, str] | None = None,
) -> list[Path]:
    """Make `folder`: tables, page, figures, every trial, and report.json, which says what they are
    of, last.

    Args:
        readings: where results are read (default: the plan's store).
        runs: address of the MLflow run of each trial, by its result_id joined with ",".

    Returns the files. The same results give the same files.

    Raises:
        Emptier: the folder's report shows more results than this one, which is incomplete.
        UserError: the store cannot be read, the folder cannot be written, or it holds the report of
            another study file.
    """
    with saved.writing("report", folder):
        return _write_report(plan, folder, readings or Readings(plan.store), runs)


def _write_report(
    plan: Plan, folder: Path, readings: Readings, runs: dict[str, str] | None
) -> list[Path]:
    from mae_ablation.report.figure import draw_figure
    from mae_ablation.report.html import html_page
    from mae_ablation.report.looks_figure import draw_every_look

    # what there is to say
    require_own_place(folder, saved.report_in(folder), plan.study.path)
    results = results_frame(plan, readings)
    saved.require_no_emptier(folder, int((results["status"] == "finished").sum()), len(results))
    table, trials = table_frame(plan, results, readings), results.drop(columns="row").round(4)
    news = saved.describe_news(to_csv(trials), folder)
    document = ReportDocument(
        plan,
        table,
        results,
        finished_results(plan, readings),
        descriptive=descriptive(plan),
        news=news,
        published=saved.find_published(plan.study.name, folder),
    )

    # pictures first, which the pages show; those of looks may be of a study that grew before
    folder.mkdir(parents=True, exist_ok=True)
    stands = find_standing(plan, readings) if plan.study.grows else None
    looks = draw_every_look(plan, stands, folder) if stands else {}
    figures = draw_figure(plan, table, results, folder)
    pictures = [*figures, *(path for paths in looks.values() for path in paths)]
    for path in {*folder.glob("looks_*.*")} - {*pictures}:
        path.unlink()

    # tables and pages
    names = {metric: _find(paths, ".png").name for metric, paths in looks.items()}
    drawn = {metric: _find(paths, ".svg").read_text("utf-8") for metric, paths in looks.items()}
    svg = _find(figures, ".svg").read_text(encoding="utf-8")
    digits = {name: 6 if name in ("p", "p_holm") else 4 for name in table.columns}  # p may be small
    tables = {
        "table.md": markdown_page(document, names),
        "table.csv": to_csv(table.round(digits)),
        "trials.csv": to_csv(trials),
        "table.tex": latex_table(document),
    }
    page = html_page(document, readings, figure=svg, looks=drawn, runs=runs)
    for name, text in {**tables, "index.html": page}.items():
        atomic.write_text(folder / name, text)

    # and what they are of
    files = [*(folder / name for name in tables), *pictures]
    files += [folder / "index.html", folder / "report.json"]
    about = describe_report(document, news, [path.name for path in files])
    about["study_file"] = path_from(folder, plan.study.path)
    with atomic.replacing(files[-1]) as file:
        file.write(atomic.to_json(about))
    return files


def list_references(document: ReportDocument) -> list[dict]:
    """List each row beside the study's references, as plain data."""
    found = []
    for section in document.sections:
        references = references_of(document.plan, section.metric)
        rows = section.rows[(section.rows["kind"] != "reference") & bool(references)]
        for row in rows.to_dict("records"):
            each = [
                {
                    "source": one.source,
                    "n": one.n,
                    "number": None if pd.isna(row[number_column(one)]) else row[number_column(one)],
                    "verdict": row[verdict_column(one)],
                }
                for one in references
            ]
            about = {name: row[name] for name in ("metric", "factor", "level", "agreement")}
            found.append({**about, "references": each})
    return found


def _find(paths: Sequence[Path], suffix: str) -> Path:
    return next(path for path in paths if path.suffix == suffix)


def to_csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def describe_report(document: ReportDocument, news: dict[str, str], files: Sequence[str]) -> dict:
    """Return the content of report.json, for the index, for comparisons and for the next report.

    Plain data, without a date: the same report is the same file.
    """
    plan, study, results = document.plan, document.plan.study, document.results
    declared, data = declared_in(plan), study.baseline.data

    # a headline names its quantity where several have one
    said = {section.metric: section.headline for section in document.sections}
    titled = [(section.title, section.headline) for section in document.sections]
    several = sum(map(bool, said.values())) > 1
    headlines = [f"{title}: {text}" if several else text for title, text in titled if text]
    about = {"kind": "study", "title": study.title, "study": study.name, "paper": study.paper}
    about |= {"experiment": study.experiment, "recipe": study.recipe_name, "data": data.name}
    about |= {"changed": list(study.changed), "phases": list(study.phases)}
    about |= {"image_size": data.image_size, "epochs": study.baseline.pretrain.epochs}
    about |= {"fingerprint": plan.data.fingerprint, "not_taken": list_left_out_images(plan)}

    # what was declared, what there is of it, and what it says
    about |= {"seeds": list(study.seeds), "looks": list(study.declared.looks)}
    about |= {"declared": declared and asdict(declared), "descriptive": document.descriptive}
    about |= {"trials": len(plan.trials), "asked": len(results), "files": list(files)}
    about |= {"finished": int((results["status"] == "finished").sum())}
    about |= {"commits": sorted(set(results["commit"].dropna())), "command": document.command}
    headline = " ".join(filter(None, [document.preamble, *headlines]))
    if study.references:
        about["references"] = list_references(document)
    about |= {"metrics": list(said), "headlines": said, "headline": headline, "news": news}
    return about
