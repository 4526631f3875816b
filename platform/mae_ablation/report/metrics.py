"""The quantities that a table shows: what they are called, and how exact the paper's numbers
are."""

from mae_ablation.study.plan import Plan

LOSS, HOURS = "pretrain_loss", "pretrain_hours"

TITLES = {
    "linear_probe_acc1": "Linear probe",
    "knn_acc1": "k-NN",
    "finetune_acc1": "Fine-tuning",
    "partial_acc1": "Partial fine-tuning",
    LOSS: "Pre-training loss",
    HOURS: "Wall-clock of pre-training",
}

AXIS_LABELS = {
    "linear_probe_acc1": "linear probe, test top-1 (%)",
    "knn_acc1": "k-NN, test top-1 (%)",
    "finetune_acc1": "fine-tuning, test top-1 (%)",
    "partial_acc1": "partial fine-tuning, test top-1 (%)",
    LOSS: "pre-training loss",
    HOURS: "pre-training (hours)",
}

COLUMN_HEADS = {
    "finetune_acc1": "ft",
    "linear_probe_acc1": "lin",
    "partial_acc1": "partial",
    "knn_acc1": "k-NN",
    LOSS: "loss",
    HOURS: "hours",
}
"""Short names for the page of a suite, in the order of the paper's tables."""

NOISE = 0.2
"""Points by which seeds move a difference of fine-tuned models (the official code's own seeds
spread by 0.07 to 0.08; paper_numbers.yaml)."""

PROBE_NOISE = 0.6
"""Points by which a linear probe that is trained again moves at most (the official code's models
against the paper's: 0.2, 0.2 and 0.6 points for ViT-B, L and H)."""

MARGINS = {
    "linear_probe_acc1": PROBE_NOISE,
    "knn_acc1": PROBE_NOISE,
    "finetune_acc1": NOISE,
    "partial_acc1": NOISE,
}
"""Points, by metric, within which a difference of the paper's, which has one seed, counts as
none."""


def list_metrics(plan: Plan) -> list[str]:
    """List a study's quantities: an accuracy for each evaluation, the loss where there is none, or
    hours of pre-training where the study measures those."""
    if plan.study.measure == "hours":
        return [HOURS]
    return [f"{column}_acc1" for column in plan.study.columns] or [LOSS]


def column_of(metric: str) -> str:
    """Return the phase a metric belongs to: "linear_probe_acc1" gives "linear_probe"."""
    return metric.removesuffix("_acc1").removeprefix("pretrain_")


def is_accuracy(metric: str) -> bool:
    return metric not in (LOSS, HOURS)


def count_decimals(metric: str) -> int:
    """Return the digits behind the point: accuracies are per cent, losses and hours small."""
    return 2 if is_accuracy(metric) else 4
