"""Results frame: one row per table row and seed, read from the store."""

import pandas as pd

from mae_ablation.study.plan import Plan, Row

COLUMNS = [
    "row",
    "factor",
    "level",
    "kind",
    "seed",
    "status",
    "linear_probe_acc1",
    "validation_acc1",
    "pretrain_loss",
    "seconds",
    "commit",
    "trial_id",
    "reason",
]


def results_frame(plan: Plan) -> pd.DataFrame:
    """All rows of a plan with their accuracies (per cent, test split, last epoch).

    `status` is "finished", "failed" (with its reason) or "missing"; only finished trials carry
    numbers. A level that is the same training as an earlier one has the same trial_id.
    """
    records = [
        record(plan, row, seed, i)
        for i, row in enumerate([*plan.rows, *plan.references])
        for seed in plan.study.seeds
    ]
    return pd.DataFrame(records, columns=COLUMNS)


def record(plan: Plan, row: Row, seed: int, i: int) -> dict:
    """One row of the frame."""
    trial = row.trials[seed]
    folders = {phase.kind: phase.folder(plan.store) for phase in trial.phases}
    results = {kind: folder.result() for kind, folder in folders.items()}
    failure = next((why for f in folders.values() if (why := f.failure())), None)
    out = {
        "row": i,
        "factor": row.factor.name if row.factor else None,
        "level": row.label,
        "kind": "reference"
        if row in plan.references
        else "baseline"
        if row.is_baseline
        else "level",
        "seed": seed,
        "trial_id": trial.result_id,
    }
    if not all(results.values()):
        status = "failed" if failure else "missing"
        return {**out, "status": status, "reason": failure["reason"] if failure else None}
    probe, pretrained = results.get("linear_probe", {}), results.get("pretrain", {})
    return {
        **out,
        "status": "finished",
        "linear_probe_acc1": probe.get("test_acc1"),
        "validation_acc1": probe.get("validation_acc1"),
        "pretrain_loss": pretrained.get("train_loss"),
        "seconds": sum(result["seconds"] for result in results.values()),
        "commit": (probe or pretrained)["commit"],
    }
