"""Results frame: one line per table row, measured quantity and seed, read from the store."""

from collections.abc import Sequence

import pandas as pd

from mae_ablation.report.choice import Choice, choose, phases_behind
from mae_ablation.report.readings import Readings
from mae_ablation.report.standing import Standing, standing
from mae_ablation.study.plan import Plan, Row, best
from mae_ablation.study.trial import Trial

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
    "workers",
    "seconds",
    "commit",
    "attempts",
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


def results_frame(plan: Plan, readings: Readings | None = None) -> pd.DataFrame:
    """All rows of a plan with what was measured (accuracies: per cent, test split, last epoch).

    `status` is "finished", "failed" (with its reason) or "missing"; only finished ones carry
    numbers. `chosen` says what was selected on validation, where anything was. A level that is the
    same training as an earlier one has the same trial_id. Where the study tunes, the lines are of
    the chosen values (report/choice.py); until the search is finished they are missing.
    `tuned`, only there where the study tunes, says it for a table. Of a study that takes seeds
    until rows are decided, a row has those of its last complete look (`seeds_asked_of`).
    """
    readings = readings or Readings(plan.store)
    stands = standing(plan, readings) if plan.study.grows else None
    records = [
        record(plan, row, metric, seed, i, readings, choice)
        for metric in metrics_of(plan)
        for i, row in enumerate([*plan.rows, *plan.references])
        if measurable(row.tries[0].some, metric)
        for choice in [choose(plan, row, column_of(metric), readings)]
        for seed in seeds_asked_of(plan, stands, i, row, column_of(metric), readings)
    ]
    return pd.DataFrame(records, columns=COLUMNS + ["tuned"] * (plan.study.tune is not None))


def seeds_asked_of(
    plan: Plan, stands: Standing | None, number: int, row: Row, column: str, readings: Readings
) -> Sequence[int]:
    """Seeds whose results a row shows.

    `stands`: of a study that grows. Seeds beyond a look that is not complete are not shown, unless
    one of them failed.
    """
    if stands is None:
        return plan.study.seeds
    shown = plan.study.seeds[: stands.seeds_shown(number, column)]
    more = plan.study.seeds[len(shown) : stands.seeds_under_way(number, column)]
    failures = (readings.failure(phases_behind(row.trials[seed], column)) for seed in more)
    return (*shown, *more) if any(failures) else shown


def measurable(trial: Trial, metric: str) -> bool:
    """A reference has some of the evaluations only, and no pre-training."""
    if metric in (LOSS, HOURS):
        return trial.source == "pretrain"
    return any(phase.column == column_of(metric) for phase in trial.phases)


def record(
    plan: Plan, row: Row, metric: str, seed: int, i: int, readings: Readings, choice: Choice
) -> dict:
    """One line of the frame."""
    phases = phases_behind(choice.best.trials[seed], column_of(metric))
    results = [readings.of(phase) for phase in phases]
    out = {
        "row": i,
        "factor": row.factor.name if row.factor else None,
        "level": row.label,
        "kind": "reference" if i >= len(plan.rows) else "baseline" if row.is_baseline else "level",
        "metric": metric,
        "seed": seed,
        "trial_id": phases[-1].identity,
        "tuned": choice.told,
    }
    if choice.unfinished:
        return {**out, "status": "missing", "reason": choice.unfinished}
    if not all(results):
        failure = readings.failure(phases)
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
        "workers": pretrained.get("workers", 1) if pretrained else None,
        "seconds": sum(result["seconds"] for result in results),
        "commit": results[-1]["commit"],
        "attempts": max(result.get("attempts", 1) for result in results),
    }
    if metric == LOSS:
        return {**out, "value": pretrained["train_loss"]}
    if metric == HOURS:
        return {**out, "value": pretrained["seconds"] / SECONDS_PER_HOUR}
    pairs = zip(phases, results, strict=True)
    phase, result = best([pair for pair in pairs if pair[0].column == column_of(metric)])
    several = sum(p.column == phase.column for p in phases) > 1
    chosen = [choice.words, f"{result['epochs']} epochs" if several else None]
    return {
        **out,
        "value": result["test_acc1"],
        "validation_acc1": result["validation_acc1"],
        "chosen": "; ".join(filter(None, chosen)) or None,
        "trial_id": phase.identity,
    }
