"""Sides: one optimiser step of a masked autoencoder, ours and as two public libraries have it.

Each side does what its own documentation shows: masks drawn in every step, pixels normalised per
patch as the target, AdamW. Ours is what a lane runs, its memory settings included.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from mae_ablation.bench.shapes import Shape

Step = Callable[[torch.Tensor], None]
"""takes normalised images (n, c, h, w)"""


def ours(shape: Shape, precision: str = "float32") -> Step:
    """The product's step, as train/pretrain.py puts it together."""
    from mae_ablation.mae.initialise import initialise
    from mae_ablation.mae.masking import random_shuffle
    from mae_ablation.mae.model import MaskedAutoencoder
    from mae_ablation.mae.targets import PixelTarget
    from mae_ablation.recipe.batch import limit_micro_batch
    from mae_ablation.recipe.recipe import Data, Model, Pretrain, Recipe
    from mae_ablation.train.device import keep_freed_memory
    from mae_ablation.train.optim import decay_groups, generator
    from mae_ablation.train.precision import Precision

    keep_freed_memory()
    (width, depth, heads), (decoder_width, decoder_depth, decoder_heads) = (
        shape.encoder,
        shape.decoder,
    )
    sizes = dict(
        patch_size=shape.patch_size,
        encoder_width=width,
        encoder_depth=depth,
        encoder_heads=heads,
        decoder_width=decoder_width,
        decoder_depth=decoder_depth,
        decoder_heads=decoder_heads,
    )
    target = PixelTarget(shape.patch_size**2 * shape.channels, per_patch=True)
    model = MaskedAutoencoder(
        image_size=shape.image_size, channels=shape.channels, target=target, **sizes
    )
    initialise(model, generator(0, "init/encoder"), generator(0, "init/decoder"))
    optimizer = torch.optim.AdamW(decay_groups(model, 0.05), lr=1e-4, fused=True)
    autocast, masks = Precision(precision, "cpu"), generator(0, "mask")
    recipe = Recipe(
        data=Data(image_size=shape.image_size),
        model=Model(**sizes),
        pretrain=Pretrain(batch_size=shape.batch, mask_ratio=0.75),
    )
    at_once = limit_micro_batch(recipe, 1, None, on_gpu=False) or shape.batch

    def step(images: torch.Tensor) -> None:
        shuffles = random_shuffle(len(images), shape.patches, masks)
        optimizer.zero_grad(set_to_none=True)
        for part, shuffle in zip(images.split(at_once), shuffles.split(at_once), strict=True):
            with autocast.autocast():
                loss = model(part, shuffle, shape.keep)
            (loss * (len(part) / len(images))).backward()
        optimizer.step()

    return step


def lightly(shape: Shape) -> Step:
    """lightly's modules, put together as its documentation of MAE does."""
    from lightly.models import utils
    from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM
    from timm.models.vision_transformer import VisionTransformer

    (width, depth, heads), (decoder_width, decoder_depth, decoder_heads) = (
        shape.encoder,
        shape.decoder,
    )
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
        loss = error(predicted, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def transformers(shape: Shape) -> Step:
    """`ViTMAEForPreTraining` of transformers, which returns its loss."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    (width, depth, heads), (decoder_width, decoder_depth, decoder_heads) = (
        shape.encoder,
        shape.decoder,
    )
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


SIDES: dict[str, Callable[[Shape], Step]] = {
    "ours": ours,
    "ours, bfloat16": partial(ours, precision="bfloat16"),
    "lightly": lightly,
    "transformers": transformers,
}
