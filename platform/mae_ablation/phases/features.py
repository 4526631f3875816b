"""Features of whole images from a frozen encoder, which the linear probe and k-NN classify.

They come from a pre-trained encoder or, as reference rows, from a randomly initialised encoder or
from the pixels themselves.
"""

from collections.abc import Callable

import torch

from mae_ablation.data.augment import normalise
from mae_ablation.data.dataset import Dataset, Files, Split
from mae_ablation.data.feed import plain
from mae_ablation.phases.models import encoder_of
from mae_ablation.phases.precision import Precision
from mae_ablation.phases.run import PhaseRun
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.study.recipe import Recipe

ENCODE_BATCH = 512
Encode = Callable[[torch.Tensor], torch.Tensor]


def encoder(
    recipe: Recipe, source: str, upstream: PhaseFolder | None, channels: int, seed: int, device: str
) -> Encode:
    """Maps normalised images (n, c, h, w) to features (n, width), without gradients.

    Args:
        source: "pretrain" (the upstream phase's last checkpoint), "random" (the same seed's
            initial weights) or "pixels".
    """
    precision = Precision(recipe.linear_probe.precision, device)
    if source == "pixels":
        return lambda images: images.flatten(1)
    model = encoder_of(recipe, channels, seed, upstream)
    if recipe.linear_probe.image_size:
        side = recipe.linear_probe.image_size // recipe.model.patch_size
        model.at_grid((side, side))
    model.to(device).eval()

    @torch.no_grad()
    def encode(images: torch.Tensor) -> torch.Tensor:
        parts = images.split(ENCODE_BATCH)
        with precision.forward():
            encoded = [model.features(p, recipe.linear_probe.pooling) for p in parts]
        return torch.cat(encoded).float()

    return encode


def extract(
    split: Split | Files, encode: Encode, data: Dataset, recipe: Recipe, run: PhaseRun
) -> torch.Tensor:
    """Features (n, width) of a whole split, without augmentation, encoded by all workers."""
    batches = plain(
        split,
        run.device,
        ENCODE_BATCH,
        image_size=recipe.linear_probe.image_size,
        workers=recipe.data.workers,
        turns=run.team.turns,
    )
    parts = [encode(normalise(pixels, data.mean, data.std)) for pixels, _ in batches]
    rows = list(torch.arange(len(split)).split(ENCODE_BATCH)[run.team.turns])
    return run.team.assemble(rows, parts, len(split)).to(run.device)
