"""Table: levels with mean, spread over seeds, difference to the baseline and the paper's value."""

import pandas as pd

from mae_ablation.report.choice import UNFINISHED
from mae_ablation.report.results import HOURS, LOSS, column_of, metrics_of
from mae_ablation.report.verdict import interval, verdict
from mae_ablation.study.cost import pretrain_flops
from mae_ablation.study.paper import paper_row, paper_value
from mae_ablation.study.plan import Plan, Row
from mae_ablation.study.presets import size_of
from mae_ablation.study.recipe import Recipe

STAND_IN = "stand-in tokeniser, in-domain"


def table_frame(plan: Plan, results: pd.DataFrame) -> pd.DataFrame:
    """One line per measured quantity and row of the plan.

    Columns: metric, factor, level, kind, kept_patches, epochs (of pre-training), flops (of a
    pre-training image, over the baseline's), training (FLOPs of the whole pre-training, likewise),
    mean, sd (n - 1; empty for one seed), seeds (finished), seeds_asked, failed, difference and
    difference_sd (paired by seed, to the baseline, over the seeds both have), low and high (95 %
    interval of the difference), conditions (of measured hours), speedup and paper_speedup (hours
    only), paper, paper_difference, verdict, note, tuned (only where the study tunes).
    """
    lines = []
    for metric in metrics_of(plan):
        mine = results[results["metric"] == metric]
        by_row = {i: rows.set_index("seed") for i, rows in mine.groupby("row")}
        baseline = next(i for i, row in enumerate(plan.rows) if row.is_baseline)
        rows = [*plan.rows, *plan.references]
        lines += [
            line(plan, metric, rows[i], by_row[i], rows[baseline], by_row[baseline])
            for i in sorted(by_row)
        ]
    return pd.DataFrame(lines)


def line(
    plan: Plan, metric: str, row: Row, mine: pd.DataFrame, base: Row, theirs: pd.DataFrame
) -> dict:
    """One row of the table; `mine` and `theirs` are the row's and the baseline's results."""
    values, baseline = mine["value"].astype(float), theirs["value"].astype(float)
    paired = (values - baseline).dropna()
    ours = interval(paired)
    paper, paper_base = paper_of(plan, metric, row), paper_of(plan, metric, base)
    compared = not row.is_baseline and paper is not None and paper_base is not None
    apart = round(paper - paper_base, 1) if compared else None
    accuracy = metric not in (LOSS, HOURS)
    complete = bool(values.notna().all() and baseline.notna().all())
    comparable = plan.study.budget == "epochs" and not (row.recipe.stand_in or base.recipe.stand_in)
    reference = row in plan.references
    timed = metric == HOURS and conditions(mine) == conditions(theirs)
    return {
        "metric": metric,
        "factor": mine["factor"].iloc[0],
        "level": row.label,
        "kind": mine["kind"].iloc[0],
        "kept_patches": None if reference else row.recipe.kept_patches,
        "epochs": None if reference else row.recipe.pretrain.epochs,
        "flops": None if reference else flops_ratio(plan, row.recipe),
        "training": None if reference else training_ratio(plan, row.recipe),
        "mean": values.mean(),
        "sd": values.std(),
        "seeds": int(values.notna().sum()),
        "seeds_asked": len(mine),
        "failed": int((mine["status"] == "failed").sum()),
        "difference": None if row.is_baseline else ours.mean,
        "difference_sd": None if row.is_baseline else paired.std(),
        "low": None if row.is_baseline else ours.low,
        "high": None if row.is_baseline else ours.high,
        "conditions": conditions(mine) if metric == HOURS else "",
        "speedup": baseline.mean() / values.mean() if timed else None,
        "paper_speedup": paper_base / paper if metric == HOURS and paper and paper_base else None,
        "paper": paper,
        "paper_difference": apart,
        "verdict": verdict(ours, apart, complete=complete, comparable=comparable)
        if accuracy
        else "",
        "note": note(plan, row, mine, reference),
        **({"tuned": mine["tuned"].iloc[0]} if plan.study.tune else {}),
    }


def paper_of(plan: Plan, metric: str, row: Row) -> float | None:
    """The paper's number for a row, of ViT-H where that is the model and the paper has it."""
    if row.level is None or metric == LOSS:
        return None
    size = size_of(row.recipe.model.encoder_width, row.recipe.model.encoder_depth)
    return paper_value(plan.study.paper, row.factor.field, row.level.value, column_of(metric), size)


def flops_ratio(plan: Plan, recipe: Recipe) -> float:
    """FLOPs of a pre-training image over the baseline's."""
    channels = plan.data.channels
    return pretrain_flops(recipe, channels) / pretrain_flops(plan.study.baseline, channels)


def training_ratio(plan: Plan, recipe: Recipe) -> float:
    """FLOPs of the whole pre-training over the baseline's."""
    epochs = recipe.pretrain.epochs / plan.study.baseline.pretrain.epochs
    return epochs * flops_ratio(plan, recipe)


def conditions(mine: pd.DataFrame) -> str:
    """Under what times were measured: device, lanes side by side, workers and threads of each."""
    done = mine[mine["status"] == "finished"]
    names = ["device", "lanes", "workers", "threads"]
    found = {condition(*values) for values in done[names].itertuples(index=False)}
    return "; ".join(sorted(found))


def condition(device: str, lanes: float, workers: float, threads: float) -> str:
    if workers == 1:
        return f"{device}; lanes x threads: {lanes:.0f} x {threads:.0f}"
    return f"{device}; lanes x workers x threads: {lanes:.0f} x {workers:.0f} x {threads:.0f}"


def note(plan: Plan, row: Row, mine: pd.DataFrame, reference: bool) -> str:
    """What a reader has to know of a row."""
    notes = ["baseline"] if row.is_baseline else ["no pre-training"] if reference else []
    if not reference and row.recipe.stand_in:
        notes.append(STAND_IN)
    if not reference and row.recipe.pretrain.target == "pca":
        channels = plan.data.channels
        values = row.recipe.model.patch_size**2 * channels
        notes.append(f"{row.recipe.pca_components(channels)} of {values} coefficients")
    if row.same_as:
        notes.append(f"same training as {row.same_as}{row.why_same()}")
    jitter = not reference and row.recipe.pretrain.augmentation == "crop_jitter"
    if jitter and plan.data.channels == 1:
        notes.append("grey images: brightness and contrast only")
    printed = paper_row(plan.study.paper, row.factor.field, row.level.value) if row.level else {}
    if "flops_ratio" in printed:
        notes.append(f"paper: {printed['flops_ratio']:g}x the FLOPs")
    if chosen := sorted(set(mine["chosen"].dropna())):
        notes.append(f"{', '.join(chosen)}, chosen on validation")
    finished, failed = (mine["status"] == "finished").sum(), (mine["status"] == "failed").sum()
    if finished < len(mine):
        notes.append(f"{finished} of {len(mine)} seeds" + (f", {failed} failed" if failed else ""))
        notes += sorted({r for r in mine["reason"].dropna() if r.startswith(UNFINISHED)})
    return "; ".join(notes)
