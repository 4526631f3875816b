"""The table in LaTeX: `\\input{table.tex}` beneath `\\usepackage{booktabs}`, and nothing else."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from mae_ablation.report.cells import format_difference, format_number, is_known, table_cells
from mae_ablation.report.document import ReportDocument, Section
from mae_ablation.report.metrics import HOURS, count_decimals

SPECIAL = {
    "\\": r"\textbackslash{}",
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
    **{sign: f"\\{sign}" for sign in "{}&%$#_"},
}
LAST_LETTER = "\u017f"  # last of the Latin letters that LaTeX's usual fonts have
P_COLUMN = re.compile(r"& p (&|\\)")  # the column of p values in a head line
MINUS = re.compile(r"(?<![\w.-])-(?=[\d.])")
# columns of the page that stand in the one before them, or beneath the table
LEFT_OUT = {"sd", "95 %", "paper vs baseline", "note"}

LEFT_OUT |= {"95 % with images", "bootstrap 95 %", "tuned"}
"""Columns that stand in no paper."""

HEADS = {"vs baseline": "Δ [95 %]", "paper": "paper (Δ)", "seeds": "n", "p (Holm)": "p"}
LEFT_ALIGNED = ("level", "verdict", "decided")
# columns left out, the first ones first, where a table is wider than the text
SPARED = ("kept", "training", "flops", "epochs", "p (Holm)")

TEXT_WIDTH = 330  # points; of LaTeX's article, 345
GAP = 6  # points between columns
NARROW_SIGNS, WIDE_SIGNS = " .,:;()[]'ijlt-/|", "mwMW+±ΔABCDEFGHKNOQRUVXY="
REMARK = 12  # characters behind a level's name; longer ones stand beneath the table
MARKS = "abcdefghijklmnopqrstuvwxyz"


def latex_table(document: ReportDocument) -> str:
    """Write a table environment: caption, a tabular per quantity, notes; the baseline bold."""
    name = re.sub("[^a-zA-Z0-9]+", "-", document.plan.study.name)
    parts = [
        f"% {' '.join(document.command.split())}",  # nothing may begin a line of its own
        "% needs \\usepackage{booktabs}",
        "\\begin{table}[t]",
        "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
        f"\\caption{{{escape(document.title)}. {escape(document.caption)}}}",
        f"\\label{{tab:{name}}}",
    ]
    for section in document.sections:
        parts += ["\\medskip", *_tabular(section)]

    # the columns in short, as a paper has its own text; that of p may have gone for its width
    table, said = document.table, ["Bold: baseline", "mean $\\pm$ sd over seeds"]
    compared = table[table["metric"] != HOURS]
    if compared["difference"].notna().any():
        interval = ", with 95 \\% t interval" if compared["low"].notna().any() else ""
        said.append(f"$\\Delta$: to the baseline, paired by seed{interval}")
    if any(P_COLUMN.search(line) for line in parts):
        said.append("p: paired t test, corrected by Holm")
    if table["paper"].notna().any():
        said.append("paper: ViT-L/16 on ImageNet-1K")
    beneath = " ".join(filter(None, [f"{'; '.join(said)}.", escape(document.descriptive)]))
    parts += [f"\\par\\smallskip\\raggedright {beneath}", "\\end{table}"]
    return "\n".join(parts) + "\n"


def _tabular(section: Section) -> list[str]:
    """Write one quantity: its name and headline, its rows, its notes beneath."""
    # the columns and their texts, some of which go where the table is wider than the text
    metric, rows = section.metric, section.rows
    records, (columns, texts) = rows.to_dict("records"), table_cells(rows)
    left_out = LEFT_OUT | ({"seeds"} if (rows["seeds"] == rows["seeds_asked"]).all() else set())
    left_out |= {"decided"} if (rows["verdict"] != "").any() else set()
    columns = [name for name in columns if name not in left_out]
    cells = [
        {name: _joined_cell(name, line[name], row) for name in columns}
        for row, line in zip(records, texts, strict=True)
    ]
    for name in SPARED:
        if name in columns and _width(columns, cells) > TEXT_WIDTH:
            columns.remove(name)
    heads = {name: name if metric == HOURS else HEADS.get(name, name) for name in columns}
    if "vs baseline" in heads and rows["low"].isna().all():
        heads["vs baseline"] = "Δ"

    # the lines; the baseline's texts are bold, notes are marks at the level
    notes = list(dict.fromkeys(note for row in records for note in _notes(row)))
    align = "".join("l" if name in LEFT_ALIGNED else "r" for name in columns)
    lines = [
        f"\\textbf{{{escape(section.title)}.}} {escape(section.headline)}\\par\\smallskip",
        f"\\begin{{tabular}}{{@{{}}{align}@{{}}}}",
        "\\toprule",
        " & ".join(escape(heads[name]) for name in columns) + " \\\\",
        "\\midrule",
    ]
    for i, row in enumerate(records):
        if row["kind"] == "reference" and i and records[i - 1]["kind"] != "reference":
            lines.append("\\addlinespace")
        marks, line = ",".join(_mark(notes.index(note)) for note in _notes(row)), []
        for name in columns:
            text = MINUS.sub("$-$", escape(cells[i][name]))  # minus signs rather than hyphens
            text = f"\\textbf{{{text}}}" if row["kind"] == "baseline" and text else text
            line.append(text + (f"$^{{{marks}}}$" if marks and name == "level" else ""))
        # what stands above a row, such as \\, is not to take it for its own argument
        guard = "{}" if line[0].startswith(("[", "*")) else ""
        lines.append(f"{guard}{' & '.join(line)} \\\\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    if notes:
        each = "; ".join(f"$^{{{_mark(i)}}}$ {escape(note)}" for i, note in enumerate(notes))
        lines.append(f"\\par\\smallskip {{\\raggedright {each}.\\par}}")
    return lines


def _width(columns: Sequence[str], cells: Sequence[Mapping[str, str]]) -> float:
    """Estimate a table's width in points, in LaTeX's usual font of 8 points."""

    def width(text: str) -> float:
        narrow, wide = (sum(map(text.count, signs)) for signs in (NARROW_SIGNS, WIDE_SIGNS))
        return 2.8 * narrow + 6.8 * wide + 4.4 * (len(text) - narrow - wide)

    texts = [[HEADS.get(name, name), *(line[name] for line in cells)] for name in columns]
    return sum(max(map(width, column)) + GAP for column in texts) - GAP


def _joined_cell(name: str, text: str, row: Mapping) -> str:
    """Return a column's text with what is said behind it: spread, interval, difference."""
    digits = count_decimals(row["metric"])
    if name == "level":
        return _split_level(text)[0]
    if name == "verdict":
        return row["verdict"]
    if name in ("mean", "hours") and is_known(row["sd"]):
        return f"{text} ± {format_number(row['sd'], digits)}"
    if name == "vs baseline" and is_known(row["difference"]):
        ends = f" [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
        difference = format_difference(row["difference"], None, digits)
        return difference + (ends if is_known(row["low"]) else "")
    if name == "paper" and row["metric"] != HOURS and is_known(row["paper_difference"]):
        return f"{text} ({format_difference(row['paper_difference'], None, 1)})"
    return text


def _split_level(level: str) -> tuple[str, str]:
    """Split a level's name from what is said behind it, where that is too long for a column."""
    name, _, rest = level.partition(" (")
    remark = rest.removesuffix(")")
    return (name, remark) if len(remark) > REMARK else (level, "")


def _notes(row: Mapping) -> list[str]:
    """List what is said beneath the table; that a row is the baseline is said in bold."""
    parts = [_split_level(row["level"])[1], *row["note"].split("; ")]
    return [part for part in parts if part and part != "baseline"]


def _mark(i: int) -> str:
    """Count a, b, ..., z, aa, ab, ..."""
    return (_mark(i // len(MARKS) - 1) if i >= len(MARKS) else "") + MARKS[i % len(MARKS)]


def escape(text: str) -> str:
    """Escape any text for LaTeX; signs that its fonts do not have become question marks."""
    out = []
    for sign in text:
        if sign in SPECIAL:
            out.append(SPECIAL[sign])
        elif sign < " " or sign == "\x7f":
            out.append(" ")
        elif sign <= "~" or ("\u00c0" <= sign <= LAST_LETTER and sign not in "×÷"):
            out.append(sign)
        else:
            plain = unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
            out.append("".join(SPECIAL.get(each, each) for each in plain) or "?")
    return "".join(out)
