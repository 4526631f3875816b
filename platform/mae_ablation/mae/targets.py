"""What the decoder has to predict (paper, section 3 "Reconstruction target", Table 1d)."""

import torch


def patchify(images: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Images (n, c, h, w) -> patches (n, h/p x w/p, p x p x c): row, column, channel fastest."""
    n, c, h, w = images.shape
    p = patch_size
    grid = images.reshape(n, c, h // p, p, w // p, p)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(n, (h // p) * (w // p), p * p * c)


def unpatchify(patches: torch.Tensor, patch_size: int, grid: tuple[int, int]) -> torch.Tensor:
    """Inverse of `patchify`: (n, rows x columns, p x p x c) -> (n, c, rows x p, columns x p)."""
    n, p, (rows, columns) = len(patches), patch_size, grid
    cells = patches.reshape(n, rows, columns, p, p, -1)
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(n, -1, rows * p, columns * p)


def normalise_patches(patches: torch.Tensor) -> torch.Tensor:
    """Each patch minus its mean, over its standard deviation (unbiased, eps 1e-6 in the root).

    Statistics run over all p x p x c values of a patch together.
    """
    mean = patches.mean(dim=-1, keepdim=True)
    variance = patches.var(dim=-1, keepdim=True, unbiased=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def target_patches(patches: torch.Tensor, target: str) -> torch.Tensor:
    """Patches as they are for "pixel", normalised for "pixel_norm"."""
    return normalise_patches(patches) if target == "pixel_norm" else patches
