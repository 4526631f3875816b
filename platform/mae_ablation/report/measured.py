"""How a table's numbers were measured, in words: protocols, settings, conditions of hours."""

import pandas as pd

from mae_ablation.recipe.evaluations import Finetune, LinearProbe
from mae_ablation.report.results import HOURS, LOSS, column_of
from mae_ablation.report.summary import counted, on_labels, some
from mae_ablation.study.plan import Plan


def measured(plan: Plan, metric: str) -> str:
    """What a table's mean is."""
    recipe, probe = plan.study.baseline, plan.study.baseline.linear_probe
    top1 = "*mean*: top-1 accuracy on the test split in per cent"
    if metric not in (LOSS, HOURS) and settings_differ(plan, column_of(metric)):
        top1 += " (settings of the baseline, but for what is varied or tuned)"
    if metric == "linear_probe_acc1":
        return f"{top1}, {probe_settings(probe)}."
    if metric == "knn_acc1":
        knn = recipe.knn
        return (
            f"{top1}, {knn.neighbours} nearest neighbours by cosine of {probe.pooling} features, "
            f"weighted at temperature {knn.temperature:g}{on_labels(knn)}."
        )
    if metric == "finetune_acc1":
        how = settings(recipe.finetune)
        return f"{top1}, fine-tuning end to end, after its last epoch ({how}).{scratch(plan)}"
    if metric == "partial_acc1":
        tried = ", ".join(map(str, recipe.partial.epochs_tried))
        return (
            f"{top1}, the last blocks fine-tuned ({settings(recipe.partial, epochs=False)}). Of "
            f"{tried} epochs, each a training of its own, the one best on validation is taken, as "
            f"the paper's protocol has it; 0 blocks is the linear probe."
        )
    if metric == HOURS:
        return (
            "*hours*: pre-training alone, without start-up, on the machine and lanes named below; "
            "*speed-up*: over the baseline. *paper*: hours of 800 epochs on 128 TPU-v3 cores."
        )
    return "*mean*: pre-training loss of the last epoch."


def probe_settings(probe: LinearProbe) -> str:
    """The linear probe's protocol in words."""
    if probe.protocol == "converged":
        choice = "chosen on validation" if len(probe.penalties) > 1 else f"{probe.penalty:g}"
        return (
            f"linear probe brought to convergence (logistic regression on {probe.pooling} "
            f"features, L2 penalty {choice}){on_labels(probe)}"
        )
    return (
        f"linear probe after its last epoch ({probe.protocol} protocol, {probe.pooling} features, "
        f"{probe.epochs} epochs){on_labels(probe)}"
    )


def settings_differ(plan: Plan, column: str) -> bool:
    """Whether some row, or some try of one, is evaluated with other settings than the rest."""
    found = [
        (getattr(trial.recipe, column), column == "knn" and trial.recipe.linear_probe.pooling)
        for row in (*plan.rows, *plan.references)
        for each in row.tries
        for trial in [each.some]
        if any(phase.column == column for phase in trial.phases)
    ]
    return any(settings != found[0] for settings in found)


def scratch(plan: Plan) -> str:
    """What the row without pre-training was trained with, where there is one."""
    if "scratch" not in plan.study.phases:
        return ""
    s = plan.study.baseline.scratch
    return f" *from scratch*: no pre-training ({settings(s)}, EMA {s.ema:g})."


def where(rows: pd.DataFrame) -> str:
    """Under what conditions hours were measured, and whether they were the same."""
    levels: dict[str, list[str]] = {}
    for row in rows.to_dict("records"):
        levels.setdefault(row["conditions"] or "not measured", []).append(row["level"])
    if len(levels) == 1:
        return f"Measured on {next(iter(levels))}."
    parts = "; ".join(f"{some(names)}: {what}" for what, names in levels.items())
    return f"Measured under different conditions, so speed-ups are left out: {parts}."


def randaugment(s: Finetune) -> str:
    """RandAugment's magnitude, and in what it is not the paper's."""
    if s.randaugment_magnitude == 0:
        return "no RandAugment"
    return f"RandAugment {s.randaugment_magnitude}, cut at 9.9 of 10"


def settings(s: Finetune, *, epochs: bool = True) -> str:
    first = f"{counted(s.epochs, 'epoch')}, " if epochs else ""
    return (
        f"{first}layer decay {s.layer_decay:g}, drop path {s.drop_path:g}, mixup {s.mixup:g}, "
        f"cutmix {s.cutmix:g}, {randaugment(s)}{on_labels(s)}"
    )
