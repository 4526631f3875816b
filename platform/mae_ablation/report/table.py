"""Table: levels with mean, spread over seeds, difference to the baseline and the paper's value."""

import shlex

import pandas as pd

from mae_ablation.study.paper import paper_value
from mae_ablation.study.plan import Plan, Row

METRIC = {"linear_probe": "linear_probe_acc1", "pretrain": "pretrain_loss"}


def metric_of(plan: Plan) -> str:
    """Column the table is about: probe accuracy, or the loss where no probe was asked for."""
    return METRIC[plan.study.phases[-1]]


def table_frame(plan: Plan, results: pd.DataFrame) -> pd.DataFrame:
    """One line per row of the plan.

    Columns: factor, level, kind, kept_patches, mean, sd (n - 1; empty for one seed), seeds
    (finished), seeds_asked, failed, difference and difference_sd (paired by seed, to the baseline,
    over the seeds both have), paper, paper_difference, note.
    """
    metric = metric_of(plan)
    baseline_row = next(i for i, row in enumerate(plan.rows) if row.is_baseline)
    by_row = {i: rows.set_index("seed") for i, rows in results.groupby("row")}
    baseline = by_row[baseline_row][metric].astype(float)
    paper_baseline = _paper(plan, plan.rows[baseline_row])
    lines = []
    for i, row in enumerate([*plan.rows, *plan.references]):
        mine = by_row[i]
        values = mine[metric].astype(float)
        paired = (values - baseline).dropna()
        paper = _paper(plan, row)
        is_reference = row in plan.references
        lines.append(
            {
                "factor": mine["factor"].iloc[0],
                "level": row.label,
                "kind": mine["kind"].iloc[0],
                "kept_patches": row.level.recipe.kept_patches if row.level else None,
                "mean": values.mean(),
                "sd": values.std(),
                "seeds": int(values.notna().sum()),
                "seeds_asked": len(mine),
                "failed": int((mine["status"] == "failed").sum()),
                "difference": None if row.is_baseline else paired.mean(),
                "difference_sd": None if row.is_baseline else paired.std(),
                "paper": paper,
                "paper_difference": None
                if row.is_baseline or paper is None or paper_baseline is None
                else round(paper - paper_baseline, 1),
                "note": _note(plan, row, mine, is_reference),
            }
        )
    return pd.DataFrame(lines)


def _paper(plan: Plan, row: Row) -> float | None:
    if row.level is None:
        return None
    phase = plan.study.phases[-1]
    return paper_value(plan.study.paper, row.factor.field, row.level.value, phase)


def _note(plan: Plan, row: Row, mine: pd.DataFrame, is_reference: bool) -> str:
    notes = ["baseline"] if row.is_baseline else ["no pre-training"] if is_reference else []
    if row.same_as:
        notes.append(f"same training as {row.same_as}{row.why_same()}")
    finished, failed = (mine["status"] == "finished").sum(), (mine["status"] == "failed").sum()
    if finished < len(mine):
        notes.append(f"{finished} of {len(mine)} seeds" + (f", {failed} failed" if failed else ""))
    return "; ".join(notes)


def markdown(plan: Plan, table: pd.DataFrame, results: pd.DataFrame) -> str:
    """The report's page: caption, table, how it was measured, how to make it again."""
    study = plan.study
    head = ["level", "kept", "mean", "sd", "seeds", "vs baseline", "paper", "paper vs baseline", ""]
    lines = [f"# {study.title}", "", caption(plan, results), ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in table.to_dict("records"):
        bold = "**" if row["kind"] == "baseline" else ""
        kept = f"{row['kept_patches']:.0f}" if _is(row["kept_patches"]) else ""
        cells = [
            f"{bold}{row['level']}{bold}",
            kept,
            _number(row["mean"]),
            _number(row["sd"]),
            f"{row['seeds']}/{row['seeds_asked']}",
            _signed(row["difference"], row["difference_sd"]),
            _number(row["paper"], 1),
            _signed(row["paper_difference"], None, 1),
            row["note"],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *measured(plan), "", f"![{study.title}](figure.png)", ""]
    lines += [f"Made by `{command(plan)}`."]
    return "\n".join(lines) + "\n"


def command(plan: Plan) -> str:
    """The command that makes this table; seeds that are not 0, 1, ... stand in the study."""
    study = plan.study
    words = ["python", "-m", "platform.run", str(study.path), "--recipe", study.recipe_name]
    for change in study.changed:
        words += ["--set", change]
    if study.seeds == tuple(range(len(study.seeds))):
        words += ["--seeds", str(len(study.seeds))]
    return shlex.join(words)


def caption(plan: Plan, results: pd.DataFrame) -> str:
    """Data, recipe, epochs, seeds and commit of a table, in one line."""
    study, recipe = plan.study, plan.study.baseline
    commits = ", ".join(sorted(set(results["commit"].dropna()))) or "none"
    changed = f" with {', '.join(study.changed)}" if study.changed else ""
    seeds = ", ".join(map(str, study.seeds))
    return (
        f"Data {recipe.data.name} ({recipe.data.image_size} px), "
        f"recipe {study.recipe_name}{changed}, {recipe.pretrain.epochs} pre-training epochs, "
        f"seeds {seeds}, commit {commits}."
    )


def measured(plan: Plan) -> list[str]:
    """What the columns mean."""
    recipe, probe = plan.study.baseline, plan.study.baseline.linear_probe
    if "linear_probe" in plan.study.phases:
        what = (
            f"*mean*: top-1 accuracy on the test split in per cent, linear probe after its last "
            f"epoch ({probe.protocol} protocol, {probe.pooling} features, {probe.epochs} epochs)"
        )
    else:
        what = "*mean*: pre-training loss of the last epoch"
    return [
        f"{what}; *sd*: over seeds; *vs baseline*: paired by seed, ± sd; *kept*: patches the "
        f"encoder sees, of {recipe.patches}. *paper*: ViT-L/16 on ImageNet-1K, 800 epochs unless "
        f"the schedule is the factor; compare shapes, not heights. "
        f"{recipe.data.validation_images} images are held out of training for choices; the test "
        "split chooses nothing."
    ]


def _is(value: object) -> bool:
    return value is not None and not pd.isna(value)


def _number(value: float | None, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if _is(value) else "–"


def _signed(value: float | None, spread: float | None, digits: int = 2) -> str:
    if not _is(value):
        return "–"
    return f"{value:+.{digits}f}" + (f" ± {spread:.{digits}f}" if _is(spread) else "")
