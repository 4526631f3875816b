"""Columns of a printed table: what each says of a row. Those that say nothing are left out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from mae_ablation.report.page import bounds, number, signed, there, times
from mae_ablation.report.results import HOURS

NOTHING = ("", "–")
SHARES = ("kept_patches", "epochs", "flops", "training")
SMALL = 0.001  # p-values below are given as "<0.001"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A heading, and what stands under it in a row of the table frame."""

    key: str
    head: str
    text: Callable[[Mapping], str]
    numeric: bool = True


def columns_of(rows: pd.DataFrame) -> list[Column]:
    """The columns that say something of the rows of one quantity."""
    hours = bool((rows["metric"] == HOURS).any())
    varied = {name for name in SHARES if rows[name].dropna().nunique() > 1}
    if not {"epochs", "flops"} <= varied:
        varied.discard("training")  # one of them says it
    records = rows.to_dict("records")
    return [
        column
        for column in (TIMES if hours else ACCURACIES)
        if (column.key in varied or column.key not in SHARES)
        and any(column.text(record) not in NOTHING for record in records)
    ]


def text(name: str) -> Callable[[Mapping], str]:
    return lambda row: str(row.get(name)) if there(row.get(name)) else ""


def numeral(name: str, digits: int, absent: str = "–") -> Callable[[Mapping], str]:
    return lambda row: number(row.get(name), digits, absent)


def ratio(name: str) -> Callable[[Mapping], str]:
    return lambda row: times(row.get(name))


def between(low: str, high: str) -> Callable[[Mapping], str]:
    return lambda row: bounds(row.get(low), row.get(high))


def difference(name: str, spread: str, digits: int) -> Callable[[Mapping], str]:
    return lambda row: signed(row.get(name), row.get(spread), digits)


def chance(row: Mapping) -> str:
    p = row.get("p_holm")
    return f"<{SMALL:g}" if there(p) and p < SMALL else number(p, 3)


def finished(row: Mapping) -> str:
    return f"{row['seeds']}/{row['seeds_asked']}"


LEVEL = Column(key="level", head="level", text=text("level"), numeric=False)
TRAINING = (
    Column(key="kept_patches", head="kept", text=numeral("kept_patches", 0, "")),
    Column(key="epochs", head="epochs", text=numeral("epochs", 0, "")),
    Column(key="flops", head="flops", text=ratio("flops")),
    Column(key="training", head="training", text=ratio("training")),
)
SEEDS = Column(key="seeds", head="seeds", text=finished)
NOTE = Column(key="note", head="note", text=text("note"), numeric=False)
TUNED = Column(key="tuned", head="tuned", text=text("tuned"), numeric=False)
ACCURACIES = (
    LEVEL,
    *TRAINING,
    Column(key="mean", head="mean", text=numeral("mean", 2)),
    Column(key="sd", head="sd", text=numeral("sd", 2)),
    SEEDS,
    Column(key="difference", head="vs baseline", text=difference("difference", "difference_sd", 2)),
    Column(key="interval", head="95 %", text=between("low", "high")),
    Column(key="boot", head="bootstrap 95 %", text=between("boot_low", "boot_high")),
    Column(key="p_holm", head="p (Holm)", text=chance),
    Column(key="paper", head="paper", text=numeral("paper", 1)),
    Column(
        key="paper_difference", head="paper vs baseline", text=difference("paper_difference", "", 1)
    ),
    Column(key="verdict", head="verdict", text=text("verdict"), numeric=False),
    Column(key="seeds_needed", head="seeds needed", text=numeral("seeds_needed", 0, "")),
    TUNED,
    NOTE,
)
TIMES = (
    LEVEL,
    *TRAINING,
    Column(key="mean", head="hours", text=numeral("mean", 4)),
    Column(key="sd", head="sd", text=numeral("sd", 4)),
    SEEDS,
    Column(key="speedup", head="speed-up", text=ratio("speedup")),
    Column(key="paper_hours", head="paper", text=numeral("paper", 1)),
    Column(key="paper_speedup", head="paper speed-up", text=ratio("paper_speedup")),
    TUNED,
    NOTE,
)
