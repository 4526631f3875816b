"""A target at work in a model: the component, with what was fitted for it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mae_ablation.registry import Target, wanted


class FittedTarget(nn.Module):
    """Calls a target's methods with what each of them asks for.

    Args:
        component: the target, with its settings.
        patch_size: side in pixels.
        channels: of the images.
        fitted: tensors that its methods get as `fitted`; buffers of the model, saved with it.
        width: numbers predicted per patch; None: as the component says.
    """

    def __init__(
        self,
        component: Target,
        patch_size: int,
        channels: int,
        fitted: Mapping[str, torch.Tensor] | None = None,
        width: int | None = None,
    ) -> None:
        super().__init__()
        self.component = component
        self.width = width or component.width(patch_size**2 * channels)
        self._shape = {"patch_size": patch_size, "channels": channels}
        self._fitted = tuple(fitted or ())
        for name, tensor in (fitted or {}).items():
            self.register_buffer(name, tensor.clone())
        self.can_draw = hasattr(component, "pixels")
        """predictions can be shown as pixels"""
        methods = ("of", "error", "pixels") if self.can_draw else ("of", "error")
        # looked up once: torch.compile need not follow how it is found
        self._wanted = {name: wanted(getattr(component, name)) for name in methods}

    def wants(self, name: str) -> bool:
        """Tell whether `error` asks for this."""
        return name in self._wanted["error"]

    def of(self, patches: torch.Tensor, **offered: Any) -> torch.Tensor:
        """Make the target (n, C, W) of patches (n, C, P)."""
        return self.component.of(patches, **self._choose("of", 1, offered))

    def error(self, predicted: torch.Tensor, target: torch.Tensor, **offered: Any) -> torch.Tensor:
        """Return the error of each patch, (n, C)."""
        return self.component.error(predicted, target, **self._choose("error", 2, offered))

    def pixels(
        self, predicted: torch.Tensor, patches: torch.Tensor, **offered: Any
    ) -> torch.Tensor:
        """Turn predictions into patches (n, L, P) in normalised image space."""
        return self.component.pixels(predicted, patches, **self._choose("pixels", 2, offered))

    def _choose(self, method: str, given: int, offered: dict[str, Any]) -> dict[str, Any]:
        """Pick what a method asks for beyond the arguments that it has to take."""
        # buffers are read again each time: moving the model to a GPU replaces them
        fitted = {"fitted": {name: getattr(self, name) for name in self._fitted}}
        known = {**self._shape, **fitted, **offered}
        return {name: known[name] for name in self._wanted[method][given:] if name in known}
