"""Figure: our levels with intervals of their means, and the paper's on an axis of its own."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.collections import PathCollection
from matplotlib.patheffects import withStroke
from scipy import stats

from mae_ablation.report import vector
from mae_ablation.report.heatmap import crossed, heatmap
from mae_ablation.report.results import HOURS, LOSS, metrics_of
from mae_ablation.report.summary import some
from mae_ablation.study.factors import Factor
from mae_ablation.study.plan import Plan
from mae_ablation.study.values import format_value

OURS, PAPER, REFERENCE = sns.color_palette("colorblind")[0], "0.35", "0.45"
AXES = {
    "linear_probe_acc1": "linear probe, test top-1 (%)",
    "knn_acc1": "k-NN, test top-1 (%)",
    "finetune_acc1": "fine-tuning, test top-1 (%)",
    "partial_acc1": "partial fine-tuning, test top-1 (%)",
    LOSS: "pre-training loss",
    HOURS: "pre-training (hours)",
}
CONFIDENCE = 0.95  # of the interval of a level's mean, Student's t over its seeds
PANEL = (7.2, 4.6)  # inches
TITLE_WIDTH = 55  # characters of the title over one panel
LABEL_WIDTH = 14  # characters of a named level in a line
SIDE_BY_SIDE = 12  # named levels; the names of more stand upright
INCHES_PER_SIGN = 0.09  # of a small upright name
WIDE = 4  # times the lowest level: less is as clear on a linear axis
EVEN = 1.35  # the largest step between neighbours over the smallest, of levels that are geometric
LINES = 3  # of a name beneath its level; longer names stand upright, too
NAMED = 30  # named levels a panel has room for
MARKED = 100  # levels on a line that are worth a marker each
VECTORS = 2000  # dots; more are a picture within figure.svg
AIR = 2  # points beyond 0 and 100 %, for what lies there
BESIDE = 0.12  # of the room of a named level: its seeds stand beside its mean
CLOSE = 0.08  # of the height: what a reference's name covers
NAME_WEIGHT = 100  # points: another name is never written over
END = 0.3  # of the width: as much
HALO = withStroke(linewidth=3, foreground="white")


def draw(plan: Plan, table: pd.DataFrame, results: pd.DataFrame, folder: Path) -> list[Path]:
    """Write `figure.png`, `figure.svg` and `figure.pdf`: a panel per factor and measured quantity.

    A grid of two factors has a heat map beside them. Returns their paths.
    """
    sns.set_theme(style="ticks", context="notebook")
    factors, metrics = plan.study.factors, metrics_of(plan)
    grid = crossed(plan.study)
    rows, columns = len(metrics), len(factors) + bool(grid)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(PANEL[0] * columns, (PANEL[1] + max(map(room_for_names, factors))) * rows),
        squeeze=False,
        layout="constrained",
    )
    for metric, line in zip(metrics, axes, strict=True):
        mine, measured = (frame[frame["metric"] == metric] for frame in (table, results))
        for factor, axis in zip(factors, line, strict=False):
            panel(factor, metric, axis, mine, measured)
        if grid:
            heatmap(grid, line[-1], mine, AXES[metric])
    figure.suptitle(title(plan, TITLE_WIDTH * columns))
    return vector.save(figure, folder)


def title(plan: Plan, width: int) -> str:
    """The study's question, and beneath it what it was asked of. `width`: characters of a line."""
    study = plan.study
    seeds = f"{len(study.seeds)} seed" + "s" * (len(study.seeds) > 1)
    seeds = f"{study.declared.looks[0]} to {seeds}" if study.grows else seeds
    details = f"{study.recipe_name} recipe, {study.baseline.data.name}, {seeds}"
    return "\n".join(textwrap.fill(line, width) for line in (study.title, details))


def panel(factor: Factor, metric: str, axis, table: pd.DataFrame, results: pd.DataFrame) -> None:
    """One factor: mean and its 95 % interval, every seed a dot, the paper dashed.

    Levels that are numbers stand at their values and are joined; named ones stand side by side,
    and where they are too many, the axis says which are shown. One seed has no interval.
    """
    rows = table[table["factor"] == factor.name]
    x, ordered = positions(factor)
    left_out = ""
    if not ordered:
        x, left_out = those_with_room(x, rows)
        name_levels(axis, factor, x)
        rows = rows[rows["level"].isin(x)]
    mine = results[(results["factor"] == factor.name) & results["level"].isin(x)]
    mine = mine.dropna(subset=["value"])
    if waiting := [*rows.loc[rows["mean"].isna(), "level"]]:
        left_out += f"\nwithout a result, so not drawn: {some(waiting, 5)}"
    at, half = places(rows, x), half_widths(rows)
    few = len(rows) <= MARKED
    style = {"color": OURS, "marker": "o" if few else "", "ls": "-" if ordered else ""}
    name = "ours" + (", 95 % interval" if half.notna().any() else "")
    if few:
        bars = {"capsize": 4, "elinewidth": 1.2, "zorder": 3}
        axis.errorbar(at, rows["mean"], yerr=half.fillna(0), label=name, **style, **bars)
    else:
        axis.plot(at, rows["mean"], label=name, **style)
        between = rows["mean"] - half, rows["mean"] + half
        axis.fill_between(at, *between, color=OURS, alpha=0.2, linewidth=0)
    dots = {"s": 14, "color": OURS, "alpha": 0.6, "rasterized": len(mine) > VECTORS}
    beside = 0 if ordered else BESIDE
    values = mine["value"].astype(float)
    axis.scatter(places(mine, x) + beside, values, label="each seed", **dots)
    for label in rows.loc[rows["kind"] == "baseline", "level"]:
        axis.axvline(x[label], color=OURS, linewidth=1, linestyle=":", label="baseline")
    axis.set(xlabel=axis_label(factor, ordered) + left_out, ylabel=AXES[metric])
    axis.yaxis.label.set_color(OURS)
    if ordered and is_geometric(list(x.values())):
        logarithmic(axis, factor, x)
    else:
        air = 0.05 * (max(x.values()) - min(x.values()) or 1) if ordered else 0.6
        axis.set_xlim(min(x.values()) - air, max(x.values()) + air)
    known = table[table["kind"] == "reference"].dropna(subset=["mean"])
    limits(axis, [*values, *rows["mean"].dropna(), *known["mean"]], rows["mean"], half)
    if metric not in (LOSS, HOURS):  # an interval may be wider than accuracies go
        bottom, top = axis.get_ylim()
        axis.set_ylim(max(bottom, -AIR), min(top, 100 + AIR))
    right = paper(axis, rows, x, ordered, metric)
    references(axis, right, known)
    legend(axis, right)


def places(rows: pd.DataFrame, x: dict[str, float]) -> pd.Series:
    """Where the rows' levels stand."""
    return rows["level"].map(x).astype(float)


def half_widths(rows: pd.DataFrame) -> pd.Series:
    """Half of the 95 % t interval of each mean over its seeds; NaN with fewer than two."""
    n = rows["seeds"].where(rows["seeds"] > 1)
    return stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * rows["sd"] / n**0.5


def limits(axis, values: list[float], means: pd.Series, half: pd.Series) -> None:
    """Room for every dot and line, and for intervals as far as that again: two seeds may have one
    many times as wide as all levels lie apart."""
    if not values:
        axis.set_yticks([])
        return
    low, high = min(values), max(values)
    apart = (high - low) or abs(high) / 100 or 1.0
    ends = (means - half).min(), (means + half).max()
    low = max(min(low, ends[0]), low - apart) if pd.notna(ends[0]) else low
    high = min(max(high, ends[1]), high + apart) if pd.notna(ends[1]) else high
    air = 0.1 * (high - low or apart)
    axis.set_ylim(low - air, high + air)


def axis_label(factor: Factor, ordered: bool) -> str:
    """The factor; where its levels stand at the paper's values, what they are here."""
    name = factor.name.replace("_", " ")
    if crossing := factor.levels[0].coordinates:
        return ", ".join(factor_name.replace("_", " ") for factor_name, _ in crossing)
    if ordered and any(level.here for level in factor.levels):
        here = some([level.here or format_value(level.value) for level in factor.levels])
        return f"{name} (the paper's; here {here})"
    return name


def those_with_room(x: dict[str, float], rows: pd.DataFrame) -> tuple[dict[str, float], str]:
    """Named levels that a panel shows, side by side, and what to say of the others: where they are
    too many, the baseline and both ends of the means."""
    if len(x) <= NAMED:
        return x, ""
    means = rows.sort_values("mean", ascending=False, kind="stable")
    ends = [*means["level"][: NAMED // 2], *means["level"][-NAMED // 2 :]]
    shown = {*ends, *rows.loc[rows["kind"] == "baseline", "level"]}
    told = f"\n{len(shown)} of {len(x)} levels: highest and lowest means, baseline; all: table.md"
    return {label: i for i, label in enumerate(name for name in x if name in shown)}, told


def positions(factor: Factor) -> tuple[dict[str, float], bool]:
    """Where each level stands, by its label, and whether that is its value."""
    values = [level.value for level in factor.levels]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    places = values if numbers else range(len(values))
    return {level.label: p for level, p in zip(factor.levels, places, strict=True)}, numbers


def is_geometric(values: Sequence[float]) -> bool:
    """Whether levels grow by about the same factor, and far: 1e-3, 3e-3, 1e-2 and 3e-2 stand
    evenly on a logarithmic axis, and crowded at one end of a linear one."""
    values = sorted(values)
    if len(values) < 3 or values[0] <= 0 or values[-1] < WIDE * values[0]:
        return False
    steps = [b / a for a, b in zip(values, values[1:], strict=False)]
    return max(steps) <= EVEN * min(steps)


def logarithmic(axis, factor: Factor, x: dict[str, float]) -> None:
    """A logarithmic axis whose ticks are the levels."""
    low, high = min(x.values()), max(x.values())
    air = (high / low) ** 0.05
    axis.set_xscale("log")
    axis.set_xlim(low / air, high * air)
    axis.minorticks_off()
    if len(x) <= SIDE_BY_SIDE:
        axis.set_xticks(list(x.values()), [format_value(level.value) for level in factor.levels])


def name_levels(axis, factor: Factor, x: dict[str, float]) -> None:
    """Names beneath the levels, over several lines; upright where they are many or long."""
    names = [short_names(factor)[label] for label in x]
    turned = upright(names)
    shown = [name.replace("_", " ") if turned else wrapped(name) for name in names]
    size = "small" if len(x) > LABEL_WIDTH // 2 else "medium"
    axis.set_xticks(list(x.values()), shown, rotation=90 if turned else 0, fontsize=size)


def short_names(factor: Factor) -> dict[str, str]:
    """By label what stands at the axis: of crossed factors, which the axis names, the values."""
    return {
        level.label: ", ".join(format_value(v) for _, v in level.coordinates) or level.label
        for level in factor.levels
    }


def upright(names: Sequence[str]) -> bool:
    """Whether names are too many or too long to lie."""
    long = any(wrapped(name).count("\n") >= LINES for name in names)
    return len(names) > SIDE_BY_SIDE or (long and len(names) > LINES)


def room_for_names(factor: Factor) -> float:
    """Inches that upright names take from a panel."""
    names = list(short_names(factor).values())
    if positions(factor)[1] or not upright(names):
        return 0.0
    return INCHES_PER_SIGN * max(map(len, names))


def wrapped(label: str) -> str:
    """A level's name over several lines."""
    words = label.replace("_", " ")
    return "\n".join(textwrap.wrap(words, LABEL_WIDTH, break_on_hyphens=False))


def references(axis, right, known: pd.DataFrame) -> None:
    """Rows without pre-training, as lines across, named where the fewest points are."""
    taken = [xy for each in (axis, right) if each is not None for xy in points(each)]
    for label, mean in known[["level", "mean"]].itertuples(index=False):
        axis.axhline(mean, color=REFERENCE, linewidth=1, linestyle="-.", zorder=1)
        height = axis.transAxes.inverted().transform(axis.transData.transform((0, mean)))[1]
        near = [x for x, y in taken if -CLOSE / 3 <= y - height <= CLOSE]
        right_end = sum(x < END for x in near) > sum(x > 1 - END for x in near)
        covered = (0.9 if right_end else 0.1, height)
        taken += [covered, (covered[0], height + CLOSE * 0.9)] * NAME_WEIGHT
        (right or axis).annotate(
            label,
            (0.99 if right_end else 0.01, height),
            xycoords="axes fraction",
            ha="right" if right_end else "left",
            va="bottom",
            fontsize="small",
            color=REFERENCE,
            path_effects=[HALO],
        )


def points(axis) -> list[tuple[float, float]]:
    """Every dot and marker of an axis, as shares of its width and height."""
    marked = [line for line in axis.lines if line.get_marker() not in ("", "None", None)]
    drawn = [line.get_xydata() for line in marked if len(line.get_xdata())]
    drawn += [dots.get_offsets() for dots in axis.collections if isinstance(dots, PathCollection)]
    shares = axis.transData + axis.transAxes.inverted()
    return [
        tuple(xy)
        for part in drawn
        for xy in shares.transform(np.ma.filled(part, np.nan))
        if np.isfinite(xy).all()
    ]


def paper(axis, rows: pd.DataFrame, x: dict[str, float], ordered: bool, metric: str):
    """The paper's values on the right; returns that axis, None where it has none."""
    given = rows.dropna(subset=["paper"])
    if not len(given):
        return None
    right = axis.twinx()
    right.plot(
        places(given, x) - (0 if ordered else BESIDE),
        given["paper"],
        color=PAPER,
        marker="s",
        markerfacecolor="white",
        ls="--" if ordered else "",
        label="paper",
    )
    unit = "hours, 128 TPU-v3 cores" if metric == HOURS else "ViT-L/16, ImageNet-1K (%)"
    right.set_ylabel(f"paper: {unit}", color=PAPER)
    right.margins(y=0.15)
    return right


def legend(axis, right) -> None:
    """One legend for both axes, above: beneath, level names may take several lines."""
    handles, labels = axis.get_legend_handles_labels()
    if right is not None:
        extra, names = right.get_legend_handles_labels()
        handles, labels = handles + extra, labels + names
    both = sorted(zip(handles, labels, strict=True), key=lambda pair: place_of(pair[1]))
    handles, labels = zip(*both, strict=True)
    axis.legend(
        handles,
        labels,
        frameon=False,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(labels),
        fontsize="small",
        columnspacing=1.2,
    )


def place_of(name: str) -> int:
    """In the legend."""
    return ("ours", "each seed", "baseline", "paper").index(name.split(",")[0])
