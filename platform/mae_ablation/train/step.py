"""One optimiser step, as every training loop of this package takes it.

for micro_batch in update.micro_batches():
    loss = ...                              the loop's own equation
    update.backward(loss)
update.apply()
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from mae_ablation.train.meter import Meter
from mae_ablation.train.precision import Precision
from mae_ablation.train.workers import MicroBatch, Workers

WHOLE_BATCH = (MicroBatch(0, slice(None)),)


@dataclass(kw_only=True, slots=True)
class OptimizerStep:
    """Accumulates the gradients of a batch, steps the optimiser and records the mean loss."""

    optimizer: torch.optim.Optimizer
    meter: Meter
    precision: Precision | None = None
    """scales gradients where its numbers need it; None: plain float32"""
    parts: Sequence[MicroBatch] = WHOLE_BATCH
    """this worker's micro-batches of every batch"""
    workers: Workers = field(default_factory=Workers)
    model: nn.Module | None = None
    """what `Workers.wrap` returned; needed with several workers"""
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
        loss = loss / len(self.parts)
        if self.precision:
            self.precision.backward(loss)
        else:
            loss.backward()
        self._loss = self._loss + loss.detach()

    def apply(self) -> None:
        """Change the weights, and record the batch's loss.

        Raises:
            Diverged: several losses in a row were not finite.
        """
        if self.precision:
            self.precision.step(self.optimizer)
        else:
            self.optimizer.step()
        self.meter.add(self._loss)
