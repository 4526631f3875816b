"""Class-balanced draws: images that are held out, that are trained on, whose labels are seen.

Each class is shuffled by itself and its first images are taken, so that a smaller draw of the same
generator lies within a larger one, and the order of a set's files decides nothing.
"""

import numpy as np
import torch

from mae_ablation.data.catalog import even_shares
from mae_ablation.errors import UserError

SPLIT_SEED = 20_240_229  # of the split into training and validation, which all trials share


def shuffled_classes(
    labels: np.ndarray, classes: int, generator: torch.Generator
) -> list[np.ndarray]:
    """Find the positions of every class's images, each class in an order of its own."""
    found = [np.flatnonzero(labels == c) for c in range(classes)]
    return [rows[torch.randperm(len(rows), generator=generator).numpy()] for rows in found]


def hold_out(
    labels: np.ndarray, validation: int, train: int | None, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw positions (train, validation), class-balanced and disjoint, sorted, alike in all trials.

    Args:
        train: images wanted; None: all that are not held out.

    Raises:
        UserError: a class has too few.
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    # one seed for all: trials differ in nothing but what they compare
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
    ends = [None] * classes if train is None else [h + w for h, w in zip(held, wanted, strict=True)]
    # held out first, so that more training images never change what is held out
    out = [rows[:k] for rows, k in zip(per_class, held, strict=True)]
    rest = [rows[k:end] for rows, k, end in zip(per_class, held, ends, strict=True)]
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(out))


def draw_labelled(
    labels: np.ndarray, count: int, classes: int, generator: torch.Generator
) -> np.ndarray:
    """Draw the positions of a class-balanced part of `count` images, sorted.

    Raises:
        UserError: a class has too few.
    """
    # of the training part alone: held-out labels are never seen
    per_class = shuffled_classes(labels, classes, generator)
    shares = even_shares(count, classes)
    for c, (rows, share) in enumerate(zip(per_class, shares, strict=True)):
        if share > len(rows):
            raise UserError(
                f"class {c} has {len(rows)} training images, and {count} labels are {share} of "
                f"each class: use at most {min(map(len, per_class)) * classes}"
            )
    return np.sort(np.concatenate([rows[:k] for rows, k in zip(per_class, shares, strict=True)]))
