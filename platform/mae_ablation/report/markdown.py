"""The report's page in Markdown: caption, tables, how it was measured, how to make it again.

What the columns mean stands on one page for all studies, "How to read this table".
"""

from collections.abc import Mapping

import pandas as pd

from mae_ablation.report.cells import escape_markdown_cell, table_cells
from mae_ablation.report.document import ReportDocument
from mae_ablation.report.findings import COULD_SEE
from mae_ablation.report.how_to_read import LINKS
from mae_ablation.report.method import LOOKS_TITLE


def markdown_page(document: ReportDocument, looks: Mapping[str, str] | None = None) -> str:
    """Write the page of a study.

    Args:
        looks: by metric the name of the picture of its looks, of a study that declares some.
    """
    # what a reader has to know first, then what the numbers are of
    lines = [f"# {document.title}", ""]
    lines += [f"**{document.preamble}**", ""] if document.preamble else []
    lines += [document.caption, ""]

    # a table for each quantity, with what it bears at hand and what it could bear folded away
    for section in document.sections:
        lines += [f"**{section.title}.** {section.headline}".rstrip(), ""]
        lines += [*markdown_table(section.rows), ""]
        lines += [section.news, ""] if section.news else []
        if section.findings:
            lines += [*(f"- {sentence}" for sentence in section.findings), ""]
        if section.detectable:
            lines += [f"<details><summary>{COULD_SEE}</summary>", ""]
            lines += [*(f"- {sentence}" for sentence in section.detectable), "", "</details>", ""]
        if looks and section.metric in looks:
            lines += [f"![{LOOKS_TITLE}: {section.title}]({looks[section.metric]})", ""]
        lines += [section.protocol, ""]
        lines += [section.conditions, ""] if section.conditions else []

    # what is the same for all of them, and how to make them again
    lines += [f"{document.columns} {LINKS}", ""]
    lines += [line for remark in document.remarks for line in (remark, "")]
    for other in document.published:
        link = f"[recipe {other['recipe']}]({other['folder']}/table.md)"
        said = f"Published results of this study, {link}: {other['headline']}"
        lines += [said.rstrip(" :"), ""]
    lines += [f"![{document.title}](figure.png)", ""]
    lines += [f"Made by `{document.command}`; {document.cost}."]
    return "\n".join(lines) + "\n"


def markdown_table(rows: pd.DataFrame) -> list[str]:
    """Write the lines of one quantity's table, the baseline in bold."""
    head, cells = table_cells(rows)
    titles = ["" if name == "note" else name for name in head]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(head)]
    for kind, line in zip(rows["kind"], cells, strict=True):
        bold = "**" if kind == "baseline" else ""
        texts = {**line, "level": f"{bold}{line['level']}{bold}"}
        lines.append("| " + " | ".join(escape_markdown_cell(texts[name]) for name in head) + " |")
    return lines
