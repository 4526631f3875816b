"""Training curves: every seed thin, the mean over seeds on top, a colour per level."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from mae_ablation.report import vector
from mae_ablation.report.cells import trials_behind
from mae_ablation.report.figure import positions
from mae_ablation.report.results import metrics_of
from mae_ablation.study.plan import Plan, Row
from mae_ablation.study.trial import Trial

QUANTITIES = {
    "pretrain": ("loss", "pre-training loss"),
    "linear_probe": ("validation_acc1", "linear probe, validation top-1 (%)"),
    "finetune": ("validation_acc1", "fine-tuning, validation top-1 (%)"),
}
"""by kind of phase the journal's quantity, and its words"""

SHOWN = 12  # levels of a factor; of more, evenly chosen ones
POINTS = 150  # of a curve; of more, evenly chosen ones
PANEL = (6.4, 3.8)  # inches
DASHES = ("-", "--", "-.", ":")


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One quantity along one training."""

    level: str
    epochs: tuple[float, ...]
    values: tuple[float, ...]


def curves_svg(plan: Plan, results: pd.DataFrame) -> str | None:
    """A panel per factor and quantity, as SVG; None where no journal has anything."""
    rows = {factor.name: shown(plan, factor.name) for factor in plan.study.factors}
    found = {
        (kind, name): [
            curve
            for row in each
            for trial in trials_of(plan, results, row, kind).values()
            if (curve := curve_of(plan, row.label, trial, kind))
        ]
        for kind in QUANTITIES
        for name, each in rows.items()
    }
    kinds = [kind for kind in QUANTITIES if any(found[kind, name] for name in rows)]
    return draw(plan, kinds, found) if kinds else None


def trials_of(plan: Plan, results: pd.DataFrame, row: Row, kind: str) -> dict[int, Trial]:
    """By seed the trials that a row's curves are of: what its cells show."""
    metrics = metrics_of(plan)
    metric = f"{kind}_acc1" if f"{kind}_acc1" in metrics else metrics[0]
    return trials_behind(plan, results, metric, plan.rows.index(row))


def shown(plan: Plan, factor: str) -> list[Row]:
    """Rows whose curves are drawn, the baseline among them; the same training is one curve."""
    rows = [row for row in plan.rows if row.factor is None or row.factor.name == factor]
    rows = [row for row in rows if not row.same_as or row.is_baseline]
    if len(rows) <= SHOWN:
        return rows
    chosen = set(np.linspace(0, len(rows) - 1, SHOWN).round().astype(int))
    return [row for i, row in enumerate(rows) if i in chosen or row.is_baseline]


def curve_of(plan: Plan, level: str, trial: Trial, kind: str) -> Curve | None:
    """What a phase's journal says of its quantity; None where it says nothing."""
    phase = next((phase for phase in trial.phases if phase.kind == kind), None)
    if phase is None:
        return None
    name = f"{phase.prefix}/{QUANTITIES[kind][0]}"
    points = {
        row["m"].get(f"{phase.prefix}/epoch", row["s"]): row["m"][name]
        for row in phase.folder(plan.store).journal.read()
        if row["m"].get(name) is not None
    }
    if not points:
        return None
    epochs = thinned(sorted(points))
    return Curve(level=level, epochs=epochs, values=tuple(points[epoch] for epoch in epochs))


def thinned(epochs: Sequence[float]) -> tuple[float, ...]:
    """Some of many points, the first and the last among them."""
    if len(epochs) <= POINTS:
        return tuple(epochs)
    chosen = np.unique(np.linspace(0, len(epochs) - 1, POINTS).round().astype(int))
    return tuple(epochs[i] for i in chosen)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean over seeds at the epochs that all of them have."""
    points = [dict(zip(curve.epochs, curve.values, strict=True)) for curve in curves]
    common = sorted(set.intersection(*(set(point) for point in points)))
    means = tuple(float(np.mean([point[epoch] for point in points])) for epoch in common)
    return Curve(level=curves[0].level, epochs=tuple(common), values=means)


def draw(plan: Plan, kinds: list[str], found: dict[tuple[str, str], list[Curve]]) -> str:
    sns.set_theme(style="ticks", context="notebook")
    factors = plan.study.factors
    figure, axes = plt.subplots(
        len(kinds),
        len(factors),
        figsize=((PANEL[0] + 1.4) * len(factors), PANEL[1] * len(kinds)),
        squeeze=False,
        layout="constrained",
    )
    for kind, line in zip(kinds, axes, strict=True):
        for factor, axis in zip(factors, line, strict=True):
            ordered = positions(factor)[1]
            base = next(row.label for row in plan.rows if row.is_baseline)
            panel(axis, found[kind, factor.name], ordered, base)
            axis.set(xlabel="epoch", ylabel=QUANTITIES[kind][1])
            title = factor.name.replace("_", " ")
            if axis.get_legend_handles_labels()[0]:
                axis.legend(
                    title=title,
                    loc="center left",
                    bbox_to_anchor=(1.0, 0.5),
                    frameon=False,
                    fontsize="small",
                    title_fontsize="small",
                )
    return vector.as_svg(figure)


def panel(axis, curves: Sequence[Curve], ordered: bool, baseline: str) -> None:
    """Curves of one factor's levels."""
    levels = list(dict.fromkeys(curve.level for curve in curves))
    for i, level in enumerate(levels):
        mine = [curve for curve in curves if curve.level == level]
        style = {"color": colours(len(levels), ordered)[i], "linestyle": dash(i, ordered)}
        for curve in mine:
            axis.plot(curve.epochs, curve.values, linewidth=0.6, alpha=0.5, **style)
        mean = mean_curve(mine)
        last = baseline == level
        name = f"{level} (baseline)" if last and level != "baseline" else level
        marker = "o" if len(mean.epochs) == 1 else None
        width = 3.0 if last else 1.8
        axis.plot(mean.epochs, mean.values, linewidth=width, marker=marker, label=name, **style)


def colours(count: int, ordered: bool) -> list:
    """From dark to light for numbers in order; else the ten of a colour-blind palette."""
    if ordered:
        return sns.color_palette("viridis", count)
    palette = sns.color_palette("colorblind", 10)
    return [palette[i % 10] for i in range(count)]


def dash(i: int, ordered: bool) -> str:
    """Named levels differ in their dashes, too, for grey print."""
    return "-" if ordered else DASHES[i % len(DASHES)]
