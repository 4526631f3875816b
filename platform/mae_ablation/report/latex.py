"""The table in LaTeX: `\\input{table.tex}` beneath `\\usepackage{booktabs}`, and nothing else."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

import pandas as pd

from mae_ablation.report import page
from mae_ablation.report.headline import table_headline
from mae_ablation.report.results import HOURS, metrics_of
from mae_ablation.study.plan import Plan

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "\n": " ",
}
LAST_LETTER = "\u017f"
"""Latin letters up to here are in LaTeX's usual fonts"""

P_COLUMN = re.compile(r"& p (&|\\)")
"""in a head line"""

MINUS = re.compile(r"(?<![\w.-])-(?=[\d.])")
LEFT_OUT = (
    "sd",
    "95 %",
    "95 % with images",
    "paper vs baseline",
    "bootstrap 95 %",
    "tuned",
    "note",
)
"""columns of the page that stand in the one before them, beneath the table, or in no paper"""

HEADS = {"vs baseline": "Δ [95 %]", "paper": "paper (Δ)", "seeds": "n", "p (Holm)": "p"}
WORDS = ("level", "verdict", "decided")
SPARED = ("kept", "training", "flops", "epochs", "p (Holm)")
"""columns left out, the first ones first, where a table is wider than the text"""

TEXT_WIDTH = 330  # points; of LaTeX's article, 345
GAP = 6  # points between columns
NARROW, WIDE = " .,:;()[]'ijlt-/|", "mwMW+±ΔABCDEFGHKNOQRUVXY="
REMARK = 12  # characters behind a level's name; longer ones stand beneath the table
MARKS = "abcdefghijklmnopqrstuvwxyz"


def latex(plan: Plan, table: pd.DataFrame, results: pd.DataFrame, *, descriptive: str = "") -> str:
    """A table environment: caption, a tabular per measured quantity, notes; the baseline bold.

    `descriptive`: that its tables are descriptive only, and why, or "".
    """
    study = plan.study
    parts = [
        f"% {one_line(page.command(plan))}",
        "% needs \\usepackage{booktabs}",
        "\\begin{table}[t]",
        "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
        f"\\caption{{{escaped(study.title)}. {escaped(page.caption(plan, results))}}}",
        f"\\label{{tab:{re.sub('[^a-zA-Z0-9]+', '-', study.name)}}}",
    ]
    for metric in metrics_of(plan):
        rows = table[table["metric"] == metric]
        parts += ["\\medskip", *tabular(metric, rows, table_headline(plan, metric, table, results))]
    with_p = any(P_COLUMN.search(line) for line in parts)
    beneath = " ".join(filter(None, [explained(table, with_p=with_p), escaped(descriptive)]))
    parts += [f"\\par\\smallskip\\raggedright {beneath}", "\\end{table}"]
    return "\n".join(parts) + "\n"


def tabular(metric: str, rows: pd.DataFrame, sentence: str) -> list[str]:
    """One quantity: its name and headline, its rows, its notes beneath."""
    records, (columns, texts) = rows.to_dict("records"), page.table_cells(rows)
    left_out = {*LEFT_OUT, *(["seeds"] if (rows["seeds"] == rows["seeds_asked"]).all() else [])}
    left_out |= {"decided"} if (rows["verdict"] != "").any() else set()
    columns = [name for name in columns if name not in left_out]
    cells = [
        {name: joined(name, line[name], row) for name in columns}
        for row, line in zip(records, texts, strict=True)
    ]
    columns = fitting(columns, cells)
    hours = bool((rows["metric"] == HOURS).any())
    heads = {name: name if hours else HEADS.get(name, name) for name in columns}
    if "vs baseline" in heads and rows["low"].isna().all():
        heads["vs baseline"] = "Δ"
    notes = list(dict.fromkeys(note for row in records for note in notes_of(row)))
    align = "".join("l" if name in WORDS else "r" for name in columns)
    lines = [
        f"\\textbf{{{escaped(page.TITLES[metric])}.}} {escaped(sentence)}\\par\\smallskip",
        f"\\begin{{tabular}}{{@{{}}{align}@{{}}}}",
        "\\toprule",
        " & ".join(escaped(heads[name]) for name in columns) + " \\\\",
        "\\midrule",
    ]
    for i, row in enumerate(records):
        if row["kind"] == "reference" and i and records[i - 1]["kind"] != "reference":
            lines.append("\\addlinespace")
        lines.append(begun(" & ".join(line_of(columns, row, cells[i], notes))) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    if notes:
        told = "; ".join(f"$^{{{mark(i)}}}$ {escaped(note)}" for i, note in enumerate(notes))
        lines.append(f"\\par\\smallskip {{\\raggedright {told}.\\par}}")
    return lines


def fitting(columns: Sequence[str], cells: Sequence[Mapping[str, str]]) -> list[str]:
    """Without those of least weight where all are wider than a page's text."""
    columns = list(columns)
    for name in SPARED:
        if width(columns, cells) > TEXT_WIDTH and name in columns:
            columns.remove(name)
    return columns


def width(columns: Sequence[str], cells: Sequence[Mapping[str, str]]) -> float:
    """Of the table, in points, about."""
    texts = [[HEADS.get(name, name), *(line[name] for line in cells)] for name in columns]
    return sum(max(map(points, column)) + GAP for column in texts) - GAP


def points(text: str) -> float:
    """Width of a text in LaTeX's usual font of 8 points, about, with the bold one's share."""
    return sum(2.8 if sign in NARROW else 6.8 if sign in WIDE else 4.4 for sign in text)


def line_of(
    columns: Sequence[str], row: Mapping, cells: Mapping[str, str], notes: Sequence[str]
) -> list[str]:
    """A row's texts; the baseline's are bold, notes are marks at the level."""
    bold = row["kind"] == "baseline"
    marks = ",".join(mark(notes.index(note)) for note in notes_of(row))
    out = []
    for name in columns:
        said = number(cells[name])
        said = f"\\textbf{{{said}}}" if bold and said else said
        out.append(said + (f"$^{{{marks}}}$" if marks and name == "level" else ""))
    return out


def begun(line: str) -> str:
    """A row that what stands above it, such as `\\\\`, does not take for its own argument."""
    return "{}" + line if line.startswith(("[", "*")) else line


def joined(name: str, said: str, row: Mapping) -> str:
    """A column's text with what is said behind it: spread, interval, difference."""
    digits = page.digits_of(row["metric"])
    if name == "level":
        return named(said)[0]
    if name == "verdict":
        return row["verdict"]
    if name in ("mean", "hours") and page.there(row["sd"]):
        return f"{said} ± {page.number(row['sd'], digits)}"
    if name == "vs baseline" and page.there(row["difference"]):
        ends = f" [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
        told = page.signed(row["difference"], None, digits)
        return told + (ends if page.there(row["low"]) else "")
    if name == "paper" and row["metric"] != HOURS and page.there(row["paper_difference"]):
        return f"{said} ({page.signed(row['paper_difference'], None, 1)})"
    return said


def named(level: str) -> tuple[str, str]:
    """A level's name and what is said behind it, where that is too long for a column."""
    name, _, rest = level.partition(" (")
    remark = rest.removesuffix(")")
    return (name, remark) if len(remark) > REMARK else (level, "")


def notes_of(row: Mapping) -> list[str]:
    """What is said beneath the table; that a row is the baseline is said in bold."""
    parts = [named(row["level"])[1], *row["note"].split("; ")]
    return [part for part in parts if part and part != "baseline"]


def mark(i: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    return (mark(i // len(MARKS) - 1) if i >= len(MARKS) else "") + MARKS[i % len(MARKS)]


def explained(table: pd.DataFrame, *, with_p: bool) -> str:
    """What the columns are, in short: a paper has its own text.

    `with_p`: the column of p values has not been left out for want of room.
    """
    said = ["Bold: baseline", "mean $\\pm$ sd over seeds"]
    compared = table[table["metric"] != HOURS]
    if compared["difference"].notna().any():
        interval = ", with 95 \\% t interval" if compared["low"].notna().any() else ""
        said.append(f"$\\Delta$: to the baseline, paired by seed{interval}")
    if with_p:
        said.append("p: paired t test, corrected by Holm")
    if table["paper"].notna().any():
        said.append("paper: ViT-L/16 on ImageNet-1K")
    return "; ".join(said) + "."


def number(text: str) -> str:
    """Escaped, with minus signs rather than hyphens before digits."""
    return MINUS.sub("$-$", escaped(text))


def escaped(text: str) -> str:
    """Any text as LaTeX prints it; signs its fonts do not have become question marks."""
    return "".join(SPECIAL.get(sign) or printable(sign) for sign in text)


def printable(sign: str) -> str:
    if sign < " " or sign == "\x7f":
        return " "
    if sign <= "~" or ("\u00c0" <= sign <= LAST_LETTER and sign not in "×÷"):
        return sign
    plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
    return "".join(SPECIAL.get(s, s) for s in plain) or "?"


def one_line(text: str) -> str:
    """For a comment: nothing may begin a line of its own."""
    return " ".join(text.split())
