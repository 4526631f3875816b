"""Estimate: wall clock and disk of a plan's missing trials, before anything is started."""

from dataclasses import dataclass
from statistics import median

from mae_ablation.study.cost import encoder_flops, parameters
from mae_ablation.study.plan import Plan, Trial

ASSUMED_FLOPS_PER_S = 20e9  # one CPU lane on small models, until a pre-training has been measured
START_S = 25  # Ray, torch and the lanes, from a cold start
PROBE_S = 5  # training the classifier on cached features, laptop recipe
CHECKPOINT_COPIES = 3 * 2  # weights and two moments of AdamW, in two checkpoints
BYTES_PER_NUMBER = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What the missing trials will take."""

    seconds: float
    disk_bytes: float
    flops_per_s: float
    """of one lane"""
    measured_on: int
    """finished pre-trainings behind `flops_per_s`; 0: an assumption"""


def estimate(plan: Plan, lanes: int) -> Estimate:
    """Seconds and bytes of the missing trials on so many lanes.

    seconds = FLOPs / (FLOP/s of a lane) / lanes + start; the speed is the median of the store's
    finished pre-trainings.
    """
    measured = [result["flops_per_s"] for result in plan.store.results("pretrain")]
    rate = median(measured) if measured else ASSUMED_FLOPS_PER_S
    missing = plan.missing()
    busy = sum(trial_seconds(plan, trial, rate) for trial in missing)
    numbers = sum(
        parameters(trial.recipe.model, plan.data.channels)
        for trial in missing
        if trial.source == "pretrain"
    )
    return Estimate(
        seconds=busy / min(lanes, len(missing)) + START_S if missing else 0.0,
        disk_bytes=numbers * CHECKPOINT_COPIES * BYTES_PER_NUMBER,
        flops_per_s=rate,
        measured_on=len(measured),
    )


def trial_seconds(plan: Plan, trial: Trial, flops_per_s: float) -> float:
    """Seconds of the unfinished phases of a trial."""
    seconds = 0.0
    for phase in plan.unfinished(trial):
        if phase.kind == "pretrain":
            seconds += trial.flops / flops_per_s
        else:
            images = plan.data.train_images + plan.data.test_images
            encode = encoder_flops(phase.recipe, plan.data.channels, phase.recipe.patches)
            probe = phase.recipe.linear_probe
            passes = probe.epochs if probe.protocol == "paper" else 1
            seconds += PROBE_S + passes * images * encode / flops_per_s
    return seconds
