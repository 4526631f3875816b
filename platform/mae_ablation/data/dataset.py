"""Data sets: splits of uint8 images in memory, a normalisation and a fingerprint.

A new set needs a reader (as `fashion_mnist.read`) and a line in `FINGERPRINTS` and `load`.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from mae_ablation.data import fashion_mnist
from mae_ablation.study.recipe import Data


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Images (n, c, side, side) uint8 and labels (n,) int64."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One data set at the size a recipe asks for.

    `validation` is held out of `train`; `test` is measured once, after the last epoch.
    `mean` and `std` are per channel, of pixels in [0, 1].
    """

    name: str
    fingerprint: str
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split
    validation: Split
    test: Split

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]


@lru_cache(maxsize=2)
def load(data: Data) -> Dataset:
    """The data set of a recipe, read once per process.

    Raises:
        ValueError: a damaged file.
    """
    arrays = fashion_mnist.read()
    train, validation = hold_out(
        arrays["train_labels"], data.validation_images, data.train_images, fashion_mnist.CLASSES
    )

    def split(part: str, index: np.ndarray | slice) -> Split:
        images = torch.from_numpy(arrays[f"{part}_images"][index])[:, None]
        labels = torch.from_numpy(arrays[f"{part}_labels"][index]).long()
        return Split(images=pad(images, data.image_size), labels=labels)

    return Dataset(
        name=data.name,
        fingerprint=fashion_mnist.SHA256,
        classes=fashion_mnist.CLASSES,
        mean=(0.2867,),
        std=(0.3540,),
        train=split("train", train),
        validation=split("train", validation),
        test=split("test", slice(None)),
    )


def hold_out(
    labels: np.ndarray, validation: int, train: int | None, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, validation), class-balanced and disjoint, the same for every seed.

    Validation takes the last images of each class, training the first.
    """
    per_class = [np.flatnonzero(labels == c) for c in range(classes)]
    held = [len(part) for part in np.array_split(np.arange(validation), classes)]
    rest = [rows[: len(rows) - k] for rows, k in zip(per_class, held, strict=True)]
    if train is not None:
        wanted = [len(part) for part in np.array_split(np.arange(train), classes)]
        rest = [rows[:k] for rows, k in zip(rest, wanted, strict=True)]
    out = [rows[len(rows) - k :] for rows, k in zip(per_class, held, strict=True)]
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(out))


def pad(images: torch.Tensor, size: int) -> torch.Tensor:
    """Images with an even border of zeros, up to `size` x `size`."""
    missing = size - images.shape[-1]
    before = missing // 2
    return F.pad(images, (before, missing - before, before, missing - before))
