"""Looks: how the interval of each row shrank from look to look until the row was decided."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from mae_ablation.registry import metrics_of
from mae_ablation.report.drawing import save_figure
from mae_ablation.report.sequential import Decision, decide, format_decision, repeated_interval
from mae_ablation.report.standing import Standing
from mae_ablation.study.plan import Plan
from mae_ablation.study.seeds import Sequential

ACROSS = 4
"""Rows of the table side by side."""

LOOKS_PANEL = (2.4, 2.0)
"""Inches of a row's panel."""

PANEL_TITLE_WIDTH = 34  # characters over a panel

PALETTE = {"different": 0, "no_difference": 2, "undecided": 7}
"""Places in the palette by state; a row that the test images hide is drawn as undecided."""


def draw_every_look(plan: Plan, stands: Standing, folder: Path) -> dict[str, list[Path]]:
    """Draw the looks of a study at each evaluation that has a complete one.

    Returns the files by metric ("linear_probe_acc1"); none of a study of fixed seeds.
    """
    rows, drawn = [*plan.rows, *plan.references], {}
    several = len(plan.study.factors) > 1
    for column in plan.study.columns if plan.study.grows else ():
        mine = {n: row for n, row in stands.rows.items() if column in row.decisions}
        if not any(row.decisions[column].seeds for row in mine.values()):
            continue
        names = {
            n: f"{rows[n].factor.name} {rows[n].label}"
            if several and rows[n].factor
            else rows[n].label
            for n in mine
        }
        differences = {names[n]: row.differences[column] for n, row in mine.items()}
        drawn[next(iter(metrics_of(column)))] = draw_looks(
            differences,
            plan.study.declared,
            plan.study.seeds,
            folder,
            f"looks_{column}",
            hidden={names[n] for n in mine if stands.is_hidden(n, column)},
        )
    return drawn


def draw_looks(
    differences: Mapping[str, Mapping[int, float]],
    declared: Sequential,
    seeds: Sequence[int],
    folder: Path,
    stem: str,
    *,
    hidden: frozenset[str] | set[str] = frozenset(),
) -> list[Path]:
    """Draw one column's rows, an axis each: intervals over seeds, zero, the margin.

    The first arguments are those of `decide`. A decided row ends with the look that decided it.
    Writes `STEM.png`, `.svg` and `.pdf` into the folder and returns their paths.

    Args:
        hidden: rows that the test images do not let be called no different.
    """
    sns.set_theme(style="ticks", context="paper")
    decisions = decide(differences, declared, seeds)
    across = min(ACROSS, len(decisions))
    down = -(-len(decisions) // across)
    size = (LOOKS_PANEL[0] * across, LOOKS_PANEL[1] * down)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for axis, (name, found) in zip(axes.flat, decisions.items(), strict=False):
        row = np.array([differences[name].get(seed, np.nan) for seed in seeds])
        draw_row(axis, name, row, found, declared, hidden=name in hidden)
    for axis in axes.flat[len(decisions) :]:
        axis.set_axis_off()
    figure.supxlabel("seeds", size="small")
    figure.supylabel("difference to the baseline (points)", size="small")
    return save_figure(figure, folder, stem)


def draw_row(
    axis, name: str, row: np.ndarray, found: Decision, declared: Sequential, *, hidden: bool = False
) -> None:
    """Draw one row: at each look up to its decision the interval that all looks allow."""
    place = PALETTE["undecided" if hidden else found.state]
    color = sns.color_palette("colorblind")[place]
    axis.axhline(0, color="0.3", linewidth=0.8)
    if declared.margin is not None:
        axis.axhspan(-declared.margin, declared.margin, color="0.92", zorder=0)

    # Each look has the level that decides it: of one-sided tests where there is no difference.
    sides = 1 if found.state == "no_difference" else 2
    for look, n in enumerate(declared.looks):
        if n > found.seeds:
            break
        low, high = repeated_interval(row, look, declared, found.alpha, sides)
        axis.plot([n, n], [low, high], color=color, solid_capstyle="butt", linewidth=2)
        axis.plot(n, row[:n].mean(), "o", color=color, markersize=4)
    said = format_decision(found, declared, hidden=hidden)
    axis.set_title(f"{name}\n{textwrap.fill(said, PANEL_TITLE_WIDTH)}", size="small")
    axis.set_xticks(declared.looks)
    axis.margins(x=0.1)
    sns.despine(ax=axis)
