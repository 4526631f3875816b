"""What the decoder has to predict (paper, section 3 "Reconstruction target", Table 1d).

A target says how many numbers are predicted for a patch, what they should be, and how wrong a
prediction is. Shapes as in model.py; P = p x p x c values of a patch.
"""

import torch
from torch import nn
from torch.nn import functional as F


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


def patch_statistics(patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (unbiased, eps 1e-6 in the root) of each patch, (n, L, 1).

    Statistics run over all p x p x c values of a patch together.
    """
    mean = patches.mean(dim=-1, keepdim=True)
    squares = (patches - mean).square().sum(dim=-1, keepdim=True)  # `var` takes 4 times as long
    return mean, (squares / (patches.shape[-1] - 1) + 1e-6).sqrt()


def normalise_patches(patches: torch.Tensor) -> torch.Tensor:
    """Each patch minus its mean, over its standard deviation."""
    mean, std = patch_statistics(patches)
    return (patches - mean) / std


class PixelTarget(nn.Module):
    """Pixels of the normalised image ("pixel"), or of each patch normalised ("pixel_norm")."""

    def __init__(self, width: int, *, per_patch: bool) -> None:
        super().__init__()
        self.width, self.per_patch = width, per_patch

    def of(self, patches: torch.Tensor) -> torch.Tensor:
        """Target (n, L, P) of patches (n, L, P)."""
        return normalise_patches(patches) if self.per_patch else patches

    def error(self, predictions: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean squared error of each patch, (n, L)."""
        return (predictions - target).square().mean(dim=-1)

    def pixels(self, predictions: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """Predicted patches (n, L, P) in normalised image space.

        `patches` are the true ones: where each patch was normalised, their mean and standard
        deviation have to be lent to the picture.
        """
        if not self.per_patch:
            return predictions
        mean, std = patch_statistics(patches)
        return predictions * std + mean


class PCATarget(nn.Module):
    """The first k principal components of a patch, unwhitened: z = (x - mean) W.

    W is orthonormal: at k = P the error is the pixel error.

    Args:
        mean: (P,) of training patches.
        components: (P, k), orthonormal columns.
    """

    def __init__(self, mean: torch.Tensor, components: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("components", components.clone())
        self.width = components.shape[1]

    def of(self, patches: torch.Tensor) -> torch.Tensor:
        """Coefficients (n, L, k) of patches (n, L, P)."""
        return (patches - self.mean) @ self.components

    def error(self, predictions: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Squared error of each patch, the mean over its components, (n, L)."""
        return (predictions - target).square().mean(dim=-1)

    def pixels(self, predictions: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """Predicted patches (n, L, P) in normalised image space: W z + mean."""
        return predictions @ self.components.T + self.mean


class TokenTarget(nn.Module):
    """Tokens of a tokeniser; they come from the whole image and are given to the model's loss."""

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.width = codes

    def error(self, predictions: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each patch, (n, L), of scores (n, L, codes) and tokens (n, L)."""
        return F.cross_entropy(predictions.transpose(1, 2), target, reduction="none")


Target = PixelTarget | PCATarget | TokenTarget
