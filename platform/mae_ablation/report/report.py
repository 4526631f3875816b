"""Writes a study's report: table, page, figure and every trial, each for another reader."""

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mae_ablation.errors import UserError
from mae_ablation.report.kept import require_no_emptier
from mae_ablation.report.markdown import markdown
from mae_ablation.report.published import published_of
from mae_ablation.report.readings import Readings
from mae_ablation.report.results import results_frame
from mae_ablation.report.saved import report_in
from mae_ablation.report.standing import standing
from mae_ablation.report.table import table_frame
from mae_ablation.store import atomic
from mae_ablation.study.declared import declared_in, descriptive
from mae_ablation.study.owner import path_from, require_own_place
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
    from mae_ablation.report.contents import contents
    from mae_ablation.report.figure import draw
    from mae_ablation.report.html import study_page
    from mae_ablation.report.latex import latex
    from mae_ablation.report.looks_figure import draw_every_look
    from mae_ablation.report.novelty import marked, marks

    require_own_place(folder, report_in(folder), plan.study.path)
    results = results_frame(plan, readings)
    require_no_emptier(folder, int((results["status"] == "finished").sum()), len(results))
    table = table_frame(plan, results, readings)
    declared, why = declared_in(plan), descriptive(plan)
    finished = readings.finished(plan)
    new = marks(results, folder)
    told = marked(table, new)
    folder.mkdir(parents=True, exist_ok=True)
    looks = draw_every_look(plan, standing(plan, readings), folder) if plan.study.grows else {}
    pictures = {metric: named(paths, ".png").name for metric, paths in looks.items()}
    published = published_of(plan.study.name, folder)
    texts = {
        folder / "table.md": markdown(
            plan,
            told,
            results,
            finished,
            descriptive=why,
            looks=pictures,
            published=published,
        ),
        folder / "table.csv": csv(rounded(table)),
        folder / "trials.csv": csv(results.drop(columns="row").round(4)),
        folder / "table.tex": latex(plan, table, results, descriptive=why),
    }
    for path, text in texts.items():
        atomic.write_text(path, text)
    figures = draw(plan, table, results, folder)
    svg = named(figures, ".svg").read_text(encoding="utf-8")
    drawn = {metric: named(paths, ".svg").read_text("utf-8") for metric, paths in looks.items()}
    page, report = folder / "index.html", folder / "report.json"
    about = {"figure": svg, "looks": drawn, "runs": runs, "descriptive": why}
    text = study_page(plan, told, results, readings, **about, published=published)
    atomic.write_text(page, text)
    files = [*texts, *figures, *(path for paths in looks.values() for path in paths), page, report]
    names = [path.name for path in files]
    known = {"declared": declared and asdict(declared), "descriptive": why}
    said = contents(plan, table, results, new, names, **known)
    said["study_file"] = path_from(folder, plan.study.path)
    with atomic.replacing(report) as file:
        file.write(atomic.to_json(said))
    return files


def named(paths: Sequence[Path], suffix: str) -> Path:
    """The first file of this kind."""
    return next(path for path in paths if path.suffix == suffix)


def rounded(table):
    """Four decimals, six of a p: what is small of those is what is told."""
    return table.round({name: 6 if name in ("p", "p_holm") else 4 for name in table.columns})


def csv(frame) -> str:
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()
