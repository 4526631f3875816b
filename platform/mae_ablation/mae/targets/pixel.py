"""Pixels as they are (paper, Table 1d)."""

from mae_ablation.registry import register


@register.target("pixel", version=1)
class Pixel:
    """Pixels of the normalised image."""

    def pixels(self, predicted, patches):
        """Predicted patches (n, L, P) in normalised image space."""
        return predicted
