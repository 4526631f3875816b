"""The four panels of the paper's Figures 2 and 3: original, masked, reconstruction, pasted.

pasted: the reconstruction of removed patches between the visible ones as they are.
"""

from typing import NamedTuple

import torch

from mae_ablation.mae.model import MaskedAutoencoder
from mae_ablation.mae.patches import patchify, unpatchify

GREY = 0.5  # of a removed patch, between black and white


class Panels(NamedTuple):
    """Each (n, c, h, w), pixels in [0, 1]."""

    original: torch.Tensor
    masked: torch.Tensor
    reconstruction: torch.Tensor
    pasted: torch.Tensor


@torch.no_grad()
def panels(
    model: MaskedAutoencoder,
    images: torch.Tensor,
    shuffle: torch.Tensor,
    keep: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Panels:
    """Draw panels of normalised images (n, c, h, w); arguments as in the model's `reconstruct`."""
    out = model.reconstruct(images, shuffle, keep)
    patches = patchify(images, model.patch_size)
    mean, std = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (mean, std))

    # from normalised patches to an image that can be shown
    def pixels(these: torch.Tensor) -> torch.Tensor:
        return (unpatchify(these, model.patch_size, model.grid) * std + mean).clamp(0, 1)

    whole = model.target.pixels(out.predictions, patches, grid=model.grid)

    # visible patches are pasted over the reconstruction, which predicts them, too
    mask = out.mask[..., None]
    original = pixels(patches)
    return Panels(
        original=original,
        masked=hide(original, out.mask, model.grid[0]),
        reconstruction=pixels(whole),
        pasted=pixels(patches * (1 - mask) + whole * mask),
    )


def hide(images: torch.Tensor, mask: torch.Tensor, rows: int) -> torch.Tensor:
    """Paint the removed patches of pixels (n, c, h, w) grey; the mask (n, L) has so many rows."""
    # a patch's sides follow from the mask: the model is not needed here
    height, width = images.shape[2] // rows, images.shape[3] * rows // mask.shape[1]
    hidden = mask.view(len(mask), 1, rows, -1)
    hidden = hidden.repeat_interleave(height, -2).repeat_interleave(width, -1)
    return images * (1 - hidden) + GREY * hidden
