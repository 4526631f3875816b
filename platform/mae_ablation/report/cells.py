"""A table's columns and cells as texts, for every renderer; numbers and intervals as texts."""

from collections.abc import Mapping, Sequence

import pandas as pd

from mae_ablation.report.metrics import HOURS, count_decimals
from mae_ablation.report.verdict import (
    difference_column,
    format_verdict,
    number_column,
    verdict_column,
)
from mae_ablation.study.reference import Reference

# columns that say nothing where all levels share a value, and the table's columns they show
SHARES = {"kept": "kept_patches", "epochs": "epochs", "flops": "flops", "training": "training"}

NOTHING = ("", "–")
SMALL = 0.001  # p values below are given as "<0.001"


def table_cells(rows: pd.DataFrame) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns that say something of one quantity's rows, and each row's texts."""
    cells = [_format_row(row) for row in rows.to_dict("records")]
    varied = {name: rows[column].dropna().nunique() > 1 for name, column in SHARES.items()}
    varied["training"] &= varied["epochs"] and varied["flops"]  # else one of them says it
    head = [
        name
        for name in cells[0]
        if varied.get(name, True) and any(line[name] not in NOTHING for line in cells)
    ]
    return head, cells


def _format_row(row: Mapping) -> dict[str, str]:
    """Format a row's texts by column: what was trained, what was measured, what is to be said."""
    # what was trained; a reference's classifier says how many values of an image it sees
    digits = count_decimals(row["metric"])
    seen = f", {row['features']} values" if is_known(row.get("features")) else ""
    mean, sd = format_number(row["mean"], digits), format_number(row["sd"], digits)
    seeds, paper = f"{row['seeds']}/{row['seeds_asked']}", format_number(row["paper"], 1)
    trained = {
        "level": row["level"] + seen,
        "kept": format_number(row["kept_patches"], 0, ""),
        "epochs": format_number(row["epochs"], 0, ""),
        "flops": format_ratio(row["flops"]),
        "training": format_ratio(row["training"]),
    }
    said = {"tuned": row.get("tuned", ""), "note": row["note"]}

    # hours are set against the baseline's as a ratio, all other means as a difference
    if row["metric"] == HOURS:
        measured = {"hours": mean, "sd": sd, "seeds": seeds}
        measured |= {"speed-up": format_ratio(row["speedup"]), "paper": paper}
        measured["paper speed-up"] = format_ratio(row["paper_speedup"])
        return {**trained, **measured, **said}
    return {
        **trained,
        "mean": mean,
        "sd": sd,
        "seeds": seeds,
        "vs baseline": format_difference(row["difference"], row["difference_sd"], digits),
        "95 %": format_interval(row["low"], row["high"], digits),
        "bootstrap 95 %": format_interval(row["boot_low"], row["boot_high"], digits),
        "p (Holm)": format_p_value(row["p_holm"]),
        "95 % with images": format_interval(row.get("both_low"), row.get("both_high"), digits),
        "decided": row.get("decided", ""),
        "paper": paper,
        "paper vs baseline": format_difference(row["paper_difference"], None, 1),
        "verdict": format_verdict(row),
        **said,
    }


def reference_cells(
    rows: pd.DataFrame, references: Sequence[Reference]
) -> tuple[list[str], list[list[str]]]:
    """Return the columns and texts of a table of references: ours beside each of them."""
    # the paper's columns come first, and a reference of another evaluation has none
    has_paper = rows["paper"].notna().any()
    names = [("paper", "paper", "paper_difference", "verdict")] if has_paper else []
    names += [
        (f"{each.source} (n {each.n})", number_column(each), difference_column(each), word)
        for each in references
        if (word := verdict_column(each))
    ]
    # nobody publishes our raw pixels: rows without pre-training are left out
    lines = []
    for row in rows[rows["kind"] != "reference"].to_dict("records"):
        ours = format_difference(row["difference"], row["difference_sd"], 2)
        line = [row["level"], format_number(row["mean"], 2), ours]
        for _, number, difference, verdict in names:
            theirs = format_difference(row[difference], None, 1)
            said = f"{theirs}: {row[verdict]}" if row[verdict] else ""
            line += [format_number(row[number], 1), said]
        lines.append([*line, row["agreement"]])
    heads = [head for name, *_ in names for head in (name, "difference: verdict")]
    return ["level", "ours", "vs baseline", *heads, "references"], lines


def escape_markdown_cell(text: str) -> str:
    """Keep a text within its cell of a Markdown table."""
    return text.replace("|", r"\|")


def is_known(value: object) -> bool:
    return value is not None and not pd.isna(value)


def format_number(value: float | None, digits: int = 2, absent: str = "–") -> str:
    return f"{value:.{digits}f}" if is_known(value) else absent


def format_ratio(value: float | None) -> str:
    return f"{value:.2f}x" if is_known(value) else ""


def format_interval(low: float | None, high: float | None, digits: int = 2) -> str:
    return f"[{low:+.{digits}f}, {high:+.{digits}f}]" if is_known(low) else "–"


def format_p_value(p: float | None) -> str:
    return f"<{SMALL:g}" if is_known(p) and p < SMALL else format_number(p, 3)


def format_difference(value: float | None, spread: float | None, digits: int = 2) -> str:
    if not is_known(value):
        return "–"
    return f"{value:+.{digits}f}" + (f" ± {spread:.{digits}f}" if is_known(spread) else "")
