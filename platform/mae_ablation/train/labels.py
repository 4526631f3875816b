"""Training images whose labels an evaluation may see."""

import torch

from mae_ablation.data.dataset import Dataset, Files, Split
from mae_ablation.data.draws import draw_labelled
from mae_ablation.train.optim import generator


def labelled(data: Dataset, labels: int | None, seed: int) -> Split | Files:
    """A class-balanced part of the training split, drawn by the trial's seed; None: all of it.

    The draw is the same for every level and every evaluation of a seed, and a smaller one lies
    within a larger one.

    Raises:
        UserError: a class has too few images.
    """
    if labels is None:
        return data.train
    rng = generator(seed, "labels")
    return data.train.part(
        torch.from_numpy(draw_labelled(data.train.labels.numpy(), labels, data.classes, rng))
    )
