"""Models of a recipe: with a seed's initial weights, or with those of a finished pre-training."""

from collections.abc import Callable
from dataclasses import fields
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
    # generators of their own: a deeper decoder leaves the encoder's first weights as they are
    m = recipe.model
    encoder_rng, decoder_rng = generator(seed, "init/encoder"), generator(seed, "init/decoder")
    model = MaskedAutoencoder(
        image_size=recipe.data.image_size,
        channels=channels,
        target=target,
        loss_on=recipe.pretrain.loss_on,
        encoder=build_encoder(recipe, channels, encoder_rng),
        extra_tokens=recipe.encoder.extra_tokens,
        gradient_checkpointing=recipe.pretrain.gradient_checkpointing,
        **{each.name: getattr(m, each.name) for each in fields(m) if each.name != "encoder"},
    )
    return initialise(model, encoder_rng, decoder_rng)


def build_encoder(recipe: Recipe, channels: int, rng: torch.Generator) -> nn.Module | None:
    """Build a registered encoder, its weights drawn from a seed; None: the model has its own."""
    # a user's module draws from torch's global generator, which is given back as it was
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


def load_encoder(
    recipe: Recipe, channels: int, seed: int, upstream: PhaseFolder | None
) -> MaskedAutoencoder:
    """Build a model with the encoder of a finished pre-training; None: a seed's initial one."""
    model = build_model(recipe, channels, seed)
    if upstream is not None:
        weights = load_checkpoint(upstream.final_checkpoint(), "cpu")["model"]
        load_into(model, weights, encoder_only=True, place=upstream.name)
    return model


def load_target(
    recipe: Recipe, upstream: PhaseFolder | None, data: Dataset, device: str
) -> tuple[FittedTarget, FromImages | None]:
    """Make the target of a pre-training, and the function that computes it from whole images.

    The function is None where the target is made from patches, in the model.

    Args:
        upstream: the finished phase that fitted what the target needs.

    Raises:
        ValueError: a user's target gives wrong shapes or NaN.
    """
    target, patch, channels = recipe.target, recipe.model.patch_size, data.channels
    result = upstream.result() if target.needs else {}

    def load() -> dict:
        return load_checkpoint(upstream.final_checkpoint(), "cpu")

    # from whole images (dVAE), from patches by what was fitted (PCA), or from patches alone
    from_images = target.of_images(recipe, channels, load, result, device)
    from_patches = target.needs and not from_images
    kept = target.keep(load(), patch**2 * channels) if from_patches else {}
    fitted = FittedTarget(target, patch, channels, kept, getattr(from_images, "width", None))
    if target.component.plugin and from_images is None:
        _try_out(fitted, patch**2 * channels, recipe.grid)
    return fitted, from_images


def _try_out(target: FittedTarget, values: int, grid: int) -> None:
    """Compute a user's target of random patches once, before anything is trained."""
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
