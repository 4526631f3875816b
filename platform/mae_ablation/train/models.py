"""Models of a recipe: with a seed's initial weights, or with those of a finished pre-training."""

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import nn

from mae_ablation.data.dataset import Dataset
from mae_ablation.mae.checkpoints import load_into
from mae_ablation.mae.fitted import FittedTarget
from mae_ablation.mae.initialise import initialise
from mae_ablation.mae.model import MaskedAutoencoder
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.train.checkpoints import load_checkpoint
from mae_ablation.train.optim import generator

FromImages = Callable[[torch.Tensor], torch.Tensor]
"""pixels (n, c, h, w) in [0, 1] -> target (n, L) or (n, L, W)"""


def build_model(
    recipe: Recipe, channels: int, seed: int, target: FittedTarget | None = None
) -> MaskedAutoencoder:
    """Build the recipe's model with a seed's initial weights; target None: raw pixels."""
    m = recipe.model
    encoder_rng, decoder_rng = generator(seed, "init/encoder"), generator(seed, "init/decoder")
    model = MaskedAutoencoder(
        image_size=recipe.data.image_size,
        patch_size=m.patch_size,
        channels=channels,
        encoder_width=m.encoder_width,
        encoder_depth=m.encoder_depth,
        encoder_heads=m.encoder_heads,
        decoder_width=m.decoder_width,
        decoder_depth=m.decoder_depth,
        decoder_heads=m.decoder_heads,
        mlp_ratio=m.mlp_ratio,
        target=target,
        loss_on=recipe.pretrain.loss_on,
        encoder_mask_tokens=m.encoder_mask_tokens,
        class_token=m.class_token,
        encoder=build_encoder(recipe, channels, encoder_rng),
        extra_tokens=recipe.encoder.extra_tokens,
        gradient_checkpointing=recipe.pretrain.gradient_checkpointing,
    )
    return initialise(model, encoder_rng, decoder_rng)


def build_encoder(recipe: Recipe, channels: int, rng: torch.Generator) -> nn.Module | None:
    """Build a registered encoder with weights drawn from a generator's seed; None: the model's
    own."""
    m = recipe.model
    shape = SimpleNamespace(
        image_size=recipe.data.image_size,
        patch_size=m.patch_size,
        channels=channels,
        width=m.encoder_width,
        depth=m.encoder_depth,
        heads=m.encoder_heads,
        mlp_ratio=m.mlp_ratio,
        class_token=m.class_token,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.initial_seed())
        return recipe.encoder.build(shape)


def encoder_of(
    recipe: Recipe, channels: int, seed: int, upstream: PhaseFolder | None
) -> MaskedAutoencoder:
    """Build a model with the encoder of a finished pre-training; None: a seed's initial one."""
    model = build_model(recipe, channels, seed)
    if upstream is not None:
        weights = load_checkpoint(upstream.final_checkpoint(), "cpu")["model"]
        load_into(model, weights, encoder_only=True, place=upstream.name)
    return model


def target_of(
    recipe: Recipe, upstream: PhaseFolder | None, data: Dataset, device: str
) -> tuple[FittedTarget, FromImages | None]:
    """What a recipe's pre-training predicts, and what makes it from whole images where it is not
    made from patches.

    `upstream` is the finished phase of what the target needs.
    """
    target, patch, channels = recipe.target, recipe.model.patch_size, data.channels
    result = upstream.result() if target.needs else {}

    def load() -> dict:
        return load_checkpoint(upstream.final_checkpoint(), "cpu")

    from_images = target.of_images(recipe, channels, load, result, device)
    from_patches = target.needs and not from_images
    kept = target.keep(load(), patch**2 * channels) if from_patches else {}
    made = FittedTarget(target, patch, channels, kept, getattr(from_images, "width", None))
    if target.component.plugin and from_images is None:
        require_sound(made, patch**2 * channels, recipe.grid)
    return made, from_images


def require_sound(target: FittedTarget, values: int, grid: int) -> None:
    """Try a user's target on random patches, before anything is trained.

    Raises:
        ValueError: it does not give as many numbers as its width says, or NaN.
    """
    name = target.component.component.name
    patches = torch.rand(2, grid, values, generator=torch.Generator().manual_seed(0))
    index = torch.arange(grid).expand(2, -1)
    found = target.of(patches, index=index, grid=(grid, grid))
    if found.shape != (2, grid, target.width):
        raise ValueError(
            f"target {name} gives {found.shape[-1]} numbers for a patch (shape "
            f"{tuple(found.shape)}), its width is {target.width}"
        )
    if not found.isfinite().all():
        raise ValueError(f"target {name} gives NaN or infinite numbers for patches of pixels")
