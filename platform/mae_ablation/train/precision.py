"""Precision of a phase: in what numbers its forward passes are computed. Part of its identity.

float32     nothing less, on every device
tf32        matrix products of Ampere and later round their inputs to 10 bits; elsewhere float32
bfloat16    torch's autocast: weights and sums stay float32
float16     the same, and gradients are scaled so that small ones survive
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def switch_tf32(on: bool) -> None:
    """Allow TensorFloat-32, or not, for the whole process; torch itself allows it to cuDNN."""
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


@contextmanager
def allow_tf32() -> Iterator[None]:
    """Allow TensorFloat-32 in this block alone: crops and tokens are never computed in it."""
    switch_tf32(True)
    try:
        yield
    finally:
        switch_tf32(False)


class NumberFormat:
    """Makes a phase's forward and backward passes compute in its precision.

    Args:
        precision: "float32", "tf32", "bfloat16" or "float16".
        device: where the phase computes.
    """

    def __init__(self, precision: str, device: str) -> None:
        switch_tf32(False)
        self._type = torch.device(device).type
        self._half, self._tf32 = HALVES.get(precision), precision == "tf32"
        self._scaler = torch.amp.GradScaler(self._type, enabled=precision == "float16")

    def autocast(self) -> AbstractContextManager:
        """Return the context of a forward pass."""
        # weights stay float32: each product casts its inputs
        if self._half:
            return torch.autocast(self._type, dtype=self._half)
        return allow_tf32() if self._tf32 else nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the loss's gradients; float16 scales them."""
        with allow_tf32() if self._tf32 else nullcontext():
            self._scaler.scale(loss).backward()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Step the optimiser; a step whose float16 gradients overflow is left out."""
        self._scaler.step(optimizer)
        self._scaler.update()

    @property
    def parts(self) -> dict[str, torch.amp.GradScaler]:
        """The state that a checkpoint holds besides model and optimiser."""
        return {"scaler": self._scaler} if self._scaler.is_enabled() else {}
