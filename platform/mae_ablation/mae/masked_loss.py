"""The loss of a masked autoencoder and nothing else: what training computes.

It is the loss of `MaskedAutoencoder.forward` to the last bits of a float, by less arithmetic:
predictions only for patches whose error counts, and so the last decoder block only for those;
mask tokens, which before the first block are the same in every image, projected there once.
Tokens stand in the order of `shuffle`, not of the image: attention does not care.

Shapes as in model.py: n images, L patches, K kept, R = L - K removed, D and E widths.
"""

import torch
from timm.models.vision_transformer import Block
from torch import nn
from torch.utils.checkpoint import checkpoint

from mae_ablation.mae.masking import gather_patches
from mae_ablation.mae.model import MaskedAutoencoder
from mae_ablation.mae.targets import patchify
from mae_ablation.mae.transformer import Placed, run_block


class MaskedLoss(nn.Module):
    """A masked autoencoder as it is trained: called, it gives the loss (scalar).

    Args:
        recompute: blocks keep their input alone, and are run again in the backward pass.
    """

    def __init__(self, model: MaskedAutoencoder, *, recompute: bool = False) -> None:
        super().__init__()
        self.model = model
        self._run = recomputed if recompute else run_block

    def forward(
        self,
        images: torch.Tensor,
        shuffle: torch.Tensor,
        keep: int,
        tokens: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Arguments as for `MaskedAutoencoder.forward`."""
        model = self.model
        patches = patchify(images, model.patch_size)
        seen, removed = shuffle[:, :keep], shuffle[:, keep:]
        counted = removed if model.loss_on == "masked" else shuffle
        encoded = self._encode(gather_patches(patches, seen), seen, removed)
        predictions = self._decode(encoded, seen, removed, counted.shape[1])
        with torch.autocast(images.device.type, enabled=False):  # the target is always float32
            if tokens is None:
                target = model.target.of(gather_patches(patches, counted))
            else:
                target = tokens.gather(1, counted)
            return model.target.error(predictions.float(), target).mean()

    def _encode(
        self, kept: torch.Tensor, seen: torch.Tensor, removed: torch.Tensor
    ) -> torch.Tensor:
        """Encoder output (n, C + K, D); with mask tokens in the encoder (n, C + L, D)."""
        model = self.model
        positions = model.pos_embed[0, 1:]
        x = model.patch_embed(kept) + positions[seen]
        if model.cls_token is not None:
            cls = model.cls_token + model.pos_embed[:, :1]
            x = torch.cat([cls.expand(len(x), -1, -1), x], dim=1)
        placed = None
        if model.encoder_mask_token is not None:
            placed = Placed(model.encoder_mask_token[0] + positions, removed)
        for block in model.blocks:
            x, placed = self._run(block, x, placed), None
        return model.norm(x)

    def _decode(
        self,
        encoded: torch.Tensor,
        seen: torch.Tensor,
        removed: torch.Tensor,
        wanted: int,
    ) -> torch.Tensor:
        """Predictions of the last `wanted` tokens, (n, wanted, W): the removed patches, or all."""
        model = self.model
        positions = model.decoder_pos_embed[0, 1:]
        x = model.decoder_embed(encoded)
        placed, own = Placed(model.mask_token[0] + positions, removed), seen
        if model.encoder_mask_token is not None:
            placed, own = None, torch.cat([seen, removed], dim=1)
        at = positions[own]
        if model.cls_token is not None:
            cls = model.decoder_pos_embed[:, :1]
            at = torch.cat([cls.expand(len(x), -1, -1), at], dim=1)
        x = x + at
        *others, final = model.decoder_blocks
        for block in others:
            x, placed = self._run(block, x, placed), None
        if wanted == removed.shape[1]:
            x = self._run(final, x, placed, last=wanted)
        else:
            x = self._run(final, x, placed)[:, -wanted:]
        return model.decoder_pred(model.decoder_norm(x))


def recomputed(block: Block, *arguments: object, **options: object) -> torch.Tensor:
    """`run_block`, which keeps nothing for the backward pass but its arguments."""
    return checkpoint(
        run_block, block, *arguments, use_reentrant=False, preserve_rng_state=False, **options
    )
