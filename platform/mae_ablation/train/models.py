"""Models of a recipe: with a seed's initial weights, or with those of a finished pre-training."""

from collections.abc import Callable

import torch

from mae_ablation.data.dataset import Dataset
from mae_ablation.mae.checkpoints import load_into
from mae_ablation.mae.dalle import load_dalle
from mae_ablation.mae.initialise import initialise
from mae_ablation.mae.model import MaskedAutoencoder
from mae_ablation.mae.targets import PCATarget, PixelTarget, Target, TokenTarget
from mae_ablation.mae.tokenizer import PatchTokenizer
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.train.checkpoints import load_checkpoint
from mae_ablation.train.optim import generator


class GateClosed(RuntimeError):
    """The tokeniser is not good enough for its tokens to be predicted."""

    on_all_ranks = True  # it follows from a result that all ranks read


Tokens = Callable[[torch.Tensor], torch.Tensor]
"""pixels (n, c, h, w) in [0, 1] -> tokens (n, L) int64"""


def build_model(
    recipe: Recipe, channels: int, seed: int, target: Target | None = None
) -> MaskedAutoencoder:
    """Build the recipe's model with a seed's initial weights; target None: raw pixels."""
    m = recipe.model
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
        gradient_checkpointing=recipe.pretrain.gradient_checkpointing,
    )
    return initialise(model, generator(seed, "init/encoder"), generator(seed, "init/decoder"))


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
) -> tuple[Target, Tokens | None]:
    """Make the recipe's target, and the tokeniser where the target is tokens.

    Args:
        upstream: the finished PCA or tokeniser phase.
    """
    target = recipe.pretrain.target
    if target == "pca":
        fitted = load_checkpoint(upstream.final_checkpoint(), "cpu")
        k = recipe.pca_components(data.channels)
        return PCATarget(fitted["mean"], fitted["components"][:, :k]), None
    if target == "dvae_token":
        if recipe.tokenizer.source == "in_domain":
            require_quality(recipe, upstream.result())
        tokenizer = tokenizer_of(recipe, upstream, data.channels).to(device).eval()
        grid = (recipe.grid, recipe.grid)
        return TokenTarget(tokenizer.vocabulary), lambda pixels: tokenizer.tokens(pixels, grid)
    width = recipe.model.patch_size**2 * data.channels
    return PixelTarget(width, per_patch=target == "pixel_norm"), None


def new_tokenizer(recipe: Recipe, channels: int) -> PatchTokenizer:
    """Build an untrained in-domain tokeniser."""
    t = recipe.tokenizer
    return PatchTokenizer(
        channels=channels,
        patch_size=recipe.model.patch_size,
        codes=t.codes,
    )


def tokenizer_of(recipe: Recipe, upstream: PhaseFolder | None, channels: int) -> torch.nn.Module:
    """Load the user's DALL-E encoder, or the in-domain tokeniser of its finished phase."""
    if recipe.tokenizer.source == "dalle":
        return load_dalle(recipe.tokenizer.file, recipe.tokenizer.sha256)
    tokenizer = new_tokenizer(recipe, channels)
    tokenizer.load_state_dict(load_checkpoint(upstream.final_checkpoint(), "cpu")["model"])
    return tokenizer


def require_quality(recipe: Recipe, result: dict) -> None:
    """Check an in-domain tokeniser against the recipe's gate.

    Raises:
        GateClosed: too few codes are in use, or they explain too little of the validation images.
    """
    gate, used, explained = recipe.tokenizer, result["perplexity"], result["explained"]
    if used < gate.min_perplexity:
        raise GateClosed(
            f"code perplexity {used:.1f} is below tokenizer.min_perplexity {gate.min_perplexity:g}"
        )
    if explained < gate.min_explained:
        raise GateClosed(
            f"the codes explain {explained:.0%} of the pixels' variance, "
            f"tokenizer.min_explained is {gate.min_explained:.0%}"
        )
