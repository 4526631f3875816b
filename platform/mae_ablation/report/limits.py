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

CLEARLY = 2.0
"""times: one part of the error is called the limit where it is this much larger than the other"""

ONE_SIDED = 1.645
"""standard errors: 95 % of a normal distribution lie below"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """A difference to the baseline and the two parts of its error, all in points."""

    difference: float
    seeds: int
    seed_sd: float
    """of the seeds' differences, n - 1; NaN for one seed"""
    image_se: float
    """standard error that the choice of test images adds to all seeds alike, 0 or more"""
    low: float
    """`low` and `high`: 95 % interval over seeds and images, were both drawn again"""
    high: float

    @property
    def seed_se(self) -> float:
        """Standard error from the seeds."""
        return self.seed_sd / self.seeds**0.5


def split_variance(correct: ArrayLike) -> Split:
    """Split the variance of a difference, of paired answers (seeds, images).

    Args:
        correct: 1 where only the level's answer is right, -1 where only the baseline's is, else 0.
    """
    points = 100 * np.asarray(correct, float)
    seeds, images = points.shape
    by_seed, by_image, mean = points.mean(1), points.mean(0), points.mean()
    if seeds < 2:
        # What an image adds in every seed cannot be told from what it adds in this one.
        image_se = float(by_image.std(ddof=1) / images**0.5)
        return Split(
            difference=float(mean),
            seeds=seeds,
            seed_sd=np.nan,
            image_se=image_se,
            low=np.nan,
            high=np.nan,
        )
    # Mean squares: of images, and of what neither seeds nor images explain.
    rest = points - by_seed[:, None] - by_image + mean
    noise = (rest**2).sum() / ((seeds - 1) * (images - 1))
    image_variance = max(by_image.var(ddof=1) - noise / seeds, 0) / images
    seed_variance = by_seed.var(ddof=1) / seeds
    # Both parts add; their degrees of freedom are Satterthwaite's.
    whole = seed_variance + image_variance
    parts = seed_variance**2 / (seeds - 1) + image_variance**2 / (images - 1)
    df = whole**2 / parts if parts > 0 else np.inf
    half = stats.t.ppf(1 - ALPHA / 2, df) * whole**0.5
    return Split(
        difference=float(mean),
        seeds=seeds,
        seed_sd=float(by_seed.std(ddof=1)),
        image_se=float(image_variance**0.5),
        low=float(mean - half),
        high=float(mean + half),
    )


def limiting(found: Split) -> str:
    """Say in one line which part limits: "test images: ± 0.3; seeds: ± 0.8: more seeds help"."""
    seeds, images = found.seed_se, found.image_se
    if not seeds >= 0:
        return f"test images: ± {images:.1f}; seeds: unknown from one: more seeds help"
    if seeds >= CLEARLY * images:
        helps = "more seeds help, more images do not"
    elif images >= CLEARLY * seeds:
        helps = "more images help, more seeds do not"
    else:
        helps = "more of either helps"
    return f"test images: ± {images:.1f}; seeds: ± {seeds:.1f}: {helps}"


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
