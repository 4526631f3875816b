"""Class-balanced draws of images: which are held out, which are trained on, whose labels are seen.

Each class is shuffled by itself and its first images are taken, so that a smaller draw of the same
generator lies within a larger one, and the order of a set's files decides nothing.
"""

import numpy as np
import torch

from mae_ablation.data.catalog import even_shares
from mae_ablation.errors import UserError

SPLIT_SEED = 20_240_229
"""seed of the split into training and validation; no trial's, so that all trials share the split"""


def shuffled_classes(
    labels: np.ndarray, classes: int, generator: torch.Generator
) -> list[np.ndarray]:
    """Positions of every class's images, each class in an order of its own."""
    found = [np.flatnonzero(labels == c) for c in range(classes)]
    return [rows[torch.randperm(len(rows), generator=generator).numpy()] for rows in found]


def hold_out(
    labels: np.ndarray, validation: int, train: int | None, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (train, validation), class-balanced and disjoint, sorted, the same for every seed.

    Args:
        train: images wanted; None: all that are not held out.

    Raises:
        UserError: a class has too few.
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    per_class = shuffled_classes(labels, classes, generator)
    held = even_shares(validation, classes)
    wanted = even_shares(train, classes) if train is not None else [1] * classes
    for c, rows in enumerate(per_class):
        if held[c] + wanted[c] > len(rows):
            raise UserError(
                f"class {c} has {len(rows)} training images: {held[c]} for validation and "
                f"{wanted[c]} for training do not fit",
                "data.train_images",
            )
    out = [rows[:k] for rows, k in zip(per_class, held, strict=True)]
    rest = [rows[k:] for rows, k in zip(per_class, held, strict=True)]
    if train is not None:
        rest = [rows[:k] for rows, k in zip(rest, wanted, strict=True)]
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(out))


def draw_labelled(
    labels: np.ndarray, count: int, classes: int, generator: torch.Generator
) -> np.ndarray:
    """Positions of a class-balanced part of `count` images, sorted.

    Raises:
        UserError: a class has too few.
    """
    per_class = shuffled_classes(labels, classes, generator)
    shares = even_shares(count, classes)
    for c, (rows, share) in enumerate(zip(per_class, shares, strict=True)):
        if share > len(rows):
            raise UserError(
                f"class {c} has {len(rows)} training images, and {count} labels are {share} of "
                f"each class: use at most {min(map(len, per_class)) * classes}"
            )
    return np.sort(np.concatenate([rows[:k] for rows, k in zip(per_class, shares, strict=True)]))
