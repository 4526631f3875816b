"""Pixels as they are, or of patches that are normalised one by one (paper, section 3)."""

from mae_ablation.registry import register


@register.target("pixel", version=1)
class Pixel:
    """Pixels of the normalised image."""

    def pixels(self, predicted, patches):
        return predicted


@register.target("pixel_norm", version=1)
class PixelNorm:
    """Pixels of each patch, minus their mean, over their standard deviation."""

    lends_statistics = True

    def of(self, patches):
        from mae_ablation.mae.patches import normalise_patches

        return normalise_patches(patches)

    def pixels(self, predicted, patches):
        # the picture borrows mean and deviation of the true patches
        from mae_ablation.mae.patches import patch_statistics

        mean, std = patch_statistics(patches)
        return predicted * std + mean
