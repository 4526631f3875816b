"""The results frame: one line per table row, measured quantity and seed, read from the store."""

from collections.abc import Sequence

import pandas as pd

from mae_ablation.report.choice import Choice, choose_try
from mae_ablation.report.metrics import (
    HOURS,
    LOSS,
    evaluation_of,
    is_accuracy,
    list_metrics,
    quantity_of,
)
from mae_ablation.report.readings import Readings, phases_behind, shown_result
from mae_ablation.report.standing import Standing, find_standing
from mae_ablation.study.plan import Plan, Row

RESULT_COLUMNS = [
    "row", "factor", "level", "kind", "metric", "seed", "status", "value", "validation_acc1",
    "chosen", "pretrain_loss", "pretrain_seconds", "images_per_s", "device", "lanes", "threads",
    "workers", "seconds", "commit", "attempts", "trial_id", "reason",
]  # fmt: skip
HOUR_S = 3600


def results_frame(plan: Plan, readings: Readings | None = None) -> pd.DataFrame:
    """Return all rows of a plan with what was measured, one line per row, quantity and seed.

    Accuracies are per cent of the test split after the last epoch. `status` is "finished", "failed"
    (with its reason) or "missing"; only finished lines carry numbers. `chosen` says what was
    selected on validation, where anything was; `tuned`, of studies that tune, says it for a table,
    and until the search is finished the lines are missing. A level that is the same training as an
    earlier one has its trial_id. Of a study that takes seeds until rows are decided, a row has
    those of its last complete look.
    """
    readings, records = readings or Readings(plan.store), []
    stands = find_standing(plan, readings) if plan.study.grows else None
    for metric in list_metrics(plan):
        column = evaluation_of(metric)
        for number, row in enumerate([*plan.rows, *plan.references]):
            # references have some of the evaluations, and no pre-training
            trial = row.tries[0].some
            has_column = any(phase.column == column for phase in trial.phases)
            if has_column if is_accuracy(metric) else trial.source == "pretrain":
                choice = choose_try(plan, row, column, readings)
                records += [
                    _record(plan, row, metric, seed, number, readings, choice)
                    for seed in _seeds_shown(plan, stands, number, row, column, readings)
                ]
    return pd.DataFrame(records, columns=RESULT_COLUMNS + ["tuned"] * (plan.study.tune is not None))


def count_tests(results: pd.DataFrame, metric: str) -> int:
    """Count the tests of a quantity's table: a row that is not finished is one, too, and a level
    that is the baseline's own training is none."""
    mine = results[results["metric"] == metric]
    trainings = mine.groupby("row")["trial_id"].agg(tuple)
    baseline = trainings[mine.loc[mine["kind"] == "baseline", "row"].iloc[0]]
    return int((trainings != baseline).sum())


def _seeds_shown(
    plan: Plan, stands: Standing | None, number: int, row: Row, column: str, readings: Readings
) -> Sequence[int]:
    """Return the seeds whose results a row shows; `stands`: of a study that grows."""
    if stands is None:
        return plan.study.seeds

    # those beyond the last complete look are not shown, unless one of them failed
    few, many = stands.count_seeds(number, column)
    shown, more = plan.study.seeds[:few], plan.study.seeds[few:many]
    failures = (readings.find_failure(phases_behind(row.trials[seed], column)) for seed in more)
    return (*shown, *more) if any(failures) else shown


def _record(
    plan: Plan, row: Row, metric: str, seed: int, number: int, readings: Readings, choice: Choice
) -> dict:
    """Make one line of the frame."""
    trial, column = choice.best.trials[seed], evaluation_of(metric)
    phases = phases_behind(trial, column)
    results = [readings.read_result(phase) for phase in phases]
    baseline = "baseline" if row.is_baseline else "level"
    out = {
        "row": number,
        "factor": row.factor.name if row.factor else None,
        "level": row.label,
        "kind": "reference" if number >= len(plan.rows) else baseline,
        "metric": metric,
        "seed": seed,
        "trial_id": phases[-1].identity,
        "tuned": choice.as_cell(),
    }

    # nothing to show yet
    if choice.unfinished:
        return {**out, "status": "missing", "reason": choice.unfinished}
    if not all(results):
        failure = readings.find_failure(phases)
        status = "failed" if failure else "missing"
        return {**out, "status": status, "reason": failure["reason"] if failure else None}

    # what was measured, and on what
    done = dict(zip((phase.kind for phase in phases), results, strict=True))
    pretrained = done.get("pretrain", {})
    out |= {name: pretrained.get(name) for name in ("images_per_s", "lanes", "threads")}
    out |= {
        "status": "finished",
        "pretrain_loss": pretrained.get("train_loss"),
        "pretrain_seconds": pretrained.get("seconds"),
        "device": pretrained.get("processor", pretrained.get("device")),
        "workers": pretrained.get("workers", 1) if pretrained else None,
        "seconds": sum(result["seconds"] for result in results),
        "commit": results[-1]["commit"],
        "attempts": max(result.get("attempts", 1) for result in results),
    }
    if metric == LOSS:
        return {**out, "value": pretrained["train_loss"]}
    if metric == HOURS:
        return {**out, "value": pretrained["seconds"] / HOUR_S}

    # of several evaluations that were tried the one that validation chose
    phase, result = shown_result(trial, column, readings)
    several = sum(p.column == column for p in phases) > 1
    chosen = [choice.as_setting(), f"{result['epochs']} epochs" if several else None]
    return {
        **out,
        "value": result[f"test_{quantity_of(metric).number}"],
        "validation_acc1": result.get("validation_acc1"),
        "chosen": "; ".join(filter(None, chosen)) or None,
        "trial_id": phase.identity,
    }
