"""Histograms of oriented gradients as what is predicted (Wei et al., 2021, MaskFeat)."""

import math

from mae_ablation import register


@register.target("hog", version=1)
class Hog:
    """A histogram of the directions of each patch's gradients."""

    bins: int = 9

    def width(self, patch_values):
        return self.bins

    def of(self, patches, patch_size, channels):
        """Unit histograms (n, C, bins) of patches (n, C, P)."""
        import torch
        from torch.nn import functional as F

        grey = patches.unflatten(-1, (patch_size, patch_size, channels)).mean(dim=-1)
        down = grey.diff(dim=-2)[..., :, :-1]
        right = grey.diff(dim=-1)[..., :-1, :]
        direction = torch.atan2(down, right) % math.pi
        place = (direction / math.pi * self.bins).long().clamp(max=self.bins - 1)
        counts = torch.zeros(*patches.shape[:2], self.bins, device=patches.device)
        counts.scatter_add_(-1, place.flatten(-2), torch.hypot(down, right).flatten(-2))
        return F.normalize(counts, dim=-1)
