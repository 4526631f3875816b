"""Pixels of patches that are normalised one by one (paper, section 3)."""

from mae_ablation.registry import register


@register.target("pixel_norm", version=1)
class PixelNorm:
    """Pixels of each patch, minus their mean, over their standard deviation."""

    lends_statistics = True

    def of(self, patches):
        """Normalised patches (n, C, P)."""
        from mae_ablation.mae.patches import normalise_patches

        return normalise_patches(patches)

    def pixels(self, predicted, patches):
        """Predicted patches (n, L, P) in normalised image space; mean and deviation of the true
        ones are lent to the picture."""
        from mae_ablation.mae.patches import patch_statistics

        mean, std = patch_statistics(patches)
        return predicted * std + mean
