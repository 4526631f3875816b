"""Masked autoencoder, written from the paper (He et al., 2021, section 3 and appendix A).

Parameter names and shapes follow the published checkpoints, so those load as they are.

Shapes: n images, c channels, h x w pixels, p patch side, L patches, K kept patches,
        D encoder width, E decoder width, P = p x p x c values of a patch, W = numbers predicted
        for a patch (P for pixels), C = 1 with a class token, 0 without.
"""

from functools import partial
from typing import NamedTuple

import torch
from timm.models.vision_transformer import Block
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mae_ablation.mae.fitted import FittedTarget
from mae_ablation.mae.masking import gather_patches, removed_mask
from mae_ablation.mae.patches import patchify
from mae_ablation.mae.positions import interpolate_positions, position_table
from mae_ablation.mae.targets.pixels import Pixel


class Reconstruction(NamedTuple):
    """Holds predictions for every patch of some images, and which of them were removed."""

    predictions: torch.Tensor
    """(n, L, W), in image order, in the space of the target"""
    mask: torch.Tensor
    """(n, L): 0 kept, 1 removed"""


class PatchEmbed(nn.Module):
    """Linear map of a patch; `proj` has a convolution's shape to match published checkpoints."""

    def __init__(self, patch_size: int, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Embed patches (n, k, P) as (n, k, D); only those that are seen need to be given."""
        weight = self.proj.weight.permute(0, 2, 3, 1).flatten(1)  # (D, P), channel fastest
        return F.linear(patches, weight, self.proj.bias)


layer_norm = partial(nn.LayerNorm, eps=1e-6)


def build_blocks(depth: int, width: int, heads: int, mlp_ratio: float) -> nn.ModuleList:
    """Stack timm's Transformer blocks, as the published checkpoints have them."""
    return nn.ModuleList(
        Block(width, heads, mlp_ratio, qkv_bias=True, norm_layer=layer_norm) for _ in range(depth)
    )


class MaskedAutoencoder(nn.Module):
    """Encoder on the kept patches, light decoder on all of them.

    Args:
        image_size: side, or (height, width), in pixels.
        patch_size: side in pixels; must divide the image.
        channels: of the images.
        target: what is predicted; None: raw pixels.
        loss_on: "masked" or "all": the patches whose error counts.
        encoder_mask_tokens: the encoder sees a learned token in place of every removed patch, and
            hands all patches to the decoder, which adds none of its own (paper, Table 1c).
        class_token: whether there is one.
        encoder: what encodes instead of the paper's ViT (registry.Encoder.build); the encoder's
            sizes then only say its width.
        extra_tokens: that it has before those of patches, besides the class token.
        gradient_checkpointing: keep a block's input alone, and run it again in the backward pass.
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
        target: FittedTarget | None = None,
        loss_on: str = "masked",
        encoder_mask_tokens: bool = False,
        class_token: bool = True,
        encoder: nn.Module | None = None,
        extra_tokens: int = 0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        h, w = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.patch_size, self.loss_on = patch_size, loss_on
        self.gradient_checkpointing = gradient_checkpointing
        self.grid = (h // patch_size, w // patch_size)
        self.target = target or FittedTarget(Pixel(), patch_size, channels)

        def frozen(width: int) -> nn.Parameter:
            return nn.Parameter(position_table(width, self.grid), requires_grad=False)

        def token(width: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(1, 1, width))

        # names of parameters are those of published checkpoints; another encoder has its own
        self.encoder = encoder
        self.leading = class_token + extra_tokens
        """tokens before the patches"""
        own = encoder is None
        self.cls_token = token(encoder_width) if own and class_token else None
        self.pos_embed = frozen(encoder_width) if own else None
        self.mask_token = token(decoder_width)
        self.decoder_pos_embed = frozen(decoder_width)
        if own:
            self.patch_embed = PatchEmbed(patch_size, channels, encoder_width)
            self.blocks = build_blocks(encoder_depth, encoder_width, encoder_heads, mlp_ratio)
            self.norm = layer_norm(encoder_width)
        self.decoder_embed = nn.Linear(encoder_width, decoder_width)
        self.decoder_blocks = build_blocks(decoder_depth, decoder_width, decoder_heads, mlp_ratio)
        self.decoder_norm = layer_norm(decoder_width)
        self.decoder_pred = nn.Linear(decoder_width, self.target.width)
        self.encoder_mask_token = token(encoder_width) if encoder_mask_tokens else None
        self.mask_token.requires_grad_(not encoder_mask_tokens)  # the decoder then adds none

    def forward(
        self,
        images: torch.Tensor,
        shuffle: torch.Tensor,
        keep: int,
        given: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Average the error over the removed patches, or over all (paper, section 3): a scalar.

        Args:
            images: (n, c, h, w), normalised.
            shuffle: (n, L) permutation of the patches, the kept ones first (masking.py).
            keep: patches that stay visible, 1 to L - 1.
            given: (n, L) or (n, L, W), the target where it was made from whole images.
        """
        # the patches whose error counts stand last in `shuffle`: only these are predicted
        counted = shuffle if self.loss_on == "all" else shuffle[:, keep:]
        patches = patchify(images, self.patch_size)
        encoded = self.encode_images(images, patches, shuffle, keep)
        predictions = self.decode(encoded, shuffle, counted.shape[1])

        # the error is float32 under autocast, too
        with torch.autocast(images.device.type, enabled=False):
            which = {"index": counted, "grid": self.grid}
            seen = {**which, "shuffle": shuffle, "keep": keep, "leading": self.leading}
            if self.target.wants("encoded"):
                seen["encoded"] = encoded.float()
            if given is None or self.target.wants("patches"):
                seen["patches"] = gather_patches(patches, counted)
            if given is None:
                target = self.target.of(seen["patches"], **which)
            elif given.ndim == 2:
                target = given.gather(1, counted)
            else:
                target = gather_patches(given, counted)
            return self.target.error(predictions.float(), target, **seen).mean()

    def reconstruct(self, images: torch.Tensor, shuffle: torch.Tensor, keep: int) -> Reconstruction:
        """Predict every patch, the visible ones too. Arguments as in `forward`."""
        patches = patchify(images, self.patch_size)
        encoded = self.encode_images(images, patches, shuffle, keep)
        predictions = self.decode(encoded, shuffle, shuffle.shape[1])
        # predictions come in the order of the permutation
        in_image_order = gather_patches(predictions, shuffle.argsort(dim=1))
        return Reconstruction(in_image_order, removed_mask(shuffle, keep))

    def encode_images(
        self, images: torch.Tensor, patches: torch.Tensor, shuffle: torch.Tensor, keep: int
    ) -> torch.Tensor:
        """Encode the visible patches by whichever encoder: (n, leading + K, D)."""
        if self.encoder is None:
            return self.encode(patches, shuffle, keep)
        return self.encoder(images, shuffle[:, :keep])

    def encode(
        self, patches: torch.Tensor, shuffle: torch.Tensor | None = None, keep: int | None = None
    ) -> torch.Tensor:
        """Encode patches, up to the last norm, class token first: (n, C + K, D).

        Without `shuffle` the encoder sees all patches (n, L, P), in image order. With it, it sees
        the first `keep` of the permutation, in that order; an encoder that takes mask tokens sees
        these behind them, in place of the removed patches: (n, C + L, D).
        """
        # only patches that are seen are embedded: a quarter of the work (section 3)
        positions = self.pos_embed[0, 1:]
        if shuffle is None:
            x = self.patch_embed(patches) + positions
        else:
            seen, removed = shuffle[:, :keep], shuffle[:, keep:]
            x = self.patch_embed(gather_patches(patches, seen)) + positions[seen]
            # Table 1c's variant: mask tokens go through the encoder, at its cost
            if self.encoder_mask_token is not None:
                x = torch.cat([x, self.encoder_mask_token + positions[removed]], dim=1)
        if self.cls_token is not None:
            cls = self.cls_token + self.pos_embed[:, :1]
            x = torch.cat([cls.expand(len(x), -1, -1), x], dim=1)
        return self.norm(self._run(self.blocks, x))

    def decode(self, encoded: torch.Tensor, shuffle: torch.Tensor, last: int) -> torch.Tensor:
        """Predict (n, last, W) the last so many patches of the permutation.

        `encoded` is what `encode` returns; where it holds mask tokens, the decoder adds none.
        """
        # tokens stay in the order of `shuffle`, on which attention does not depend
        x = self.decoder_embed(encoded)
        lead, patches = x[:, : self.leading], x[:, self.leading :]
        # a learned token stands for every removed patch, told apart by its position
        if self.encoder_mask_token is None:
            missing = shuffle.shape[1] - patches.shape[1]
            patches = torch.cat([patches, self.mask_token.expand(len(x), missing, -1)], dim=1)
        # registers, if an encoder has them, share the class token's position
        lead = lead + self.decoder_pos_embed[:, :1]
        x = torch.cat([lead, patches + self.decoder_pos_embed[0, 1:][shuffle]], dim=1)
        x = self._run(self.decoder_blocks, x)[:, -last:]
        return self.decoder_pred(self.decoder_norm(x))

    def _run(self, blocks: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        for block in blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                # nothing in a block is random, so no state of a generator needs to be kept
                x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x)
        return x

    def at_grid(self, grid: tuple[int, int]) -> None:
        """Take the encoder to images of another grid of patches: positions are interpolated."""
        if self.encoder is not None:
            raise ValueError("an encoder of its own has one image size: leave image_size out")
        table = interpolate_positions(self.pos_embed.data, self.grid, grid, extra_tokens=1)
        self.pos_embed = nn.Parameter(table, requires_grad=False)
        self.grid = grid

    def features(self, images: torch.Tensor, pooling: str) -> torch.Tensor:
        """Encode whole images as (n, D): class token ("cls") or mean patch token ("mean")."""
        own = self.encoder is None
        x = self.encode(patchify(images, self.patch_size)) if own else self.encoder(images, None)
        return x[:, 0] if pooling == "cls" else x[:, self.leading :].mean(dim=1)
