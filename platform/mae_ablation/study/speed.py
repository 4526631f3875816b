"""Speed of each kind of phase at each shape, as finished phases have it, else as assumed.

A phase's work is so many images of so many FLOPs each. Two phases of one kind with as many FLOPs
per image have the same shape, and what is measured is the FLOP/s of a shape. Where nothing like a
phase has been measured, it is assumed to reach the share of a matrix product's FLOP/s that was
found on another machine. What a classifier on frozen features costs beside its matrix products is
counted as FLOPs, too: one rule for all.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from mae_ablation.recipe.checks import count_labels
from mae_ablation.recipe.cost import embed_flops, encoder_flops, pretrain_flops, training_flops
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.registry import Evaluation, component_names, find_component, list_components
from mae_ablation.study import machine as here
from mae_ablation.study.trial import DataFacts, Phase, pretraining_images, training_images

ENCODED = 4 / 3
"""Images encoded once for every training image: validation and test come on top"""
HEAD_FLOPS = 85e3  # per image and epoch of a classifier on cached features: measured, laptop recipe
CONVERGED_PASSES = 1200  # of a converged classifier: twice the passes that all penalties take

# Shares of a matrix product's FLOP/s (`machine.product_flops_per_s`), for what is not measured yet.
# From reports/published/results.zip: 60 trials of the recipe overnight, two lanes on two cores with
# a product of 85 GFLOP/s. Fastest of five pre-trainings at each masking ratio, whose shape is the
# recipe laptop's: 33 GFLOP/s at 20 MFLOPs per image, 40 at 43, 46 at 83; fine-tuning 47 at 79.
SHARE = 0.66  # what a large model comes close to
STEP_FLOPS = 14e6  # per trained image: what is not a matrix product takes as long as these
NARROW_SLOWDOWN = (
    8  # products with as many columns as classes are so many times slower: 18 of 40 s a probe
)
GPU_FLOPS_PER_S = 10e12  # of one GPU on a ViT; no product is measured on a GPU


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """The images and FLOPs that a phase has to get through."""

    kind: str
    images: float
    flops: float
    """per image, backward pass included"""
    narrow_flops: float = 0.0
    """those of them that are a converged classifier's"""


def phase_work(phase: Phase, source: str, data: DataFacts, *, encoded: bool = False) -> Work:
    """Return the work of a phase, for which images may have been `encoded` just before."""
    recipe, kind = phase.recipe, phase.kind
    if source == "prepare":
        images = training_images(recipe, data)
        return Work(kind=kind, images=images, flops=recipe.target.fit_flops)
    if kind == "pretrain":
        flops = pretrain_flops(recipe, data.channels)
        return Work(kind=kind, images=pretraining_images(recipe, data), flops=flops)
    evaluation = recipe.chosen("evaluation", kind)
    if known := evaluation.work(recipe, data, source, encoded):
        return known
    images, _, encode_all = encoding_flops(evaluation, recipe, data, source)
    return Work(kind=kind, images=images, flops=0.0 if encoded else encode_all)


def _trainings() -> list[str]:
    """Name the kinds of phases that train a whole model, pre-training first."""
    return ["pretrain", *(e.name for e in list_components("evaluation") if e.cls.trains_encoder)]


# for the evaluations' own estimates ---------------------------------------------------------------


def training_work(evaluation: Evaluation, recipe: Recipe, data: DataFacts) -> Work:
    """Return the work of an evaluation that trains the encoder for some `epochs`."""
    patches = recipe.patches_at(evaluation.image_size)
    encode = encoder_flops(recipe, data.channels, patches)
    flops = training_flops(encode, embed_flops(recipe, data.channels, patches))
    images = evaluation.epochs * images_seen(evaluation, recipe, data)
    return Work(kind=evaluation.component.name, images=images, flops=flops)


def images_seen(evaluation: Evaluation, recipe: Recipe, data: DataFacts) -> int:
    """Count the training images that an evaluation sees: those whose labels it is given."""
    labels = getattr(evaluation, "labels", None)
    return count_labels(labels, training_images(recipe, data), data.classes)


def encoding_flops(
    evaluation: Evaluation, recipe: Recipe, data: DataFacts, source: str
) -> tuple[int, float, float]:
    """Return the training images of an evaluation and the FLOPs of encoding one of them.

    Third, those for each training image when validation and test images are encoded, too.
    """
    images = images_seen(evaluation, recipe, data)
    patches = recipe.patches_at(getattr(evaluation, "image_size", None))
    encode = 0.0 if source == "pixels" else encoder_flops(recipe, data.channels, patches)
    others = recipe.data.validation_images + data.test_images
    return images, encode, encode * (1 + others / images)


def feature_width(recipe: Recipe, data: DataFacts, source: str) -> int:
    """Count the values of an image that a classifier on frozen features sees."""
    side = recipe.linear_probe.image_size or recipe.data.image_size
    return data.channels * side**2 if source == "pixels" else recipe.model.encoder_width


def converged_flops(encode: float, width: int, classes: int) -> float:
    """Return the FLOPs per training image of a classifier brought to convergence on features.

    Args:
        encode: per training image, with what the images it is validated and tested on add.
        width: numbers in a feature.
    """
    products = 2 * width * classes
    return encode + CONVERGED_PASSES * training_flops(products, products)


def probe_flops(encode: float, epochs: int, afresh: bool) -> float:
    """Return the FLOPs per training image of a probe, which may encode afresh in every epoch."""
    return encode * (ENCODED + epochs if afresh else ENCODED) + epochs * HEAD_FLOPS


# as measured --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One phase whose time is known."""

    kind: str
    flops: float
    """per image"""
    flops_per_s: float
    lanes: int | None = None
    """lanes that ran side by side; None: not recorded"""


def read_speed(result: dict) -> Measured | None:
    """Return a finished phase's speed; None where its result does not record it."""
    kind, rate = result.get("phase"), result.get("images_per_s")
    if not rate:
        return None
    # what a training wrote of itself, or what an evaluation makes of its own numbers
    flops = 0.0
    if kind in _trainings():
        flops = result.get("flops_per_image") or result.get("flops_per_s", 0.0) / rate
    elif kind in component_names("evaluation"):
        flops, rate = find_component("evaluation", kind).cls.measured(result)
    if not flops:
        return None
    return Measured(kind=kind, flops=flops, flops_per_s=flops * rate, lanes=result.get("lanes"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The lanes that a study would run on, as far as they matter to how long it takes."""

    lanes: int = 1
    workers: int = 1
    """workers of each lane"""
    gpus: float = 0.0
    """GPUs, or the part of one, that each worker holds"""
    processor: str | None = None
    """name of the CPU; None: not known, as on a cluster, or of no importance"""

    def like(self, result: dict) -> bool:
        """Tell whether a result was made on such a device, by as many workers."""
        on_gpu = result.get("device", "cpu") != "cpu"
        return on_gpu == bool(self.gpus) and result.get("workers", 1) == self.workers

    @property
    def assumed(self) -> float:
        """FLOP/s of a lane on a large model, as long as nothing like it is measured."""
        if self.gpus:
            return GPU_FLOPS_PER_S * min(self.gpus, 1.0) * self.workers
        return SHARE * here.product_flops_per_s()  # workers on one machine share its cores


def machine_of(
    *, lanes: int | None = None, workers: int = 1, gpus: float = 0.0, local: bool = True
) -> Machine:
    """Return what studies would run on, as far as it is known before Ray is started.

    Args:
        lanes: None: as many as this machine has room for; elsewhere nobody knows yet, and it is
            one.
        local: they run on this machine.
    """
    if not local:
        return Machine(lanes=lanes or 1, workers=workers, gpus=gpus)
    # lanes share the GPUs if there are any, else the cores
    room = here.gpus() / gpus if gpus else here.cores()
    return Machine(
        lanes=lanes or max(1, int(room) // workers),
        workers=workers,
        gpus=gpus,
        processor=None if gpus else here.processor(),
    )


class Speeds:
    """FLOP/s by kind and shape, of a machine's finished phases."""

    def __init__(self, known: Iterable[Measured], machine: Machine) -> None:
        found: dict[str, list[Measured]] = defaultdict(list)
        for each in known:
            found[each.kind].append(each)
        self._machine = machine
        self._curves: dict[str, list[tuple[float, float]]] = {}
        self.count = sum(map(len, found.values()))
        """phases whose time is known"""
        for kind, all_of_kind in found.items():
            # lanes share a machine's memory: those beside as many others count, if there are any
            alike = [each for each in all_of_kind if each.lanes in (machine.lanes, None)]
            rates: dict[float, list[float]] = defaultdict(list)
            for each in alike or all_of_kind:
                rates[round(each.flops)].append(each.flops_per_s)
            self._curves[kind] = sorted((flops, median(some)) for flops, some in rates.items())

    def seconds(self, work: Work) -> tuple[float, str]:
        """Return seconds of a phase, and their basis: "measured", "scaled" or "assumed"."""
        # the kind's own speeds, else those of trainings, else a share of a matrix product
        slowed = work.flops + (NARROW_SLOWDOWN - 1) * work.narrow_flops
        trainings = _trainings()
        for kind in dict.fromkeys((work.kind, *trainings)):
            if points := self._curves.get(kind):
                rate, exact = at(points, work.flops)
                if kind == work.kind:  # its rate was measured over narrow products, too
                    return work.images * work.flops / rate, "measured" if exact else "scaled"
                return work.images * slowed / rate, "scaled"
        if work.kind in trainings:
            slowed += STEP_FLOPS
        return work.images * slowed / self._machine.assumed, "assumed"


def at(points: list[tuple[float, float]], flops: float) -> tuple[float, bool]:
    """Return the FLOP/s at a shape, and whether it is a measured one."""
    # Else halfway between all shapes' median and what lies between its two neighbours, by the
    # logarithm of their size: neighbours may have been measured in a bad hour, and the median is of
    # shapes that are further away.
    flops = round(flops)
    place = bisect_left(points, (flops,))
    if place < len(points) and points[place][0] == flops:
        return points[place][1], True
    if place in (0, len(points)):
        near = points[min(place, len(points) - 1)][1]
    else:
        (low, slow), (high, fast) = points[place - 1 : place + 1]
        near = slow + math.log(flops / low) / math.log(high / low) * (fast - slow)
    return (near + median(rate for _, rate in points)) / 2, False
