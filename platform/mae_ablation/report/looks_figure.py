"""Looks: how the interval of each row shrank from look to look until the row was decided."""

import textwrap
from collections.abc import Collection, Mapping, Sequence
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

ACROSS = 4  # rows of the table side by side
LOOKS_PANEL = (2.4, 2.0)  # inches of a row's panel
PANEL_TITLE_WIDTH = 34  # characters over a panel
# places in the palette by state; a row that the test images hide is drawn as undecided
PALETTE = {"different": 0, "no_difference": 2, "undecided": 7}


def draw_every_look(plan: Plan, stands: Standing, folder: Path) -> dict[str, list[Path]]:
    """Draw a growing study's looks; returns the files by metric ("linear_probe_acc1")."""
    # a factor's name is said where there are several
    rows, drawn = [*plan.rows, *plan.references], {}
    several = len(plan.study.factors) > 1
    names = {
        n: f"{row.factor.name} {row.label}" if several and row.factor else row.label
        for n, row in enumerate(rows)
    }
    for column in plan.study.columns:
        mine = {n: row for n, row in stands.rows.items() if column in row.decisions}
        if any(row.decisions[column].seeds for row in mine.values()):  # of no look no picture
            drawn[next(iter(metrics_of(column)))] = draw_looks(
                {names[n]: row.differences[column] for n, row in mine.items()},
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
    hidden: Collection[str] = (),
) -> list[Path]:
    """Draw one evaluation's rows, an axis each: intervals over seeds, zero, the margin.

    The first arguments are those of `decide`. A decided row ends with the look that decided it.
    Writes `STEM.png`, `.svg` and `.pdf` into the folder and returns their paths.

    Args:
        hidden: rows that the test images do not let be called no different.
    """
    # a grid of panels, the last ones of which may stay empty
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
    color = sns.color_palette("colorblind")[PALETTE["undecided" if hidden else found.state]]
    axis.axhline(0, color="0.3", linewidth=0.8)
    if declared.margin is not None:
        axis.axhspan(-declared.margin, declared.margin, color="0.92", zorder=0)

    # Each look has the level that decides it: of one-sided tests where there is no difference.
    sides = 1 if found.state == "no_difference" else 2
    for look, n in enumerate(declared.looks):
        if n <= found.seeds:
            low, high = repeated_interval(row, look, declared, found.alpha, sides)
            axis.plot([n, n], [low, high], color=color, solid_capstyle="butt", linewidth=2)
            axis.plot(n, row[:n].mean(), "o", color=color, markersize=4)
    said = format_decision(found, declared, hidden=hidden)
    axis.set_title(f"{name}\n{textwrap.fill(said, PANEL_TITLE_WIDTH)}", size="small")
    axis.set_xticks(declared.looks)
    axis.margins(x=0.1)
    sns.despine(ax=axis)
