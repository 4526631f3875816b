"""Figure: our curve with its spread over seeds, and the paper's on an axis of its own."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no screen is needed

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from mae_ablation.report.table import metric_of
from mae_ablation.study.plan import Plan

OURS, PAPER, REFERENCE = sns.color_palette("colorblind")[0], "0.35", "0.55"
AXES = {"linear_probe_acc1": "linear probe, test top-1 (%)", "pretrain_loss": "pre-training loss"}


def draw(plan: Plan, table: pd.DataFrame, results: pd.DataFrame, folder: Path) -> list[Path]:
    """Write `figure.png` and `figure.svg`, one panel per factor. Returns their paths."""
    sns.set_theme(style="ticks", context="notebook")
    factors = plan.study.factors
    figure, axes = plt.subplots(
        1, len(factors), figsize=(7.2 * len(factors), 4.6), squeeze=False, layout="constrained"
    )
    for factor, axis in zip(factors, axes[0], strict=True):
        panel(plan, factor.name, axis, table, results)
    study = plan.study
    seeds = f"{len(study.seeds)} seed" + "s" * (len(study.seeds) > 1)
    data = study.baseline.data.name
    figure.suptitle(f"{study.title}: {study.recipe_name} recipe, {data}, {seeds}")
    paths = [folder / "figure.png", folder / "figure.svg"]
    plt.rcParams["svg.hashsalt"] = "mae-ablation"  # the same picture is the same file
    figure.savefig(paths[0], dpi=150)
    figure.savefig(paths[1], metadata={"Date": None})
    plt.close(figure)
    return paths


def panel(plan: Plan, factor: str, axis, table: pd.DataFrame, results: pd.DataFrame) -> None:
    """One factor: mean and band of one standard deviation, every seed a dot, the paper dashed."""
    metric = metric_of(plan)
    rows = table[table["factor"] == factor]
    mine = results[results["factor"] == factor].dropna(subset=[metric])
    x = {label: _x(label) for label in rows["level"]}
    if any(value is None for value in x.values()):
        x = {label: i for i, label in enumerate(rows["level"])}
        axis.set_xticks(list(x.values()), list(x))
    positions = rows["level"].map(x)
    axis.plot(positions, rows["mean"], color=OURS, marker="o", label="ours")
    axis.fill_between(
        positions, rows["mean"] - rows["sd"], rows["mean"] + rows["sd"], color=OURS, alpha=0.2
    )
    axis.scatter(mine["level"].map(x), mine[metric].astype(float), s=14, color=OURS, alpha=0.6)
    for label in rows.loc[rows["kind"] == "baseline", "level"]:
        axis.axvline(x[label], color=OURS, linewidth=1, linestyle=":", label="baseline")
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
    axis.set(xlabel=factor.replace("_", " "), ylabel=AXES[metric])
    axis.yaxis.label.set_color(OURS)
    handles, labels = axis.get_legend_handles_labels()
    paper = rows.dropna(subset=["paper"])
    if len(paper):
        right = axis.twinx()
        right.plot(
            paper["level"].map(x), paper["paper"], color=PAPER, marker="s", ls="--", label="paper"
        )
        right.set_ylabel("paper: ViT-L/16, ImageNet-1K (%)", color=PAPER)
        extra, names = right.get_legend_handles_labels()
        handles, labels = handles + extra, labels + names
    axis.legend(
        handles,
        labels,
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=len(labels),
    )
    axis.margins(y=0.15)


def _x(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None
