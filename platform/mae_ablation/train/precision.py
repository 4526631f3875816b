"""Precision of a phase: in what numbers its forward passes are computed. Part of its identity.

float32     nothing less, on every device: TensorFloat-32 is off
tf32        matrix products of Ampere and later round their inputs to 10 bits; elsewhere float32
bfloat16    torch's autocast: weights and sums stay float32
float16     the same, and gradients are scaled so that small ones survive
"""

from contextlib import AbstractContextManager, nullcontext

import torch

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """The precision of one phase. Making one switches TensorFloat-32 for the whole process.

    Args:
        name: "float32", "tf32", "bfloat16" or "float16".
        device: where the phase computes.
    """

    def __init__(self, name: str, device: str) -> None:
        self.name, self._type = name, torch.device(device).type
        self._half = HALVES.get(name)
        self._scaler = torch.amp.GradScaler(self._type, enabled=name == "float16")
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        torch.backends.cudnn.allow_tf32 = name == "tf32"  # torch's own default is on

    def autocast(self) -> AbstractContextManager:
        """Return the context of a forward pass."""
        return torch.autocast(self._type, dtype=self._half) if self._half else nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the loss's gradients; float16 scales them."""
        self._scaler.scale(loss).backward()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Step the optimiser; a step whose float16 gradients overflow is left out."""
        self._scaler.step(optimizer)
        self._scaler.update()

    @property
    def parts(self) -> dict[str, torch.amp.GradScaler]:
        """The state that a checkpoint holds besides model and optimiser."""
        return {"scaler": self._scaler} if self._scaler.is_enabled() else {}
