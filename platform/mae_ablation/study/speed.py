"""Speed of each kind of phase at each shape, as finished phases have it, else as assumed.

A phase's work is so many images of so many FLOPs each. It is assumed to reach a share of the FLOP/s
of a large matrix product on this machine; what is no large product counts as FLOPs that take as
long, and what a phase costs whatever its images are counts in seconds. How many times longer
finished phases took than assumed corrects this: two phases of one kind with as many FLOPs per image
have the same shape, and what is measured is the slowness of a shape.
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
FIRST_PASSES, PENALTY_PASSES = 500, 115
"""Passes of a converged classifier, by its first penalty and by each, as its time has them: a probe
of the recipe smoke took 1.75 s with one penalty and 3.3 s with seven"""

# Shares of a matrix product's FLOP/s (`machine.product_flops_per_s`), before anything is measured.
# From reports/published/results.zip: 60 trials of the recipe overnight, two lanes on two cores with
# a product of 85 GFLOP/s. Fastest of five pre-trainings at each masking ratio, whose shape is the
# recipe laptop's: 33 GFLOP/s at 20 MFLOPs per image, 40 at 43, 46 at 83; fine-tuning 47 at 79.
SHARE = 0.55  # two lanes on two cores: 0.48 to 0.66, by shape and by the hour
STEP_FLOPS = 14e6  # per trained image: what is not a matrix product takes as long as these
NARROW_SLOWDOWN = 8  # of products with as many columns as classes: 18 of 40 s a probe
PASS_S = 2.5e-3  # each pass of a converged classifier, however few its images: recipe smoke
GPU_FLOPS_PER_S = 10e12  # of one GPU on a ViT; no product is measured on a GPU


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """The images and FLOPs that a phase has to get through."""

    kind: str
    images: float
    flops: float
    """per image, backward pass included; they tell one shape from another"""
    extra_flops: float = 0.0
    """per image, which would take as long as what is no large matrix product"""
    fixed_s: float = 0.0
    """seconds that it takes however few its images are"""

    def seconds(self, flops_per_s: float) -> float:
        """Return how long it takes where large matrix products reach so many FLOP/s."""
        return self.images * (self.flops + self.extra_flops) / flops_per_s + self.fixed_s


def phase_work(phase: Phase, source: str, data: DataFacts, *, encoded: bool = False) -> Work:
    """Return the work of a phase, for which images may have been `encoded` just before."""
    recipe, kind = phase.recipe, phase.kind
    if source == "prepare":
        images = training_images(recipe, data)
        return Work(kind=kind, images=images, flops=recipe.target.fit_flops)
    if kind == "pretrain":
        flops = pretrain_flops(recipe, data.channels)
        images = pretraining_images(recipe, data)
        return Work(kind=kind, images=images, flops=flops, extra_flops=STEP_FLOPS)
    # an evaluation that does not say encodes every image once
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
    kind = evaluation.component.name
    return Work(kind=kind, images=images, flops=flops, extra_flops=STEP_FLOPS)


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


def converged_work(images: float, encode: float, classifier: float, penalties: int) -> Work:
    """Return the work of a classifier brought to convergence on features.

    Args:
        images: that it is trained on.
        encode: FLOPs per training image, with what the images it is validated and tested on add.
        classifier: FLOPs per training image of all passes, as `classifier_flops` counts them.
        penalties: solved for, each beginning with the solution for the one before.
    """
    return Work(
        kind="linear_probe",
        images=images,
        flops=encode + classifier,
        extra_flops=(NARROW_SLOWDOWN - 1) * classifier,
        fixed_s=_passes(penalties) * PASS_S,
    )


def classifier_flops(width: int, classes: int, penalties: int) -> float:
    """Count those per training image until classifiers on so wide features have converged."""
    # scores forward, and the gradient of the weights backward
    products = 2 * width * classes
    return _passes(penalties) * training_flops(products, products)


def _passes(penalties: int) -> int:
    return FIRST_PASSES + penalties * PENALTY_PASSES


def probe_flops(encode: float, epochs: int, afresh: bool) -> float:
    """Return the FLOPs per training image of a probe, which may encode afresh in every epoch."""
    return encode * (ENCODED + epochs if afresh else ENCODED) + epochs * HEAD_FLOPS


# as measured --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One phase whose time is known."""

    work: Work
    seconds: float
    lanes: int | None = None
    """lanes that ran side by side; None: not recorded"""


def read_speed(result: dict) -> Measured | None:
    """Return a finished phase's work and time; None where its result does not record them."""
    kind, rate, seconds = map(result.get, ("phase", "images_per_s", "seconds"))
    if not rate or not seconds:
        return None
    # what a training wrote of itself, or what an evaluation makes of its own numbers
    work = None
    if kind in _trainings():
        if flops := result.get("flops_per_image"):
            work = Work(kind=kind, images=rate * seconds, flops=flops, extra_flops=STEP_FLOPS)
    elif kind in component_names("evaluation"):
        work = find_component("evaluation", kind).cls.measured(result)
    return work and Measured(work=work, seconds=seconds, lanes=result.get("lanes"))


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
    """How long phases take: as assumed of the machine, times the slowness of finished ones."""

    def __init__(self, known: Iterable[Measured], machine: Machine) -> None:
        found: dict[str, list[Measured]] = defaultdict(list)
        for each in known:
            found[each.work.kind].append(each)
        self._machine = machine
        self._curves: dict[str, list[tuple[float, float]]] = {}
        self.count = sum(map(len, found.values()))
        """phases whose time is known"""
        for kind, all_of_kind in found.items():
            # lanes share a machine's memory: those beside as many others count, if there are any
            alike = [each for each in all_of_kind if each.lanes in (machine.lanes, None)]
            slowness: dict[float, list[float]] = defaultdict(list)
            for each in alike or all_of_kind:
                times = each.seconds / each.work.seconds(machine.assumed)
                slowness[round(each.work.flops)].append(times)
            self._curves[kind] = sorted((flops, median(some)) for flops, some in slowness.items())

    def seconds(self, work: Work) -> tuple[float, str]:
        """Return seconds of a phase, and their basis: "measured", "scaled" or "assumed"."""
        # the kind's own slowness, else that of trainings
        assumed = work.seconds(self._machine.assumed)
        for kind in dict.fromkeys((work.kind, *_trainings())):
            if points := self._curves.get(kind):
                times, exact = at(points, work.flops)
                basis = "measured" if exact and kind == work.kind else "scaled"
                return times * assumed, basis
        return assumed, "assumed"


def at(points: list[tuple[float, float]], flops: float) -> tuple[float, bool]:
    """Return the slowness at a shape, and whether it is a measured one."""
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
        (low, first), (high, second) = points[place - 1 : place + 1]
        near = first + math.log(flops / low) / math.log(high / low) * (second - first)
    return (near + median(times for _, times in points)) / 2, False
