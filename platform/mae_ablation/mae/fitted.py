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
        methods = ("of", "error", "pixels") if self.can_draw else ("of", "error")
        # looked up once: torch.compile need not follow how it is found
        self._wanted = {name: wanted(getattr(component, name)) for name in methods}

    @property
    def can_draw(self) -> bool:
        """Whether predictions can be shown as pixels."""
        return hasattr(self.component, "pixels")

    def wants(self, name: str) -> bool:
        """Whether `error` asks for this."""
        return name in self._wanted["error"]

    def of(self, patches: torch.Tensor, **offered: Any) -> torch.Tensor:
        """Target (n, C, W) of patches (n, C, P)."""
        return self.component.of(patches, **self._chosen("of", 1, offered))

    def error(self, predicted: torch.Tensor, target: torch.Tensor, **offered: Any) -> torch.Tensor:
        """Error of each patch, (n, C)."""
        return self.component.error(predicted, target, **self._chosen("error", 2, offered))

    def pixels(
        self, predicted: torch.Tensor, patches: torch.Tensor, **offered: Any
    ) -> torch.Tensor:
        """Predicted patches (n, L, P) in normalised image space."""
        return self.component.pixels(predicted, patches, **self._chosen("pixels", 2, offered))

    def _chosen(self, method: str, given: int, offered: dict[str, Any]) -> dict[str, Any]:
        """What a method asks for beyond the arguments that it has to take."""
        names = self._wanted[method][given:]
        fitted = {"fitted": {name: getattr(self, name) for name in self._fitted}}
        known = {**self._shape, **fitted, **offered}
        return {name: known[name] for name in names if name in known}
