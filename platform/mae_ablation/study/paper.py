"""The paper's own numbers (He et al., 2021), as data: paper_numbers.yaml."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from mae_ablation.registry import list_components

PAPER_NUMBERS = Path(__file__).with_name("paper_numbers.yaml")


def paper_tables() -> dict[str, dict]:
    """Tables and figures of the ablation section by id, such as "figure_5" or "table_1a"."""
    return _read_tables()["studies"]


def independent_tables() -> dict[str, dict]:
    """What others have published on the same questions, by id."""
    return _read_tables()["independent"]


@lru_cache(maxsize=1)
def _read_tables() -> dict[str, dict[str, dict]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    data = yaml.load(PAPER_NUMBERS.read_text(encoding="utf-8"), Loader=loader)
    return {kind: {each["id"]: each for each in data[kind]} for kind in ("studies", "independent")}


FIELDS = {
    "figure_5": "pretrain.mask_ratio",
    "figure_7": "pretrain.epochs",
    "figure_9": "partial.blocks",
    "table_1a": "model.decoder_depth",
    "table_1b": "model.decoder_width",
    "table_1d": "pretrain.target",
    "table_1e": "pretrain.augmentation",
}
"""The recipe field that a table of the paper varies; the levels of the others are named."""


def paper_row(table: str | None, field: str | None, level: Any) -> dict:
    """Return a level's row of a table; empty where the paper has none."""
    if table is None or FIELDS.get(table) != field:
        return {}
    # the paper's levels are numbers or words, of the field that its table varies
    rows = paper_tables()[table]
    key = level
    if rows.get("unit") == "percent":  # a ratio such as 0.75 is its 75
        key = round(100 * level)
        if abs(key - 100 * level) > 1e-6:
            return {}
    return next((row for row in rows["rows"] if row["level"] == key), {})


def paper_value(
    table: str | None, field: str | None, level: Any, column: str, size: str = "L"
) -> float | None:
    """Return the paper's number for a factor's level; None where it gives none.

    Args:
        column: "linear_probe" or "finetune" (top-1 in per cent), "partial" (Figure 9, whose level 0
            is the linear probe), or "hours".
        size: of the model, "B", "L" or "H".
    """
    if table == "table_2":  # which has rows of its own for ViT-H
        level = f"vit_{'h' if size == 'H' else 'l'}_{level}"
    # an evaluation may stand in several columns of the paper, the first that has a number counts
    row = paper_row(table, field, level)
    kinds = {each.name: each.cls.paper_columns for each in list_components("evaluation")}
    found = (row.get(name) for name in kinds.get(column) or (column,))
    return next((number for number in found if number is not None), None)
