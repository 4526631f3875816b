"""Estimate: wall clock and disk of a plan's missing trials, before anything is started."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mae_ablation.study.cost import encoder_flops, parameters, training_flops
from mae_ablation.study.plan import Plan, open_phases, trials_of
from mae_ablation.study.trial import DataFacts, Phase, Trial, training_images

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


def estimate(plans: Sequence[Plan], lanes: int) -> Estimate:
    """Seconds and bytes of the missing trials of some studies on so many lanes.

    seconds = FLOPs / (FLOP/s of a lane) / lanes + start; the speed is the median of the store's
    finished pre-trainings.
    """
    store, data = plans[0].store, plans[0].data
    todo = open_phases(trials_of(plans), store)
    measured = [result["flops_per_s"] for result in store.results("pretrain")] if todo else []
    rate = median(measured) if measured else ASSUMED_FLOPS_PER_S
    busy = sum(
        phase_seconds(phase, trial, data, rate) for trial, phases in todo for phase in phases
    )
    numbers = sum(
        parameters(trial.recipe, data.channels) for trial, _ in todo if trial.source == "pretrain"
    )
    return Estimate(
        seconds=busy / min(lanes, len(todo)) + START_S if todo else 0.0,
        disk_bytes=numbers * CHECKPOINT_COPIES * BYTES_PER_NUMBER,
        flops_per_s=rate,
        measured_on=len(measured),
    )


def phase_seconds(phase: Phase, trial: Trial, data: DataFacts, flops_per_s: float) -> float:
    """Seconds of one phase, from a cold start."""
    if phase.kind == "pretrain":
        return trial.flops / flops_per_s
    section = getattr(phase.recipe, phase.kind, None)
    patches = phase.recipe.patches_at(getattr(section, "image_size", None))
    encode = encoder_flops(phase.recipe, data.channels, patches)
    if phase.kind in ("finetune", "partial", "scratch"):
        images = getattr(phase.recipe, phase.kind).epochs * training_images(phase.recipe, data)
        return images * training_flops(encode) / flops_per_s
    if phase.kind in ("pca", "tokenizer"):
        return PROBE_S
    probe = phase.recipe.linear_probe
    again = phase.kind == "linear_probe" and probe.protocol == "paper"
    passes = probe.epochs if again else 1
    images = data.train_images + data.test_images
    return PROBE_S + passes * images * encode / flops_per_s
