"""Writes a study's report: table, page, figure and every trial, each for another reader."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from mae_ablation.errors import UserError
from mae_ablation.report.document import ReportDocument, make_document
from mae_ablation.report.latex import latex_table
from mae_ablation.report.markdown import markdown_page
from mae_ablation.report.method import list_left_out_images
from mae_ablation.report.readings import Readings, finished_results
from mae_ablation.report.results import results_frame
from mae_ablation.report.saved import (
    describe_news,
    find_published,
    report_in,
    require_no_emptier,
)
from mae_ablation.report.standing import standing
from mae_ablation.report.table import table_frame
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
    """Make `folder`: table.md, table.csv, trials.csv, table.tex, figure.png, .svg and .pdf, of a
    study with looks also looks_EVALUATION.png, .svg and .pdf, index.html, and report.json, which
    says what they are of, last.

    Args:
        readings: where results are read (default: the plan's store).
        runs: address of the MLflow run of each trial, by its result_id joined with ",".

    Returns the files. The same results give the same files.

    Raises:
        Emptier: the folder's report shows more results than this one, which is incomplete.
        UserError: the store cannot be read, the folder cannot be written, or it holds the report of
            another study file.
    """
    try:
        return _write_report(plan, folder, readings or Readings(plan.store), runs)
    except OSError as error:  # a full disk, a vanished mount, no permission
        lines = f"report not written: {error}".splitlines()
        raise UserError(lines[0], str(folder)) from None


def _write_report(
    plan: Plan, folder: Path, readings: Readings, runs: dict[str, str] | None
) -> list[Path]:
    from mae_ablation.report.figure import draw
    from mae_ablation.report.html import html_page
    from mae_ablation.report.looks_figure import draw_every_look

    # what there is to say
    require_own_place(folder, report_in(folder), plan.study.path)
    results = results_frame(plan, readings)
    require_no_emptier(folder, int((results["status"] == "finished").sum()), len(results))
    table, trials = (
        table_frame(plan, results, readings),
        to_csv(results.drop(columns="row").round(4)),
    )
    news = describe_news(trials, folder)
    document = make_document(
        plan,
        table,
        results,
        finished_results(plan, readings),
        descriptive=descriptive(plan),
        news=news,
        published=find_published(plan.study.name, folder),
    )

    # pictures first, which the pages show
    folder.mkdir(parents=True, exist_ok=True)
    looks = draw_every_look(plan, standing(plan, readings), folder) if plan.study.grows else {}
    figures = draw(plan, table, results, folder)
    pictures = [*figures, *(path for paths in looks.values() for path in paths)]
    for path in folder.glob("looks_*.*"):  # of a study that grew before
        if path not in pictures:
            path.unlink()

    # tables and pages
    names = {metric: _first(paths, ".png").name for metric, paths in looks.items()}
    drawn = {metric: _first(paths, ".svg").read_text("utf-8") for metric, paths in looks.items()}
    svg = _first(figures, ".svg").read_text(encoding="utf-8")
    six = {name: 6 if name in ("p", "p_holm") else 4 for name in table.columns}  # p may be small
    tables = {
        "table.md": markdown_page(document, names),
        "table.csv": to_csv(table.round(six)),
        "trials.csv": trials,
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


def _first(paths: Sequence[Path], suffix: str) -> Path:
    return next(path for path in paths if path.suffix == suffix)


def to_csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def describe_report(document: ReportDocument, news: dict[str, str], files: Sequence[str]) -> dict:
    """Return the content of report.json, for the index, for comparisons and for the next report.

    Plain data, without a date: the same report is the same file.
    """
    plan, study, results = document.plan, document.plan.study, document.results
    declared = declared_in(plan)
    said = {section.metric: section.headline for section in document.sections}
    headlines = [
        f"{section.title}: {section.headline}" if sum(map(bool, said.values())) > 1 else text
        for section in document.sections
        if (text := section.headline)
    ]
    return {
        "kind": "study",
        "title": study.title,
        "study": study.name,
        "experiment": study.experiment,
        "paper": study.paper,
        "recipe": study.recipe_name,
        "changed": list(study.changed),
        "data": study.baseline.data.name,
        "fingerprint": plan.data.fingerprint,
        "not_taken": list_left_out_images(plan),
        "image_size": study.baseline.data.image_size,
        "epochs": study.baseline.pretrain.epochs,
        "seeds": list(study.seeds),
        "looks": list(study.declared.looks),
        "declared": declared and asdict(declared),
        "descriptive": document.descriptive,
        "phases": list(study.phases),
        "commits": sorted(set(results["commit"].dropna())),
        "metrics": list(said),
        "headlines": said,
        "headline": " ".join(filter(None, [document.preamble, *headlines])),
        "news": news,
        "trials": len(plan.trials),
        "finished": int((results["status"] == "finished").sum()),
        "asked": len(results),
        "command": document.command,
        "files": list(files),
    }
