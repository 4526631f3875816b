"""Writes a study's report: table (Markdown, CSV), figure (PNG, SVG) and every trial (CSV)."""

import io
from pathlib import Path

from mae_ablation.report.page import markdown
from mae_ablation.report.results import Readings, results_frame
from mae_ablation.report.table import table_frame
from mae_ablation.store import atomic
from mae_ablation.study.errors import UserError
from mae_ablation.study.plan import Plan


def write_report(
    plan: Plan,
    folder: Path,
    *,
    readings: Readings | None = None,
    runs: dict[str, str] | None = None,
) -> list[Path]:
    """Make `folder`/table.md, table.csv, trials.csv, figure.png, figure.svg from the store alone.

    Returns the files. The same store gives the same files.

    Raises:
        UserError: the store cannot be read, or the folder cannot be written.
    """
    try:
        return _write_report(plan, folder, readings or Readings(plan.store))
    except OSError as error:  # a full disk, a vanished mount, no permission
        lines = f"report not written: {error}".splitlines()
        raise UserError(lines[0], str(folder)) from None


def _write_report(plan: Plan, folder: Path, readings: Readings) -> list[Path]:
    from mae_ablation.report.figure import draw

    results = results_frame(plan, readings)
    table = table_frame(plan, results)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        folder / "table.md": markdown(plan, table, results, readings.finished(plan)),
        folder / "table.csv": csv(table.round(4)),
        folder / "trials.csv": csv(results.drop(columns="row").round(4)),
    }
    for path, text in texts.items():
        atomic.write_text(path, text)
    return [*texts, *draw(plan, table, results, folder)]


def csv(frame) -> str:
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()
