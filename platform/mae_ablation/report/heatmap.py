"""Heat map: how two crossed factors act together, a cell per combination of their levels."""

from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from mae_ablation.study.study import Study
from mae_ablation.study.values import format_value

COLOURS = "cividis"  # its lightness alone tells the order: for colour blindness and grey print
DARK = 0.55  # of the colour's range: numbers on darker cells are white
CROWDED = 8  # levels of a factor; the numbers of more are small


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Two factors, their values in the study's order, and the level of each pair of values."""

    names: tuple[str, str]
    across: tuple[Any, ...]
    down: tuple[Any, ...]
    levels: dict[tuple[Any, Any], str]
    """label by the values across and down; pairs that were excluded are absent"""


def crossed(study: Study) -> Grid | None:
    """The grid of a study that crosses exactly two factors; None for any other."""
    if study.design != "grid" or len(study.factors) != 1:
        return None
    levels = [level for level in study.factors[0].levels if len(level.coordinates) == 2]
    names = {tuple(name for name, _ in level.coordinates) for level in levels}
    if len(names) != 1:
        return None
    values = {tuple(value for _, value in level.coordinates): level.label for level in levels}
    across = tuple(dict.fromkeys(a for a, _ in values))
    down = tuple(dict.fromkeys(d for _, d in values))
    if len(values) < len(across) * len(down):  # what was excluded has put others first
        down = in_order(down)
    return Grid(names=names.pop(), across=across, down=down, levels=values)


def in_order(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numbers ascending; names as they are."""
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return tuple(sorted(values)) if numbers else values


def heatmap(grid: Grid, axis, table: pd.DataFrame, quantity: str) -> None:
    """Means as colours and numbers; the baseline is framed, what has no number is hatched."""
    rows = table.drop_duplicates("level").set_index("level")
    means = np.array(
        [[mean_of(rows, grid.levels.get((a, d))) for a in grid.across] for d in grid.down]
    )
    axis.set_facecolor("white")
    axis.patch.set_hatch("///")
    axis.patch.set_edgecolor("0.8")
    image = axis.imshow(np.ma.masked_invalid(means), cmap=COLOURS, aspect="auto")
    size = "small" if max(means.shape) > CROWDED else "medium"
    for (y, x), mean in np.ndenumerate(means):
        if np.isfinite(mean):
            colour = "white" if image.norm(mean) < DARK else "black"
            axis.text(x, y, f"{mean:.2f}", ha="center", va="center", color=colour, fontsize=size)
    framed = False
    for (across, down), label in grid.levels.items():
        if label in rows.index and rows.loc[label, "kind"] == "baseline":
            framed = True
            corner = grid.across.index(across) - 0.47, grid.down.index(down) - 0.47
            axis.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, edgecolor="white", lw=4))
            axis.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, edgecolor="black", lw=1.5))
    axis.set_xticks(range(len(grid.across)), map(format_value, grid.across))
    axis.set_yticks(range(len(grid.down)), map(format_value, grid.down))
    axis.set(xlabel=spaced(grid.names[0]), ylabel=spaced(grid.names[1]))
    axis.set_title("means (framed: baseline)" if framed else "means", fontsize="small")
    axis.tick_params(length=0)
    if np.isfinite(means).any():
        plt.colorbar(image, ax=axis, label=quantity)


def mean_of(rows: pd.DataFrame, label: str | None) -> float:
    return float(rows["mean"].get(label, np.nan)) if label is not None else np.nan


def spaced(name: str) -> str:
    return name.replace("_", " ")
