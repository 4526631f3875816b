"""The paper's own numbers (He et al., 2021), as data: paper_numbers.yaml."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("paper_numbers.yaml")


@lru_cache(maxsize=1)
def paper_tables() -> dict[str, dict]:
    """Tables and figures of the ablation section by id, such as "figure_5" or "table_1a"."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    data = yaml.load(FILE.read_text(encoding="utf-8"), Loader=loader)
    return {table["id"]: table for table in data["studies"]}


def paper_value(table: str | None, level: Any, phase: str) -> float | None:
    """Top-1 accuracy in per cent for a level and a phase; None where the paper gives none.

    A ratio such as 0.75 is looked up as 75 where the paper's table counts in per cent.
    """
    if table is None:
        return None
    rows = paper_tables()[table]
    key = level
    if rows.get("unit") == "percent" and isinstance(level, float):
        key = round(100 * level)
        if abs(key - 100 * level) > 1e-6:
            return None
    return next((row.get(phase) for row in rows["rows"] if row["level"] == key), None)
