"""Masked autoencoder, written from the paper (He et al., 2021, section 3 and appendix A).

Parameter names and shapes follow the published checkpoints, so those load as they are.

Shapes: n images, c channels, h x w pixels, p patch side, L patches, K kept patches,
        D encoder width, E decoder width, P = p x p x c values of a patch.
"""

from typing import NamedTuple

import torch
from timm.models.vision_transformer import Block
from torch import nn
from torch.nn import functional as F

from mae_ablation.mae.masking import gather_patches, removed_mask
from mae_ablation.mae.positions import position_table
from mae_ablation.mae.targets import patchify, target_patches


class Reconstruction(NamedTuple):
    """What one forward pass gives."""

    loss: torch.Tensor
    """scalar: mean squared error over the removed patches"""
    predictions: torch.Tensor
    """(n, L, P), in image order, in the space of the target"""
    mask: torch.Tensor
    """(n, L): 0 kept, 1 removed"""


class PatchEmbed(nn.Module):
    """Linear map of a patch; `proj` has a convolution's shape to match published checkpoints."""

    def __init__(self, patch_size: int, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches (n, k, P) -> (n, k, D). Only patches that are seen need to be given."""
        weight = self.proj.weight.permute(0, 2, 3, 1).flatten(1)  # (D, P), channel fastest
        return F.linear(patches, weight, self.proj.bias)


def blocks(depth: int, width: int, heads: int, mlp_ratio: float) -> nn.ModuleList:
    return nn.ModuleList(
        Block(width, heads, mlp_ratio, qkv_bias=True, norm_layer=layer_norm) for _ in range(depth)
    )


def layer_norm(width: int, **kwargs) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6, **kwargs)


class MaskedAutoencoder(nn.Module):
    """Encoder on the kept patches, light decoder on all of them.

    Args:
        image_size: side, or (height, width), in pixels.
        patch_size: side in pixels; must divide the image.
        channels: of the images.
        target: "pixel" or "pixel_norm".
    """

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int],
        patch_size: int,
        channels: int,
        encoder_width: int,
        encoder_depth: int,
        encoder_heads: int,
        decoder_width: int,
        decoder_depth: int,
        decoder_heads: int,
        mlp_ratio: float = 4.0,
        target: str = "pixel",
    ) -> None:
        super().__init__()
        h, w = (image_size, image_size) if isinstance(image_size, int) else image_size
        if h % patch_size or w % patch_size:
            raise ValueError(f"image {h} x {w} is not divisible by patch size {patch_size}")
        self.patch_size, self.target = patch_size, target
        self.grid = (h // patch_size, w // patch_size)

        def frozen(width: int) -> nn.Parameter:
            return nn.Parameter(position_table(width, self.grid), requires_grad=False)

        self.cls_token = nn.Parameter(torch.zeros(1, 1, encoder_width))
        self.pos_embed = frozen(encoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        self.decoder_pos_embed = frozen(decoder_width)
        self.patch_embed = PatchEmbed(patch_size, channels, encoder_width)
        self.blocks = blocks(encoder_depth, encoder_width, encoder_heads, mlp_ratio)
        self.norm = layer_norm(encoder_width)
        self.decoder_embed = nn.Linear(encoder_width, decoder_width)
        self.decoder_blocks = blocks(decoder_depth, decoder_width, decoder_heads, mlp_ratio)
        self.decoder_norm = layer_norm(decoder_width)
        self.decoder_pred = nn.Linear(decoder_width, patch_size**2 * channels)

    def encode(self, patches: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        """Encoder output after its last norm, class token first: (n, 1 + K, D).

        `patches` (n, K, P) stand at positions `index` (n, K); None: all patches, in order.
        """
        positions = self.pos_embed[:, 1:]
        if index is not None:
            positions = gather_patches(positions.expand(len(patches), -1, -1), index)
        x = self.patch_embed(patches) + positions
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([cls, x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def decode(self, tokens: torch.Tensor, shuffle: torch.Tensor) -> torch.Tensor:
        """Predictions (n, L, P) in image order from encoder output (n, 1 + K, D)."""
        x = self.decoder_embed(tokens)
        missing = shuffle.shape[1] - (x.shape[1] - 1)
        masks = self.mask_token.expand(len(x), missing, -1)
        patches = torch.cat([x[:, 1:], masks], dim=1)
        patches = gather_patches(patches, shuffle.argsort(dim=1))
        x = torch.cat([x[:, :1], patches], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x)[:, 1:])

    def forward(self, images: torch.Tensor, shuffle: torch.Tensor, keep: int) -> Reconstruction:
        """Loss over the removed patches (paper, section 3).

        Args:
            images: (n, c, h, w), normalised.
            shuffle: (n, L) permutation of the patches, the kept ones first (masking.py).
            keep: how many patches the encoder sees, 1 to L - 1.
        """
        patches = patchify(images, self.patch_size)
        seen = shuffle[:, :keep]
        predictions = self.decode(self.encode(gather_patches(patches, seen), seen), shuffle)
        mask = removed_mask(shuffle, keep)
        error = (predictions - target_patches(patches, self.target)).square().mean(dim=-1)
        return Reconstruction((error * mask).sum() / mask.sum(), predictions, mask)

    def features(self, images: torch.Tensor, pooling: str) -> torch.Tensor:
        """Features (n, D) of whole images: class token ("cls") or mean patch token ("mean")."""
        x = self.encode(patchify(images, self.patch_size))
        return x[:, 0] if pooling == "cls" else x[:, 1:].mean(dim=1)


OFFICIAL_SHAPES = {
    "mae_vit_base_patch16": (16, 768, 12, 12),
    "mae_vit_large_patch16": (16, 1024, 24, 16),
    "mae_vit_huge_patch14": (14, 1280, 32, 16),
}


def official_model(name: str, *, target: str = "pixel") -> MaskedAutoencoder:
    """The paper's ViT-B/16, ViT-L/16 or ViT-H/14 at 224 x 224, decoder 8 x 512 (appendix A).

    The state dict has the names and shapes of the published checkpoints of that name.
    """
    patch_size, width, depth, heads = OFFICIAL_SHAPES[name]
    return MaskedAutoencoder(
        image_size=224,
        patch_size=patch_size,
        channels=3,
        encoder_width=width,
        encoder_depth=depth,
        encoder_heads=heads,
        decoder_width=512,
        decoder_depth=8,
        decoder_heads=16,
        target=target,
    )
