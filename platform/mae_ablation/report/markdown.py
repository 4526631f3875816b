"""The report's page in Markdown, and what MLflow's note shows of it.

What the columns mean stands on one page for all studies, "How to read this table".
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mae_ablation.report.cells import escape_markdown_cell, table_cells
from mae_ablation.report.document import ReportDocument
from mae_ablation.report.findings import COULD_SEE
from mae_ablation.report.how_to_read import LINKS, load_template
from mae_ablation.report.saved import report_in

PAD = "&emsp;"  # pads a cell: MLflow draws a note's tables without borders and padding


def markdown_page(document: ReportDocument, looks: Mapping[str, str] | None = None) -> str:
    """Write the page of a study; `looks`: by metric the name of the picture of its looks."""
    return load_template("table.md").render(
        document=document,
        table_of=markdown_table,
        lines_of=markdown_lines,
        could_see_title=COULD_SEE,
        looks=looks or {},
        links=LINKS,
    )


def markdown_table(rows: pd.DataFrame) -> list[str]:
    """Write the lines of one quantity's table, the baseline in bold."""
    head, cells = table_cells(rows)
    titles = ["" if name == "note" else name for name in head]
    lines = []
    for kind, line in zip(rows["kind"], cells, strict=True):
        bold = "**" if kind == "baseline" else ""
        texts = {**line, "level": f"{bold}{line['level']}{bold}"}
        lines.append([texts[name] for name in head])
    return markdown_lines(titles, lines)


def markdown_lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Write the lines of a table from its texts."""
    cells = [[escape_markdown_cell(text) for text in row] for row in (head, *rows)]
    first, *others = ("| " + " | ".join(row) + " |" for row in cells)
    return [first, "|" + "---|" * len(head), *others]


def write_note(folder: Path) -> str:
    """Write the note of an MLflow experiment from a report's own files, so that both say the same.

    The first line is all that is seen until a note is unfolded.
    """
    about = report_in(folder)
    done = f"{about['finished']}/{about['asked']} results"
    first = " – ".join(filter(None, [about["headline"], done]))

    # the page as far as a note can show it: it reaches no picture and no other file
    page = (folder / "table.md").read_text(encoding="utf-8").splitlines()[1:]  # without the title
    lines = [line.replace(f" {LINKS}", "") for line in page if not line.startswith("![")]
    lines = [line.replace(" |", f"{PAD} |") if line.startswith("| ") else line for line in lines]
    return "\n".join([f"**{first}**", *lines]) + "\n"
