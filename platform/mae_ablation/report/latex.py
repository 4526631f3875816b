"""The table in LaTeX: `\\input{table.tex}` beneath `\\usepackage{booktabs}`, and nothing else."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

import pandas as pd

from mae_ablation.report import page
from mae_ablation.report.columns import Column, columns_of
from mae_ablation.report.headlines import headline_of
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
    "\n": " ",
}
LAST_LETTER = "\u017f"
"""Latin letters up to here are in LaTeX's usual fonts"""

MINUS = re.compile(r"(?<![\w.-])-(?=[\d.])")
JOINED = {"sd": "mean", "interval": "difference"}
"""columns that stand in the one before them, for want of width"""

HEADS = {"mean": "mean", "difference": "vs baseline", "paper_difference": "vs baseline"}
NOT_PRINTED = ("note", "boot", "seeds_needed", "tuned")
MARKS = "abcdefghijklmnopqrstuvwxyz"


def latex(plan: Plan, table: pd.DataFrame, results: pd.DataFrame) -> str:
    """A table environment: caption, a tabular per measured quantity, notes; the baseline bold."""
    study = plan.study
    parts = [
        f"% {one_line(page.command(plan))}",
        "% needs \\usepackage{booktabs}",
        "\\begin{table}[t]",
        "\\centering\\footnotesize\\setlength{\\tabcolsep}{3.5pt}",
        f"\\caption{{{escaped(study.title)}. {escaped(page.caption(plan, results))}}}",
        f"\\label{{tab:{re.sub('[^a-zA-Z0-9]+', '-', study.name)}}}",
    ]
    for metric in metrics_of(plan):
        rows = table[table["metric"] == metric]
        parts += ["\\medskip", *tabular(metric, rows, headline_of(plan, rows))]
    parts += [f"\\par\\smallskip\\raggedright {explained(plan, table)}", "\\end{table}"]
    return "\n".join(parts) + "\n"


def tabular(metric: str, rows: pd.DataFrame, sentence: str) -> list[str]:
    """One quantity: its name and headline, its rows, its notes beneath."""
    columns = [c for c in columns_of(rows) if c.key not in NOT_PRINTED]
    all_there = bool((rows["seeds"] == rows["seeds_asked"]).all())
    columns = [c for c in columns if not (c.key == "seeds" and all_there)]
    columns = [c for c in columns if c.key not in JOINED]
    notes = list(dict.fromkeys(note for row in rows["note"] for note in notes_of(row)))
    align = "".join("r" if column.numeric else "l" for column in columns)
    lines = [
        f"\\textbf{{{escaped(page.TITLES[metric])}.}} {escaped(sentence)}\\par\\smallskip",
        f"\\begin{{tabular}}{{@{{}}{align}@{{}}}}",
        "\\toprule",
        " & ".join(escaped(HEADS.get(column.key, column.head)) for column in columns) + " \\\\",
        "\\midrule",
    ]
    reference = False
    for row in rows.to_dict("records"):
        if row["kind"] == "reference" and not reference:
            lines.append("\\addlinespace")
            reference = True
        lines.append(" & ".join(cells(columns, row, notes)) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    if notes:
        told = "; ".join(f"$^{{{mark(i)}}}$ {escaped(note)}" for i, note in enumerate(notes))
        lines.append(f"\\par\\smallskip {{\\raggedright {told}.\\par}}")
    return lines


def cells(columns: Sequence[Column], row: Mapping, notes: Sequence[str]) -> list[str]:
    """A row's texts: spreads and intervals behind their numbers, notes as marks at the level."""
    bold = row["kind"] == "baseline"
    marks = ",".join(mark(notes.index(note)) for note in notes_of(row["note"]))
    out = []
    for column in columns:
        said = number(joined(column, row))
        said = f"\\textbf{{{said}}}" if bold and said else said
        out.append(said + (f"$^{{{marks}}}$" if marks and column.key == "level" else ""))
    return out


def joined(column: Column, row: Mapping) -> str:
    """A column's text with what is said behind it."""
    said = column.text(row)
    if column.key == "mean" and page.there(row["sd"]):
        return f"{said} ± {page.number(row['sd'], 4 if row['metric'] == HOURS else 2)}"
    if column.key == "difference" and page.there(row["low"]):
        return f"{page.signed(row['difference'], None)} {page.bounds(row['low'], row['high'])}"
    return said


def notes_of(note: str) -> list[str]:
    """The parts of a row's note; that it is the baseline is said in bold."""
    return [part for part in note.split("; ") if part and part != "baseline"]


def mark(i: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    return (mark(i // len(MARKS) - 1) if i >= len(MARKS) else "") + MARKS[i % len(MARKS)]


def explained(plan: Plan, table: pd.DataFrame) -> str:
    """What the columns are, in short: a paper has its own text."""
    said = "mean $\\pm$ sd over seeds; vs baseline: paired by seed, with 95 \\% t interval"
    said += "" if plan.study.measure == "accuracy" else " (hours: speed-ups)"
    corrected = "; p: paired t test, corrected by Holm" if "p_holm" in table else ""
    paper = "; paper: ViT-L/16 on ImageNet-1K" if table["paper"].notna().any() else ""
    return f"Bold: baseline; {said}{corrected}{paper}."


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
