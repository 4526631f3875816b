"""Figure: our levels with intervals of their means, and the paper's on an axis of its own."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from mae_ablation.report.drawing import save_figure
from mae_ablation.report.findings import is_ordered
from mae_ablation.report.metrics import HOURS, is_accuracy, list_metrics, quantity_of
from mae_ablation.report.paired import ALPHA, half_width
from mae_ablation.report.wording import count_noun, list_names
from mae_ablation.study.factors import Factor
from mae_ablation.study.plan import Plan
from mae_ablation.study.study import Study
from mae_ablation.study.values import are_numbers, format_value

LEGEND = ("ours", "each seed", "baseline", "paper")
OURS, PAPER, REFERENCE = sns.color_palette("colorblind")[0], "0.35", "0.45"
FIGURE_PANEL = (7.2, 4.6)  # inches
TITLE_WIDTH = 55  # characters of the title over one panel
LABEL_WIDTH = 14  # characters of a named level in a line
MOST_LYING = 12  # named levels; the names of more stand upright
INCHES_PER_SIGN = 0.09  # of a small upright name
WIDE_RANGE = 4  # times the lowest level: less is as clear on a linear axis
EVEN = 1.35  # the largest step between neighbours over the smallest, of levels that are geometric
LABEL_LINES = 3  # of a name beneath its level; longer names stand upright, too
MOST_NAMED = 30  # named levels a panel has room for
AIR = 2  # points beyond 0 and 100 %, for what lies there
SEEDS_BESIDE = 0.12  # of the room of a named level: its seeds stand beside its mean
NAME_PLACES = (0.01, 0.99, 0.2, 0.4, 0.6)  # of the width: where a reference's name may stand
ROUND_A_DOT = 0.02  # of the width and height: what a dot takes
HALO = withStroke(linewidth=3, foreground="white")
HEAT = "cividis"  # its lightness alone tells the order: for colour blindness and grey print
CROWDED = 8  # levels of a factor; the numbers of more are small


def draw_figure(plan: Plan, table: pd.DataFrame, results: pd.DataFrame, folder: Path) -> list[Path]:
    """Write `figure.png`, `figure.svg` and `figure.pdf`: a panel per factor and measured quantity.

    A grid of two factors has a heat map beside them. Returns their paths.
    """
    # a line of panels for each quantity
    sns.set_theme(style="ticks", context="notebook")
    study, factors, metrics = plan.study, plan.study.factors, list_metrics(plan)
    grid = find_grid(study)
    columns = len(factors) + (grid is not None)
    upright = [name_levels(factor) for factor in factors if not is_ordered(factor)]
    longest = max(
        (len(n) for names, turned in upright if turned for n in names.values()), default=0
    )
    height = FIGURE_PANEL[1] + INCHES_PER_SIGN * longest
    size = (FIGURE_PANEL[0] * columns, height * len(metrics))
    figure, axes = plt.subplots(
        len(metrics), columns, figsize=size, squeeze=False, layout="constrained"
    )
    for metric, line in zip(metrics, axes, strict=True):
        mine, measured = (frame[frame["metric"] == metric] for frame in (table, results))
        for factor, axis in zip(factors, line, strict=False):
            draw_panel(factor, metric, axis, mine, measured)
        if grid is not None:
            draw_heatmap(grid, line[-1], mine, quantity_of(metric).axis)

    # the study's question, and beneath it what it was asked of
    seeds = count_noun(len(study.seeds), "seed")
    seeds = f"{study.declared.looks[0]} to {seeds}" if study.grows else seeds
    details = f"{study.recipe_name} recipe, {study.baseline.data.name}, {seeds}"
    lines = (textwrap.fill(line, TITLE_WIDTH * columns) for line in (study.title, details))
    figure.suptitle("\n".join(lines))
    return save_figure(figure, folder)


def draw_panel(
    factor: Factor, metric: str, axis, table: pd.DataFrame, results: pd.DataFrame
) -> None:
    """Draw one factor: mean and its 95 % interval, every seed a dot, the paper dashed."""
    # Levels that are numbers stand at their values and are joined; named ones stand side by side,
    # and where they are too many, the axis says which are shown.
    rows = table[table["factor"] == factor.name]
    x, ordered = level_positions(factor), is_ordered(factor)
    left_out = ""
    if not ordered:
        x, left_out = choose_named_levels(x, rows)
        names, upright = name_levels(factor)
        size = "small" if len(x) > LABEL_WIDTH // 2 else "medium"
        turn = {"rotation": 90 if upright else 0, "fontsize": size}
        axis.set_xticks(list(x.values()), [names[label] for label in x], **turn)
        rows = rows[rows["level"].isin(x)]
    mine = results[(results["factor"] == factor.name) & results["level"].isin(x)]
    mine = mine.dropna(subset=["value"])
    if waiting := [*rows.loc[rows["mean"].isna(), "level"]]:
        left_out += f"\nwithout a result, so not drawn: {list_names(waiting, 5)}"

    # means with their intervals, which one seed does not have, and every seed
    half = pd.Series(half_width(rows["sd"], rows["seeds"], ALPHA), rows.index)
    half = half.where(rows["sd"] > 0, rows["sd"])
    at, values, bar = _places(rows, x), mine["value"].astype(float), half.fillna(0)
    style = {"color": OURS, "marker": "o", "ls": "-" if ordered else "", "zorder": 3}
    name = "ours" + (", 95 % interval" if half.notna().any() else "")
    axis.errorbar(at, rows["mean"], bar, label=name, capsize=4, elinewidth=1.2, **style)
    beside = 0 if ordered else SEEDS_BESIDE
    dots = {"s": 14, "color": OURS, "alpha": 0.6}
    axis.scatter(_places(mine, x) + beside, values, label="each seed", **dots)
    for label in rows.loc[rows["kind"] == "baseline", "level"]:
        axis.axvline(x[label], color=OURS, linewidth=1, linestyle=":", label="baseline")

    # the axes; an interval may be wider than accuracies go
    axis.set(xlabel=_axis_label(factor, ordered) + left_out, ylabel=quantity_of(metric).axis)
    axis.yaxis.label.set_color(OURS)
    first, last = min(x.values()), max(x.values())
    if ordered and is_geometric(list(x.values())):
        air = (last / first) ** 0.05
        axis.set_xscale("log")
        axis.set_xlim(first / air, last * air)
        axis.minorticks_off()
        if len(x) <= MOST_LYING:
            axis.set_xticks(list(x.values()), [format_value(each.value) for each in factor.levels])
    else:
        air = 0.05 * (last - first or 1) if ordered else 0.6
        axis.set_xlim(first - air, last + air)
    known = table[table["kind"] == "reference"].dropna(subset=["mean"])
    _set_limits(axis, [*values, *rows["mean"].dropna(), *known["mean"]], rows["mean"], half)
    if is_accuracy(metric):
        bottom, top = axis.get_ylim()
        axis.set_ylim(max(bottom, -AIR), min(top, 100 + AIR))

    # beside our levels the paper's, on an axis of its own, and the references
    right, given = None, rows.dropna(subset=["paper"])
    if len(given):
        right = axis.twinx()
        style = {"color": PAPER, "marker": "s", "markerfacecolor": "white", "label": "paper"}
        style["ls"] = "--" if ordered else ""
        right.plot(_places(given, x) - beside, given["paper"], **style)
        unit = "hours, 128 TPU-v3 cores" if metric == HOURS else "ViT-L/16, ImageNet-1K (%)"
        right.set_ylabel(f"paper: {unit}", color=PAPER)
        right.margins(y=0.15)
    ends = [(at, rows["mean"] + side * bar) for side in (0, -1, 1)]
    drawn = [(axis, *each) for each in (*ends, (_places(mine, x) + beside, values))]
    drawn += [(right, _places(given, x) - beside, given["paper"].astype(float))] * len(given[:1])
    dots = [each.transData.transform(np.column_stack(points)) for each, *points in drawn]
    _draw_references(axis, np.concatenate(dots), known)

    # one legend for both axes, above: beneath, level names may take several lines
    drawn = [each.get_legend_handles_labels() for each in (axis, right) if each is not None]
    both = [pair for handles, labels in drawn for pair in zip(handles, labels, strict=True)]
    both = sorted(both, key=lambda pair: LEGEND.index(pair[1].split(",")[0]))
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": len(both)}
    axis.legend(
        *zip(*both, strict=True), frameon=False, fontsize="small", columnspacing=1.2, **place
    )


def _places(rows: pd.DataFrame, x: dict[str, float]) -> pd.Series:
    return rows["level"].map(x).astype(float)


def _set_limits(axis, values: list[float], means: pd.Series, half: pd.Series) -> None:
    """Make room for every dot and line, and for a part of intervals that are too wide."""
    # two seeds may have an interval many times as wide as all levels lie apart
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


def _axis_label(factor: Factor, ordered: bool) -> str:
    """Name the factor; where its levels stand at the paper's values, say what they are here."""
    crossing = [name for name, _ in factor.levels[0].coordinates] or [factor.name]
    name = ", ".join(crossing).replace("_", " ")
    if ordered and any(level.here for level in factor.levels):
        here = list_names([level.here or format_value(level.value) for level in factor.levels])
        return f"{name} (the paper's; here {here})"
    return name


def level_positions(factor: Factor) -> dict[str, float]:
    """Return where each level stands, by its label: at its value, or in the study's order."""
    values = [level.value for level in factor.levels]
    places = values if is_ordered(factor) else range(len(values))
    return {level.label: p for level, p in zip(factor.levels, places, strict=True)}


def choose_named_levels(x: dict[str, float], rows: pd.DataFrame) -> tuple[dict[str, float], str]:
    """Choose the named levels that a panel has room for, and say which they are."""
    # where they are too many, the baseline and both ends of the means
    if len(x) <= MOST_NAMED:
        return x, ""
    means = rows.sort_values("mean", ascending=False, kind="stable")
    ends = [*means["level"][: MOST_NAMED // 2], *means["level"][-MOST_NAMED // 2 :]]
    shown = {*ends, *rows.loc[rows["kind"] == "baseline", "level"]}
    said = f"\n{len(shown)} of {len(x)} levels: highest and lowest means, baseline; all: table.md"
    return {label: i for i, label in enumerate(name for name in x if name in shown)}, said


def is_geometric(values: Sequence[float]) -> bool:
    """Say whether levels grow by about the same factor, and far, as 1e-3, 3e-3, 1e-2 and 3e-2."""
    values = np.sort(np.asarray(values, float))
    if len(values) < 3 or values[0] <= 0 or values[-1] < WIDE_RANGE * values[0]:
        return False
    steps = values[1:] / values[:-1]
    return bool(steps.max() <= EVEN * steps.min())


def name_levels(factor: Factor) -> tuple[dict[str, str], bool]:
    """Return by label what stands at the axis, and whether it is upright as it is long or many."""
    # of crossed factors, which the axis names, the values
    names = {
        level.label: ", ".join(format_value(v) for _, v in level.coordinates) or level.label
        for level in factor.levels
    }
    names = {label: name.replace("_", " ") for label, name in names.items()}
    lines = {
        label: "\n".join(textwrap.wrap(name, LABEL_WIDTH, break_on_hyphens=False))
        for label, name in names.items()
    }
    long = any(text.count("\n") >= LABEL_LINES for text in lines.values())
    upright = len(names) > MOST_LYING or (long and len(names) > LABEL_LINES)
    return (names, True) if upright else (lines, False)


def _draw_references(axis, dots: np.ndarray, known: pd.DataFrame) -> None:
    """Draw rows without pre-training as lines across, named where they hide the fewest dots."""
    to_shares, names = axis.transAxes.inverted(), []
    dots = to_shares.transform(dots[np.isfinite(dots).all(1)])

    def count_covered(box: tuple[float, ...]) -> tuple[int, int]:
        left, low, right, high = box
        over = sum(left < r and lo < high and le < right and low < hi for le, lo, r, hi in names)
        inside = (dots > (left - ROUND_A_DOT, low - ROUND_A_DOT)).all(1)
        inside &= (dots < (right + ROUND_A_DOT, high + ROUND_A_DOT)).all(1)
        return over, int(inside.sum())

    for label, mean in known[["level", "mean"]].itertuples(index=False):
        # names lie beneath the means, which they would hide otherwise
        axis.axhline(mean, color=REFERENCE, linewidth=1, linestyle="-.", zorder=1)
        height = to_shares.transform(axis.transData.transform((0, mean)))[1]
        style = {"fontsize": "small", "color": REFERENCE, "path_effects": [HALO], "zorder": 1.5}
        name = axis.text(0, 0, label, transform=axis.transAxes, va="bottom", **style)

        # of all places along the line, above it and beneath, the one that covers the least
        box = name.get_window_extent(axis.figure.canvas.get_renderer())
        wide, tall = to_shares.transform(box.max) - to_shares.transform(box.min)
        inside = [y for y in (height, height - tall) if y >= 0 and y + tall <= 1]
        places = [(x, y) for y in inside for x in NAME_PLACES] or [(NAME_PLACES[0], height)]
        boxes = {
            (x, y): (x - wide, y, x, y + tall) if x > 0.9 else (x, y, x + wide, y + tall)
            for x, y in places
        }
        best = min(boxes, key=lambda place: count_covered(boxes[place]))
        name.set(position=best, horizontalalignment="right" if best[0] > 0.9 else "left")
        names.append(boxes[best])


# the heat map -------------------------------------------------------------------------------------


def find_grid(study: Study) -> pd.DataFrame | None:
    """Lay out the labels of two crossed factors, the first one's values across; None of others."""
    if study.design != "grid" or len(study.factors) != 1:
        return None
    levels = [level for level in study.factors[0].levels if len(level.coordinates) == 2]
    names = {tuple(name for name, _ in level.coordinates) for level in levels}
    if len(names) != 1:
        return None

    # in the study's order, unless what was excluded has put other numbers first
    labels = {tuple(value for _, value in level.coordinates): level.label for level in levels}
    across, down = (list(dict.fromkeys(values)) for values in zip(*labels, strict=True))
    if len(labels) < len(across) * len(down) and are_numbers(down):
        down.sort()
    grid = pd.DataFrame([[labels.get((a, d)) for a in across] for d in down], down, across)
    grid.columns.name, grid.index.name = names.pop()
    return grid


def draw_heatmap(grid: pd.DataFrame, axis, table: pd.DataFrame, quantity: str) -> None:
    """Draw means as colours and numbers, hatched where there is none; the baseline is framed."""
    rows = table.drop_duplicates("level").set_index("level")
    means = grid.map(rows["mean"].get).astype(float)
    nothing = {} if means.notna().any(axis=None) else {"vmin": 0, "vmax": 1, "cbar": False}
    size = {"fontsize": "small" if max(means.shape) > CROWDED else "medium"}
    ticks = {"xticklabels": [*map(format_value, grid.columns)]}
    ticks["yticklabels"] = [*map(format_value, grid.index)]
    axis.patch.set(facecolor="white", hatch="///", edgecolor="0.8")
    bar = {"label": quantity}
    style = {"annot": True, "fmt": ".2f", "annot_kws": size, "cmap": HEAT, "cbar_kws": bar}
    sns.heatmap(means, ax=axis, **style, **ticks, **nothing)

    # the frame, light around dark, and the names of the factors
    framed = np.argwhere(grid.isin(rows.index[rows["kind"] == "baseline"]).to_numpy())
    for y, x in framed:
        for colour, width in (("white", 4), ("black", 1.5)):
            frame = {"fill": False, "edgecolor": colour, "lw": width}
            axis.add_patch(Rectangle((x + 0.03, y + 0.03), 0.94, 0.94, **frame))
    across, down = (axes.name.replace("_", " ") for axes in (grid.columns, grid.index))
    axis.set(xlabel=across, ylabel=down)
    axis.set_title("means (framed: baseline)" if len(framed) else "means", fontsize="small")
    axis.tick_params(length=0, labelrotation=0)
