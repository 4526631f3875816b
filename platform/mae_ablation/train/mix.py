"""Mix: mixup, cutmix and label smoothing (timm's), and the generators they draw from."""

import hashlib
import random

import numpy as np
import torch
from torch import nn

from mae_ablation.recipe.evaluations import Finetune


class Mix:
    """Mixup, cutmix and label smoothing on a batch, and the loss that goes with them."""

    def __init__(self, settings: Finetune, classes: int) -> None:
        from timm.data import Mixup

        smoothing = settings.label_smoothing
        mixing = settings.mixup > 0 or settings.cutmix > 0
        self._mix = (
            Mixup(
                mixup_alpha=settings.mixup,
                cutmix_alpha=settings.cutmix,
                label_smoothing=smoothing,
                num_classes=classes,
            )
            if mixing
            else None
        )
        # class probabilities where labels are mixed, smoothed by Mixup itself
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.0 if mixing else smoothing)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor):
        return self._mix(images, labels) if self._mix else (images, labels)


def seed_step(seed: int, kind: str, step: int, share: int = 0) -> None:
    """Seed the global generators that timm's mixup, erasing and drop path draw from.

    From the step alone, so that a resumed phase draws what an undisturbed one would. Mixup (numpy)
    draws the same for every share of a batch; erasing (Python, torch) and drop path (torch) draw
    for each share anew, so that a batch in several shares meets other numbers than a whole one.
    """
    name = f"{seed}/{kind}/{step}"
    np.random.seed(four_bytes(name))
    own = four_bytes(f"{name}/{share}" if share else name)
    random.seed(own)
    torch.manual_seed(own)


def four_bytes(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
