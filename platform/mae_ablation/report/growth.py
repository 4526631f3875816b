"""Growth: whether a study got seeds after a report of its results had been written.

Error rates hold for a number of seeds that was fixed beforehand. report.json keeps which seeds the
first report with results was asked for; that is compared with what is asked now.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mae_ablation.report.novelty import cells_of, last


def first_seeds(results: pd.DataFrame, folder: Path, seeds: Sequence[int]) -> list[int]:
    """The seeds that the first report of these trainings in this folder was asked for.

    Those of now where the folder has none, one without results, or one of other trainings.
    """
    before, _ = last(folder)
    seen = {identity for cell in before.values() for identity in cell.values()}
    now = {identity for cell in cells_of(results).values() for identity in cell.values()}
    if seen.isdisjoint(now):
        return list(seeds)
    try:
        saved = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return [int(seed) for seed in saved.get("first_seeds", saved["seeds"])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return sorted({seed for cell in before.values() for seed in cell})


def grown(results: pd.DataFrame, first: Sequence[int]) -> str:
    """That seeds were added after results had been seen, and which; "" where none were."""
    finished = results.loc[results["status"] == "finished", "seed"]
    added = sorted({int(seed) for seed in finished} - {*first})
    if not added:
        return ""
    after, before = (", ".join(map(str, each)) for each in (added, first))
    return (
        f"This table is descriptive: seeds were added after results had been seen (first {before}, "
        f"then {after})."
    )
