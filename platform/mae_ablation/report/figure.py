"""Figure: our levels with their spread over seeds, and the paper's on an axis of its own."""

import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no screen is needed

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from mae_ablation.report.results import HOURS, LOSS, metrics_of
from mae_ablation.store import atomic
from mae_ablation.study.plan import Plan
from mae_ablation.study.study import Factor
from mae_ablation.summary import some

OURS, PAPER, REFERENCE = sns.color_palette("colorblind")[0], "0.35", "0.55"
AXES = {
    "linear_probe_acc1": "linear probe, test top-1 (%)",
    "knn_acc1": "k-NN, test top-1 (%)",
    "finetune_acc1": "fine-tuning, test top-1 (%)",
    "partial_acc1": "partial fine-tuning, test top-1 (%)",
    LOSS: "pre-training loss",
    HOURS: "pre-training (hours)",
}
PANEL = (7.2, 4.6)  # inches
LABEL_WIDTH = 14  # characters of a named level in a line
SIDE_BY_SIDE = 12  # named levels; the names of more stand upright
NAMED = 30  # named levels a panel has room for
MARKED = 100  # levels on a line that are worth a marker each
VECTORS = 2000  # dots; more are a picture within figure.svg


def draw(plan: Plan, table: pd.DataFrame, results: pd.DataFrame, folder: Path) -> list[Path]:
    """Write `figure.png` and `figure.svg`: a panel per factor and measured quantity.

    Returns their paths.
    """
    sns.set_theme(style="ticks", context="notebook")
    factors, metrics = plan.study.factors, metrics_of(plan)
    rows, columns = len(metrics), len(factors)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(PANEL[0] * columns, PANEL[1] * rows),
        squeeze=False,
        layout="constrained",
    )
    for metric, line in zip(metrics, axes, strict=True):
        mine, measured = (frame[frame["metric"] == metric] for frame in (table, results))
        for factor, axis in zip(factors, line, strict=True):
            panel(factor, metric, axis, mine, measured)
    study = plan.study
    seeds = f"{len(study.seeds)} seed" + "s" * (len(study.seeds) > 1)
    data = study.baseline.data.name
    figure.suptitle(f"{study.title}: {study.recipe_name} recipe, {data}, {seeds}")
    paths = [folder / "figure.png", folder / "figure.svg"]
    plt.rcParams["svg.hashsalt"] = "mae-ablation"  # the same picture is the same file
    for path, how in zip(paths, ({}, {"metadata": {"Date": None}}), strict=True):
        with atomic.replacing(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=150, **how)
    plt.close(figure)
    return paths


def panel(factor: Factor, metric: str, axis, table: pd.DataFrame, results: pd.DataFrame) -> None:
    """One factor: mean and one standard deviation, every seed a dot, the paper dashed.

    Levels that are numbers stand at their values and are joined; named ones stand side by side,
    and where they are too many, the axis says which are shown.
    """
    rows = table[table["factor"] == factor.name]
    x, ordered = positions(factor)
    left_out = ""
    if not ordered:
        x, left_out = those_with_room(x, rows)
        few = len(x) <= SIDE_BY_SIDE
        names = [wrapped(name) if few else name for name in x]
        axis.set_xticks(list(x.values()), names, rotation=0 if few else 90)
        rows = rows[rows["level"].isin(x)]
    mine = results[(results["factor"] == factor.name) & results["level"].isin(x)]
    mine = mine.dropna(subset=["value"])
    at = rows["level"].map(x)
    style = {"color": OURS, "marker": "o" if len(rows) <= MARKED else "", "label": "ours"}
    if ordered:
        axis.plot(at, rows["mean"], **style)
        spread = rows["mean"] - rows["sd"], rows["mean"] + rows["sd"]
        axis.fill_between(at, *spread, color=OURS, alpha=0.2)
    else:
        axis.errorbar(at, rows["mean"], yerr=rows["sd"].fillna(0), ls="", capsize=4, **style)
    dots = {"s": 14, "color": OURS, "alpha": 0.6, "rasterized": len(mine) > VECTORS}
    axis.scatter(mine["level"].map(x), mine["value"].astype(float), **dots)
    for label in rows.loc[rows["kind"] == "baseline", "level"]:
        axis.axvline(x[label], color=OURS, linewidth=1, linestyle=":", label="baseline")
    references(axis, table)
    axis.set(xlabel=axis_label(factor, ordered) + left_out, ylabel=AXES[metric])
    axis.yaxis.label.set_color(OURS)
    legend(axis, paper(axis, rows, x, ordered, metric))
    axis.margins(x=0.05 if ordered else 0.15, y=0.15)


def axis_label(factor: Factor, ordered: bool) -> str:
    """The factor; where its levels stand at the paper's values, what they are here."""
    name = factor.name.replace("_", " ")
    if ordered and any(level.here for level in factor.levels):
        here = some([level.here or str(level.value) for level in factor.levels])
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


def wrapped(label: str) -> str:
    """A level's name over several lines."""
    words = label.replace("_", " ")
    return "\n".join(textwrap.wrap(words, LABEL_WIDTH, break_on_hyphens=False))


def references(axis, table: pd.DataFrame) -> None:
    """Rows without pre-training, as lines across."""
    for _, line in table[table["kind"] == "reference"].dropna(subset=["mean"]).iterrows():
        axis.axhline(line["mean"], color=REFERENCE, linewidth=1, linestyle="-.")
        axis.annotate(
            line["level"],
            (0.01, line["mean"]),
            xycoords=("axes fraction", "data"),
            va="bottom",
            fontsize="small",
            color=REFERENCE,
        )


def paper(axis, rows: pd.DataFrame, x: dict[str, float], ordered: bool, metric: str):
    """The paper's values on the right; returns that axis, None where it has none."""
    given = rows.dropna(subset=["paper"])
    if not len(given):
        return None
    right = axis.twinx()
    line = "--" if ordered else ""
    right.plot(
        given["level"].map(x), given["paper"], color=PAPER, marker="s", ls=line, label="paper"
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
    axis.legend(
        handles,
        labels,
        frameon=False,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(labels),
    )
