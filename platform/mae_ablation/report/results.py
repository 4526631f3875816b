"""Results frame: one line per table row, measured quantity and seed, read from the store."""

import pandas as pd

from mae_ablation.study.plan import Plan, Row
from mae_ablation.study.trial import Phase, Trial

COLUMNS = [
    "row",
    "factor",
    "level",
    "kind",
    "metric",
    "seed",
    "status",
    "value",
    "validation_acc1",
    "chosen",
    "pretrain_loss",
    "pretrain_seconds",
    "images_per_s",
    "device",
    "lanes",
    "threads",
    "seconds",
    "commit",
    "trial_id",
    "reason",
]
LOSS, HOURS = "pretrain_loss", "pretrain_hours"
SECONDS_PER_HOUR = 3600


def metrics_of(plan: Plan) -> list[str]:
    """What the table is about: an accuracy per evaluation, the loss where there is none, or hours
    of pre-training where the study measures those."""
    if plan.study.measure == "hours":
        return [HOURS]
    return [f"{column}_acc1" for column in plan.study.columns] or [LOSS]


def column_of(metric: str) -> str:
    """ "linear_probe_acc1" -> "linear_probe", "pretrain_hours" -> "hours"."""
    return metric.removesuffix("_acc1").removeprefix("pretrain_")


def results_frame(plan: Plan) -> pd.DataFrame:
    """All rows of a plan with what was measured (accuracies: per cent, test split, last epoch).

    `status` is "finished", "failed" (with its reason) or "missing"; only finished ones carry
    numbers. `chosen` says what was selected on validation, where anything was. A level that is the
    same training as an earlier one has the same trial_id.
    """
    records = [
        record(plan, row, metric, seed, i)
        for metric in metrics_of(plan)
        for i, row in enumerate([*plan.rows, *plan.references])
        for seed in plan.study.seeds
        if measurable(row.trials[seed], metric)
    ]
    return pd.DataFrame(records, columns=COLUMNS)


def measurable(trial: Trial, metric: str) -> bool:
    """A reference has some of the evaluations only, and no pre-training."""
    if metric in (LOSS, HOURS):
        return trial.source == "pretrain"
    return any(phase.column == column_of(metric) for phase in trial.phases)


def phases_behind(trial: Trial, metric: str) -> list[Phase]:
    """Phases that have to be finished for a value, pre-training first."""
    return [p for p in trial.phases if p.kind == "pretrain" or p.column == column_of(metric)]


def record(plan: Plan, row: Row, metric: str, seed: int, i: int) -> dict:
    """One line of the frame."""
    trial = row.trials[seed]
    phases = phases_behind(trial, metric)
    folders = [phase.folder(plan.store) for phase in phases]
    results = [folder.result() for folder in folders]
    out = {
        "row": i,
        "factor": row.factor.name if row.factor else None,
        "level": row.label,
        "kind": "reference"
        if row in plan.references
        else "baseline"
        if row.is_baseline
        else "level",
        "metric": metric,
        "seed": seed,
        "trial_id": phases[-1].identity,
    }
    if not all(results):
        failure = next((why for folder in folders if (why := folder.failure())), None)
        status = "failed" if failure else "missing"
        return {**out, "status": status, "reason": failure["reason"] if failure else None}
    done = dict(zip((phase.kind for phase in phases), results, strict=True))
    pretrained = done.get("pretrain", {})
    out |= {
        "status": "finished",
        "pretrain_loss": pretrained.get("train_loss"),
        "pretrain_seconds": pretrained.get("seconds"),
        "images_per_s": pretrained.get("images_per_s"),
        "device": pretrained.get("processor", pretrained.get("device")),
        "lanes": pretrained.get("lanes"),
        "threads": pretrained.get("threads"),
        "seconds": sum(result["seconds"] for result in results),
        "commit": results[-1]["commit"],
    }
    if metric == LOSS:
        return {**out, "value": pretrained["train_loss"]}
    if metric == HOURS:
        return {**out, "value": pretrained["seconds"] / SECONDS_PER_HOUR}
    phase, result = plan.chosen(trial, column_of(metric))
    several = sum(p.column == phase.column for p in phases) > 1
    return {
        **out,
        "value": result["test_acc1"],
        "validation_acc1": result["validation_acc1"],
        "chosen": f"{result['epochs']} epochs" if several else None,
        "trial_id": phase.identity,
    }
