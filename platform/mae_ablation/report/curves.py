"""Training curves: every seed thin, the mean over seeds on top, a colour per level."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from mae_ablation.registry import list_components
from mae_ablation.report.drawing import figure_as_svg
from mae_ablation.report.findings import is_ordered
from mae_ablation.report.metrics import list_metrics
from mae_ablation.report.readings import trials_behind
from mae_ablation.study.plan import Plan, Row
from mae_ablation.study.trial import Trial

MOST_CURVES = 12  # levels of a factor; of more, evenly chosen ones
POINTS = 150  # of a curve; of more, evenly chosen ones
CURVES_PANEL = (6.4, 3.8)  # inches
DASHES = ("-", "--", "-.", ":")


class Curve(NamedTuple):
    """One quantity along one training."""

    level: str
    epochs: tuple[float, ...]
    values: tuple[float, ...]


def logged_quantities() -> dict[str, tuple[str, str]]:
    """Look up, by kind of phase, the quantity that its journal has, and the label of its axis."""
    found = {"pretrain": ("loss", "pre-training loss")}
    for each in list_components("evaluation"):
        if each.cls.has_curve:
            title = each.cls.title or each.name
            label = f"{title[0].lower()}{title[1:]}, validation top-1 (%)"
            found[each.name] = ("validation_acc1", label)
    return found


def curves_svg(plan: Plan, results: pd.DataFrame) -> str | None:
    """Draw a panel per factor and quantity, as SVG; None where no journal has anything."""
    # the trials behind the table's cells
    metrics, found, quantities = list_metrics(plan), {}, logged_quantities()
    factors = plan.study.factors
    for kind in quantities:
        metric = f"{kind}_acc1" if f"{kind}_acc1" in metrics else metrics[0]
        for factor in factors:
            found[kind, factor.name] = [
                curve
                for row in rows_with_curves(plan, factor.name)
                for trial in trials_behind(plan, results, metric, plan.rows.index(row)).values()
                if (curve := read_curve(plan, row.label, trial, kind))
            ]
    kinds = [kind for kind in quantities if any(found[kind, f.name] for f in factors)]
    if not kinds:
        return None

    # a line of panels for each quantity; legends stand on the right, where no curve runs
    sns.set_theme(style="ticks", context="notebook")
    size = ((CURVES_PANEL[0] + 1.4) * len(factors), CURVES_PANEL[1] * len(kinds))
    figure, axes = plt.subplots(
        len(kinds), len(factors), figsize=size, squeeze=False, layout="constrained"
    )
    base = next(row.label for row in plan.rows if row.is_baseline)
    place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False}
    for kind, line in zip(kinds, axes, strict=True):
        for factor, axis in zip(factors, line, strict=True):
            _draw_curves(axis, found[kind, factor.name], is_ordered(factor), base)
            axis.set(xlabel="epoch", ylabel=quantities[kind][1])
            if axis.get_legend_handles_labels()[0]:
                title = factor.name.replace("_", " ")
                axis.legend(title=title, fontsize="small", title_fontsize="small", **place)
    return figure_as_svg(figure)


def rows_with_curves(plan: Plan, factor: str) -> list[Row]:
    """List the rows whose curves are drawn, the baseline among them; no training is drawn twice."""
    rows = [row for row in plan.rows if row.factor is None or row.factor.name == factor]
    rows = [row for row in rows if not row.same_as or row.is_baseline]
    if len(rows) <= MOST_CURVES:
        return rows
    chosen = set(np.linspace(0, len(rows) - 1, MOST_CURVES).round().astype(int))
    return [row for i, row in enumerate(rows) if i in chosen or row.is_baseline]


def read_curve(plan: Plan, level: str, trial: Trial, kind: str) -> Curve | None:
    """Read a phase's quantity from its journal; None where it has nothing."""
    phase = next((phase for phase in trial.phases if phase.kind == kind), None)
    if phase is None:
        return None
    name = f"{phase.prefix}/{logged_quantities()[kind][0]}"
    points = {
        row["m"].get(f"{phase.prefix}/epoch", row["s"]): row["m"][name]
        for row in phase.folder(plan.store).journal.read()
        if row["m"].get(name) is not None
    }
    epochs = thin_out(sorted(points))
    values = tuple(points[epoch] for epoch in epochs)
    return Curve(level, epochs, values) if points else None


def thin_out(epochs: Sequence[float]) -> tuple[float, ...]:
    """Choose some of many points, the first and the last among them."""
    if len(epochs) <= POINTS:
        return tuple(epochs)
    chosen = np.unique(np.linspace(0, len(epochs) - 1, POINTS).round().astype(int))
    return tuple(epochs[i] for i in chosen)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Average over seeds at the epochs that all of them have."""
    frame = pd.DataFrame([dict(zip(c.epochs, c.values, strict=True)) for c in curves])
    means = frame.dropna(axis="columns").mean().sort_index()
    return Curve(curves[0].level, tuple(means.index), tuple(means))


def _draw_curves(axis, curves: Sequence[Curve], ordered: bool, baseline: str) -> None:
    """Draw one factor's levels; numbers in order run from dark to light."""
    # names have the colours of a colour-blind palette, and dashes, too, for grey print
    levels = list(dict.fromkeys(curve.level for curve in curves))
    colours = sns.color_palette(*(("viridis", len(levels)) if ordered else ("colorblind", 10)))
    for i, level in enumerate(levels):
        mine = [curve for curve in curves if curve.level == level]
        dash = "-" if ordered else DASHES[i % len(DASHES)]
        style = {"color": colours[i % len(colours)], "linestyle": dash}
        for curve in mine:
            axis.plot(curve.epochs, curve.values, linewidth=0.6, alpha=0.5, **style)

        # the mean over seeds, the baseline's the thickest
        mean, is_base = mean_curve(mine), baseline == level
        name = f"{level} (baseline)" if is_base and level != "baseline" else level
        marker = "o" if len(mean.epochs) == 1 else None
        width = 3.0 if is_base else 1.8
        axis.plot(mean.epochs, mean.values, linewidth=width, marker=marker, label=name, **style)
