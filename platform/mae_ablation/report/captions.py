"""What stands beneath the figures of a page: only what each of them shows."""

import pandas as pd

from mae_ablation.study.plan import Plan

LOOKS_TITLE = "Looks"


def looks_caption(plan: Plan) -> str:
    """What is drawn of the looks of a study."""
    margin = plan.study.declared.margin
    band = "" if margin is None else f" Band: the declared margin of ±{margin:g} points."
    return (
        f"Difference of each row to the baseline at each look until the row is decided, with the "
        f"interval that holds over all looks and rows together.{band}"
    )


def figure_caption(table: pd.DataFrame) -> str:
    """What is drawn of a study's levels."""
    levels = table[table["kind"] != "reference"]
    several = bool((levels["seeds"] > 1).any())
    said = ["Means over seeds with 95 % t intervals, every seed a dot" if several else "One seed"]
    if levels["paper"].notna().any():
        said.append("the paper's values on an axis of their own")
    if (levels["factor"].notna() & (levels["kind"] == "baseline")).any():
        said.append("dotted: the baseline")
    if table.loc[table["kind"] == "reference", "mean"].notna().any():
        said.append("dash-dotted: rows without pre-training")
    return "; ".join(said) + "."


def curves_caption(plan: Plan) -> str:
    """What the training curves are, and what may be compared in them."""
    several = len(plan.study.seeds) > 1
    lines = "Thick: mean over seeds; thin: every seed." if several else "One seed."
    return (
        f"{lines} Losses of different targets or masking ratios are not of the same thing: their "
        f"shapes may be compared, not their heights."
    )
