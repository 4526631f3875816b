"""A comparison of two reports as text for a terminal, and as a page in Markdown."""

from mae_ablation.report.compare import Comparison
from mae_ablation.report.page import NOTHING, in_cell


def as_text(found: Comparison, width: int) -> str:
    """For a terminal: columns where they fit, else a level's cells beneath each other."""
    lines = [f"{name}: {words}" for name, words in zip("AB", found.names, strict=True)]
    lines += [f"same: {'; '.join(found.same)}"] if found.same else []
    lines += [f"{what}: {one or '–'} (A), {two or '–'} (B)" for what, one, two in found.differs]
    lines += found.notes
    for part in found.sections:
        lines += ["", part.title, *columns(part.table, width), *part.sentences]
    return "\n".join(lines)


def columns(table: list[list[str]], width: int) -> list[str]:
    """A table's lines, at most `width` characters wide where it can be."""
    table = without_empty(table)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) <= width:
        return [
            "  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip()
            for line in table
        ]
    head, *rows = table
    return [text for row in rows for text in stacked(head, row, width)]


def stacked(head: list[str], row: list[str], width: int) -> list[str]:
    """A level, and what stands under each heading beneath it."""
    cells = [f"{h} {c}".strip() for h, c in zip(head[1:], row[1:], strict=True) if c not in NOTHING]
    lines = [""]
    for text in cells:
        longer = f"{lines[-1]}; {text}" if lines[-1] else text
        lines = [*lines[:-1], longer] if len(longer) <= width - 2 else [*lines, text]
    return [row[0], *(f"  {line}" for line in lines if line)]


def without_empty(table: list[list[str]]) -> list[list[str]]:
    """The columns that say something."""
    head, *rows = table
    kept = [i for i in range(len(head)) if i < 3 or any(row[i] not in NOTHING for row in rows)]
    return [[line[i] for i in kept] for line in table]


def as_markdown(found: Comparison) -> str:
    """The same as a page."""
    lines = ["# Two reports side by side", ""]
    lines += [f"- {name}: {words}" for name, words in zip("AB", found.names, strict=True)]
    lines += [f"- same: {'; '.join(found.same)}"] if found.same else []
    lines += [f"- {what}: {one or '–'} (A), {two or '–'} (B)" for what, one, two in found.differs]
    for note in found.notes:
        lines += ["", note]
    for part in found.sections:
        head, *rows = without_empty(part.table)
        lines += ["", f"**{part.title}.**", "", "| " + " | ".join(head) + " |"]
        lines += ["|" + "---|" * len(head)]
        lines += [*("| " + " | ".join(map(in_cell, row)) + " |" for row in rows), ""]
        lines += [f"- {sentence}" for sentence in part.sentences]
    return "\n".join(lines) + "\n"
