"""Limits: how much of a difference's error seeds bring, and how much the choice of test images.

Every seed answers the same test images, so that an image which happens to favour a level favours it
in all seeds alike: an interval over seeds does not see that. With what each image was answered the
two parts come apart, as in an analysis of variance with two crossed random factors.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mae_ablation.report.paired import ALPHA
from mae_ablation.report.spread import Parts, parts_of

CLEARLY = 2.0
"""times: one part of the error is called the limit where it is this much larger than the other"""

ONE_SIDED = 1.645
"""standard errors: 95 % of a normal distribution lie below"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """A difference to the baseline and the two parts of its error, all in points."""

    difference: float
    seeds: int
    parts: Parts
    low: float
    """`low` and `high`: 95 % interval over seeds and images, were both drawn again"""
    high: float

    @property
    def seed_se(self) -> float:
        """Standard error from the seeds."""
        return self.parts.seed_sd / self.seeds**0.5

    @property
    def image_se(self) -> float:
        """Standard error from the choice of test images."""
        return self.parts.image_se


def split_variance(correct: ArrayLike) -> Split:
    """Split the variance of a difference, of paired answers (seeds, images).

    Args:
        correct: 1 where only the level's answer is right, -1 where only the baseline's is, else 0.
    """
    points = 100 * np.asarray(correct, float)
    (seeds, images), mean, parts = points.shape, float(points.mean()), parts_of(correct)
    if seeds < 2:
        return Split(difference=mean, seeds=seeds, parts=parts, low=np.nan, high=np.nan)

    # Both parts add; their degrees of freedom are Satterthwaite's.
    seed_variance, image_variance = parts.seed_sd**2 / seeds, parts.image_se**2
    whole = seed_variance + image_variance
    squares = seed_variance**2 / (seeds - 1) + image_variance**2 / (images - 1)
    df = whole**2 / squares if squares > 0 else np.inf
    half = float(stats.t.ppf(1 - ALPHA / 2, df) * whole**0.5)

    # With few seeds those degrees of freedom grow faster than the error does; what counts images,
    # too, is never more certain than the seeds alone.
    alone = float(stats.t.ppf(1 - ALPHA / 2, seeds - 1) * seed_variance**0.5)
    half = max(half, alone)
    return Split(difference=mean, seeds=seeds, parts=parts, low=mean - half, high=mean + half)


def limiting(seed_se: float, image_se: float) -> str:
    """Say in one line which part of the error limits, standard errors in points.

    "test images: ± 0.3; seeds: ± 0.8: more seeds help, more images do not". `seed_se`: NaN for one
    seed.
    """
    if not seed_se >= 0:
        return f"test images: ± {image_se:.1f}; seeds: unknown from one: more seeds help"
    if seed_se == image_se == 0:
        helps = "neither limits it"
    elif seed_se >= CLEARLY * image_se:
        helps = "more seeds help, more images do not"
    elif image_se >= CLEARLY * seed_se:
        helps = "more images help, more seeds do not"
    else:
        helps = "more of either helps"
    return f"test images: ± {image_se:.1f}; seeds: ± {seed_se:.1f}: {helps}"


def margin_allows(margin: float, image_se: float | None) -> bool:
    """Whether the test images let an equivalence within `margin` be claimed, whatever the seeds.

    Not where the error of the images alone may be as large as the margin. `image_se` is None where
    the answers to single images are not known: then nothing is held against a claim.
    """
    return image_se is None or margin > ONE_SIDED * image_se


def class_accuracies(predicted: ArrayLike, label: ArrayLike, classes: int) -> NDArray:
    """Accuracy of each class in per cent, (classes,), NaN for a class without images.

    Args:
        predicted: classes (..., images); several seeds are averaged.
        label: classes (images,).
    """
    right, label = np.asarray(predicted) == np.asarray(label), np.asarray(label)
    share = right.reshape(-1, len(label)).mean(0)
    count = np.bincount(label, minlength=classes)
    return 100 * np.bincount(label, share, classes) / np.where(count > 0, count, np.nan)
