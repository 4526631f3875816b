"""Learning rates, weight-decay groups and generators, as the paper's recipes need them."""

import hashlib
import math

import torch
from torch import nn


def scaled_lr(base_lr: float, batch_size: int) -> float:
    """Scale the learning rate: lr = base_lr x batch_size / 256 (paper, Table 8)."""
    return base_lr * batch_size / 256


def lr_at(position: float, *, peak: float, warmup: float, epochs: int, final: float = 0.0) -> float:
    """Compute the learning rate: linear warm-up from 0, then half a cosine to `final`.

    Args:
        position, warmup, epochs: in epochs; `position` counts parts of one, too.
    """
    if position < warmup:
        return peak * position / warmup
    cosine = 0.5 * (1 + math.cos(math.pi * (position - warmup) / (epochs - warmup)))
    return final + (peak - final) * cosine


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set every group's learning rate, times its layer's scale where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Make two groups: matrices and (1, 1, D) tokens decay, vectors do not (official behaviour)."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def generator(seed: int, stream: str) -> torch.Generator:
    """Make a separate generator for each use of randomness ("order", "mask", ...) under one seed.

    Streams are independent, so two levels with the same seed see the same images in the same order
    even where they draw different masks. They are on the CPU: a seed means the same on every
    device.
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
