"""Optimisation as every training loop does it: learning rates, groups, generators, and one step.

for micro_batch in update.micro_batches():
    loss = ...                              the loop's own equation
    update.backward(loss)
update.apply()
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from mae_ablation.train.meter import Meter
from mae_ablation.train.precision import NumberFormat
from mae_ablation.train.workers import MicroBatch, Workers


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
    # 56 bits, which every torch takes as a seed
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


WHOLE_BATCH = (MicroBatch(0, slice(None)),)


@dataclass(slots=True)
class OptimizerStep:
    """Accumulates the gradients of a batch, steps the optimiser and records the mean loss."""

    optimizer: torch.optim.Optimizer
    meter: Meter
    precision: NumberFormat = field(default_factory=lambda: NumberFormat("float32", "cpu"))
    parts: Sequence[MicroBatch] = WHOLE_BATCH
    """this worker's micro-batches of every batch"""
    workers: Workers = field(default_factory=Workers)
    model: nn.Module | None = None
    """the model as `Workers.wrap` returned it; needed with several workers"""
    _loss: torch.Tensor | float = 0.0

    def micro_batches(self) -> Iterator[MicroBatch]:
        """Begin a step, and go through its micro-batches, for forward and backward pass."""
        self.optimizer.zero_grad(set_to_none=True)
        self._loss = 0.0
        for part in self.parts:
            # workers wait for each other in the last backward pass only
            with self.workers.synchronise(self.model, last=part is self.parts[-1]):
                yield part

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a micro-batch's mean loss."""
        # micro-batches are equally large, so the mean of their means is the batch's
        loss = loss / len(self.parts)
        self.precision.backward(loss)
        self._loss = self._loss + loss.detach()

    def apply(self) -> None:
        """Change the weights, and record the batch's loss.

        Raises:
            Diverged: several losses in a row were not finite.
        """
        self.precision.step(self.optimizer)
        self.meter.add(self._loss)
