"""One optimiser step of a masked autoencoder, ours and as two public libraries have it.

    python -m tests.bench.steps SIDE SHAPE     answers {"seconds": of a step}

Each side does what its own documentation shows: masks drawn in every step, pixels normalised per
patch as the target, AdamW. Ours is what a lane runs, its memory settings included. Each side is a
process of its own, as a user would have it: what one does to the allocator or to torch's settings
does not reach the others.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from .compare import Row, answers, seconds

Step = Callable[[torch.Tensor], None]
"""Takes normalised images (n, c, h, w)."""
PEERS = ("lightly", "transformers")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A masked autoencoder, a batch, and the threads that compute it. 75 % of patches masked."""

    name: str
    image_size: int
    patch_size: int
    channels: int
    encoder: tuple[int, int, int]
    """width, depth, heads"""
    decoder: tuple[int, int, int]
    batch: int
    threads: int = 1
    steps: int
    """of a round"""

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2


SHAPES = {
    "laptop": Shape(
        name="recipe laptop (30 px, patch 5, 96 x 3 + 64 x 1, batch 64)",
        image_size=30,
        patch_size=5,
        channels=1,
        encoder=(96, 3, 4),
        decoder=(64, 1, 4),
        batch=64,
        steps=40,
    ),
    "vit_base": Shape(
        name="ViT-B/16 (224 px, 768 x 12 + 512 x 8, batch 8)",
        image_size=224,
        patch_size=16,
        channels=3,
        encoder=(768, 12, 12),
        decoder=(512, 8, 16),
        batch=8,
        threads=2,
        steps=1,
    ),
}


def steps(rounds: int) -> list[Row]:
    """Compares our step with each peer's, at every shape."""
    rows = []
    for name, shape in SHAPES.items():
        took = {side: [] for side in ("ours", *PEERS)}
        for _ in range(rounds):
            for side, values in took.items():
                (answer,) = answers("steps", (side, name))
                values.append(answer["seconds"])
        rows += [
            Row(
                what=f"training step, {shape.name}",
                against=peer,
                ours=took["ours"],
                theirs=took[peer],
                note=f"The mean of {shape.steps} steps after two, on {shape.threads} thread(s), "
                "each side and round in a process of its own, in float32.",
            )
            for peer in PEERS
        ]
    return rows


def main(side: str, name: str) -> None:
    shape = SHAPES[name]
    torch.set_num_threads(shape.threads)
    torch.manual_seed(0)
    images = torch.randn(shape.batch, shape.channels, shape.image_size, shape.image_size)
    step = globals()[side](shape)
    for _ in range(2):
        step(images)
    took = seconds(lambda: step(images), shape.steps, shape.threads)
    print(json.dumps({"seconds": took}))


# the sides ---------------------------------------------------------------------------------------


def ours(shape: Shape) -> Step:
    """The product's step, as train/pretrain.py puts it together."""
    from mae_ablation.mae.fitted import FittedTarget
    from mae_ablation.mae.initialise import initialise
    from mae_ablation.mae.masking import random_shuffle
    from mae_ablation.mae.model import MaskedAutoencoder
    from mae_ablation.mae.targets.pixels import PixelNorm
    from mae_ablation.train.device import keep_freed_memory
    from mae_ablation.train.optim import decay_groups, generator

    keep_freed_memory()
    width, depth, heads = shape.encoder
    decoder_width, decoder_depth, decoder_heads = shape.decoder
    model = MaskedAutoencoder(
        image_size=shape.image_size,
        channels=shape.channels,
        patch_size=shape.patch_size,
        encoder_width=width,
        encoder_depth=depth,
        encoder_heads=heads,
        decoder_width=decoder_width,
        decoder_depth=decoder_depth,
        decoder_heads=decoder_heads,
        target=FittedTarget(PixelNorm(), shape.patch_size, shape.channels),
    )
    initialise(model, generator(0, "init/encoder"), generator(0, "init/decoder"))
    optimizer = torch.optim.AdamW(decay_groups(model, 0.05), lr=1e-4, fused=True)
    masks = generator(0, "mask")

    def step(images: torch.Tensor) -> None:
        shuffle = random_shuffle(len(images), shape.patches, masks)
        optimizer.zero_grad(set_to_none=True)
        model(images, shuffle, shape.patches // 4).backward()
        optimizer.step()

    return step


def lightly(shape: Shape) -> Step:
    """lightly's modules, put together as its documentation of MAE does."""
    from lightly.models import utils
    from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM
    from timm.models.vision_transformer import VisionTransformer

    width, depth, heads = shape.encoder
    decoder_width, decoder_depth, decoder_heads = shape.decoder
    vit = VisionTransformer(
        img_size=shape.image_size,
        patch_size=shape.patch_size,
        in_chans=shape.channels,
        num_classes=0,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
    )
    backbone = MaskedVisionTransformerTIMM(vit=vit)
    # goes with lightly 1.7; pyproject.toml pins 1.6
    decoder = MAEDecoderTIMM(
        num_patches=shape.patches,
        patch_size=shape.patch_size,
        in_chans=shape.channels,
        embed_dim=width,
        decoder_embed_dim=decoder_width,
        decoder_depth=decoder_depth,
        decoder_num_heads=decoder_heads,
    )
    optimizer = torch.optim.AdamW(
        [*backbone.parameters(), *decoder.parameters()], lr=1e-4, weight_decay=0.05
    )
    length, error = backbone.sequence_length, nn.MSELoss()

    def step(images: torch.Tensor) -> None:
        n = len(images)
        keep, mask = utils.random_token_mask(size=(n, length), mask_ratio=0.75)
        encoded = decoder.embed(backbone.encode(images=images, idx_keep=keep))
        tokens = utils.repeat_token(decoder.mask_token, (n, length))
        tokens = utils.set_at_index(tokens, keep, encoded.type_as(tokens))
        predicted = decoder.predict(utils.get_at_index(decoder.decode(tokens), mask))
        patches = utils.patchify(images, shape.patch_size)
        target = utils.normalize_mean_var(utils.get_at_index(patches, mask - 1))
        error(predicted, target).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def transformers(shape: Shape) -> Step:
    """`ViTMAEForPreTraining` of transformers, which returns its loss."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    width, depth, heads = shape.encoder
    decoder_width, decoder_depth, decoder_heads = shape.decoder
    config = ViTMAEConfig(
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        num_channels=shape.channels,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        decoder_hidden_size=decoder_width,
        decoder_num_hidden_layers=decoder_depth,
        decoder_num_attention_heads=decoder_heads,
        decoder_intermediate_size=4 * decoder_width,
        mask_ratio=0.75,
        norm_pix_loss=True,
    )
    model = ViTMAEForPreTraining(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)

    def step(images: torch.Tensor) -> None:
        model(images).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main(*sys.argv[1:])
