"""New cells: what a report shows that the one before it, in the same folder, did not.

A report keeps in report.json which trainings its cells rest on. Written again without any change,
it says the same as last time.
"""

import json
from pathlib import Path

import pandas as pd

from mae_ablation.report.summary import counted

RowKey = tuple[str, str, str]
"""metric, factor ("" for none), level"""

Cells = dict[RowKey, dict[int, str]]
"""identity of the training behind each finished seed of each row"""


def cells_of(results: pd.DataFrame) -> Cells:
    """The finished cells of a results frame or of trials.csv."""
    cells: Cells = {}
    done = results[results["status"] == "finished"]
    names = ["metric", "factor", "level", "seed", "trial_id"]
    for metric, factor, level, seed, identity in done[names].itertuples(index=False):
        key = (metric, "" if pd.isna(factor) else str(factor), str(level))
        cells.setdefault(key, {})[int(seed)] = str(identity)
    return cells


def marks(results: pd.DataFrame, folder: Path) -> dict[RowKey, str]:
    """By row what is new since the folder's last report: "new: seeds 3, 4", "new level".

    Nothing is new in the first report, nor in a first table of its quantity.
    """
    now, (before, said) = cells_of(results), last(folder)
    if now == before:
        return said
    known = {metric for metric, _, _ in before}
    return {
        key: mark
        for key, seeds in now.items()
        if key[0] in known and (mark := new(seeds, before.get(key)))
    }


def new(seeds: dict[int, str], before: dict[int, str] | None) -> str:
    """What of a row is new, in words; "" where nothing is."""
    if before is None:
        return "new level"
    fresh = [str(seed) for seed, identity in seeds.items() if before.get(seed) != identity]
    noun = counted(len(fresh), "seed").split()[1]
    return f"new: {noun} {', '.join(fresh)}" if fresh else ""


def marked(table: pd.DataFrame, new: dict[RowKey, str]) -> pd.DataFrame:
    """The table with what is new in its notes, for pages; files of numbers stay without."""
    keys = zip(table["metric"], table["factor"].fillna(""), table["level"], strict=True)
    pairs = zip(table["note"], map(new.get, keys), strict=True)
    notes = ["; ".join(filter(None, pair)) for pair in pairs]
    return table.assign(note=notes)


def last(folder: Path) -> tuple[Cells, dict[RowKey, str]]:
    """Cells and marks of the folder's last report; of one from before there were marks, its cells.

    A damaged one counts as none.
    """
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        cells = {tuple(key): {int(s): i for s, i in seeds} for key, seeds in report["cells"]}
        return cells, {tuple(key): mark for key, mark in report["new"]}
    except FileNotFoundError:
        return older(folder), {}
    except (ValueError, KeyError, TypeError):
        return {}, {}


def older(folder: Path) -> Cells:
    """Cells of a report that has trials.csv only; a level "0.50" stays text."""
    try:
        return cells_of(pd.read_csv(folder / "trials.csv", dtype={"level": str}))
    except (OSError, ValueError, KeyError):
        return {}


def saved(cells: Cells, new: dict[RowKey, str]) -> dict:
    """What report.json keeps of a report, for the next one."""
    return {
        "cells": [[list(key), sorted(seeds.items())] for key, seeds in cells.items()],
        "new": [[list(key), mark] for key, mark in new.items()],
    }
