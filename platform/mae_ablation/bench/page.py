"""Page: reports/performance.md, from what was measured last of each part (performance.json)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from mae_ablation.bench.pairs import Row
from mae_ablation.store.atomic import to_json, write_text

JSON, PAGE = "performance.json", "performance.md"
ORDER = (
    "studies",
    "orchestration",
    "steps",
    "bfloat16",
    "lanes",
    "augmentation",
    "probe",
    "memory",
)
"""of parts on the page; others follow"""
OPENING = """\
# Performance

Measured by `python -m mae_ablation.bench`, both sides of a pair in turn, in one go. A ratio is the
median over rounds, with the smallest and the largest beside it; where it is a time or a share the
line says so.
"""


def known(folder: Path) -> dict:
    """What has been measured, by part."""
    try:
        return json.loads((folder / JSON).read_text())
    except FileNotFoundError:
        return {}


def keep(folder: Path, part: str, about: dict, measured: dict) -> None:
    """Put a part's figures in the place of older ones, and write the page again."""
    parts = {**known(folder), part: {**about, **measured}}
    write_text(folder / JSON, to_json(parts).decode())
    write_text(folder / PAGE, page(parts))


def page(parts: dict) -> str:
    """The whole page."""
    first = {name: parts[name] for name in ORDER if name in parts}
    parts = first | parts
    blocks = [OPENING, pairs_table(parts)]
    for title, part, table in (
        ("Ceilings", "ceilings", ceilings_table),
        ("Recipes", "ceilings", recipes_table),
        ("Growth", "growth", growth_table),
    ):
        if part in parts:
            blocks.append(f"## {title}\n\n{table(parts[part])}")
    return "\n".join([*blocks, f"## How\n\n{notes(parts)}"])


def pairs_table(parts: dict) -> str:
    """One line for each pair."""
    lines = ["| what | against | ratio (least, most) | target | |", "|---|---|---:|---:|---|"]
    for row in rows_of(parts):
        met = "met" if row.is_met else "missed"
        sign = "≥" if row.relation == ">=" else "≤"
        lines.append(
            f"| {row.what} | {row.against} | {spread(row.values)} | {sign} {row.target:g} | {met} |"
        )
    return "\n".join(lines) + "\n"


def rows_of(parts: dict) -> list[Row]:
    return [Row(**row) for part in parts.values() for row in part.get("rows", [])]


def spread(values: Sequence[float]) -> str:
    middle = number(median(values))
    if len(values) == 1:
        return f"{middle} (once)"
    return f"{middle} ({number(min(values))}, {number(max(values))})"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ceilings_table(part: dict) -> str:
    lines = ["| limit of the machine | measured |", "|---|---:|"]
    lines += [
        f"| matrix products, {what} | {rate:,.0f} GFLOP/s |"
        for what, rate in part["matrix_products"].items()
    ]
    lines.append(f"| memory copied by one thread | {part['copied_gib_per_s']:.1f} GiB/s |")
    return "\n".join([*lines, without_bfloat16(part["matrix_products"])]) + "\n"


def without_bfloat16(rates: dict[str, float]) -> str:
    """What is said where the CPU has no arithmetic for it."""
    if rates["bfloat16, 2 threads"] > rates["float32, 2 threads"]:
        return ""
    return (
        "\nThis CPU has no bfloat16 arithmetic: steps in bfloat16 can only be measured on another."
    )


def recipes_table(part: dict) -> str:
    head = "FLOPs of an image, forward and backward | images/s of one thread at the ceiling"
    lines = [f"| recipe | {head} |", "|---|---:|---:|"]
    lines += [
        f"| {asked['recipe']} | {asked['flops']:.3g} | {number(asked['ceiling_images_per_s'])} |"
        for asked in part["asked"]
    ]
    return "\n".join(lines) + "\n"


def growth_table(part: dict) -> str:
    lines = ["| what | sizes | milliseconds | exponent | expected |", "|---|---|---|---:|---|"]
    for grown in part["growth"]:
        sizes = ", ".join(f"{size:g}" for size in grown["sizes"])
        times = ", ".join(f"{1e3 * seconds:.0f}" for seconds in grown["seconds"])
        said = grown["expected"] + (f". {grown['note']}" if grown.get("note") else "")
        cells = (grown["what"], sizes, times, f"{grown['exponent']:.2f}", said)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def notes(parts: dict) -> str:
    """Machine, commit and day of every part, its two sides' own figures and its notes."""
    blocks = []
    for name, part in parts.items():
        lines = [f"**{name}**: {part['machine']}; commit {part['commit']}; {part['date']}."]
        lines += [f"- {told(Row(**row))}" for row in part.get("rows", [])]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def told(row: Row) -> str:
    """A row's own figures and how they came about."""
    words = f"{row.what}, against {row.against}:"
    if row.ours and row.theirs:
        ours, theirs = number(median(row.ours)), number(median(row.theirs))
        words += f" {ours} to {theirs} {row.unit}."
    return f"{words} {row.note}".rstrip()


def as_json(rows: Sequence[Row]) -> dict:
    return {"rows": [asdict(row) for row in rows]}
