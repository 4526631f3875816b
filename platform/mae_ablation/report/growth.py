"""Growth: whether a study got seeds after a report of its results had been written.

Error rates hold for a number of seeds that was fixed beforehand. report.json keeps which seeds the
first report with results was asked for; that is compared with what is asked now.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mae_ablation.report.novelty import Cells, cells_of, last
from mae_ablation.study.plan import REFERENCES


def first_seeds(results: pd.DataFrame, folder: Path, seeds: Sequence[int]) -> list[int]:
    """The seeds that the first report of these trainings in this folder was asked for.

    Those of now where the folder has none, one without results, or one of other trainings.
    """
    before, now = trainings(last(folder)[0]), trainings(cells_of(results))
    if before.keys().isdisjoint(now):
        return list(seeds)
    try:
        saved = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return [int(seed) for seed in saved.get("first_seeds", saved["seeds"])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return sorted(set(before.values()))


def trainings(cells: Cells) -> dict[str, int]:
    """The seed of each training that is of a level: references are the same in every study."""
    levels = {key: cell for key, cell in cells.items() if key[2] not in REFERENCES.values()}
    return {identity: seed for cell in levels.values() for seed, identity in cell.items()}


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
