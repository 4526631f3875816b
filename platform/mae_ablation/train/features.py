"""Features of whole images from a frozen encoder, which the linear probe and k-NN classify.

They come from a pre-trained encoder or, as reference rows, from a randomly initialised encoder or
from the pixels themselves.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch

from mae_ablation.data.augment import normalise
from mae_ablation.data.dataset import Dataset, FileSplit, Split
from mae_ablation.data.feed import plain
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.train.models import encoder_of
from mae_ablation.train.precision import Precision
from mae_ablation.train.run import PhaseRun

ENCODE_BATCH = 512
CACHE_BYTES = 2**30  # of features
Encode = Callable[[torch.Tensor], torch.Tensor]


@dataclass(slots=True)
class FeatureCache:
    """The last encoder and its features, for the trial's next evaluation.

    Linear probe and k-NN see the same features, and encoding them costs more than all the rest.
    """

    key: Hashable = None
    encode: Encode | None = None
    features: dict[int, tuple[Split | FileSplit, torch.Tensor]] = field(default_factory=dict)
    """by the split's id, which stays the split's own as long as it is held here"""

    def keep(self, split: Split | FileSplit, features: torch.Tensor) -> None:
        """Hold a split's features, unless they are large."""
        held = sum(each.nbytes for _, each in self.features.values())
        if held + features.nbytes <= CACHE_BYTES:
            self.features[id(split)] = split, features


_cache = FeatureCache()


def clear_features() -> None:
    """Drop the last encoder and its features."""
    global _cache
    _cache = FeatureCache()


def encoder(
    recipe: Recipe, source: str, upstream: PhaseFolder | None, channels: int, seed: int, device: str
) -> Encode:
    """Return a function from normalised images (n, c, h, w) to features (n, width), frozen.

    Args:
        source: "pretrain" (the upstream phase's last checkpoint), "random" (the same seed's
            initial weights) or "pixels".
    """
    global _cache
    settings = recipe.linear_probe
    weights = upstream and [found.name for found in upstream.checkpoints()]
    key = (
        *(source, upstream, weights, channels, seed, device, recipe.model, recipe.data),
        *(settings.pooling, settings.image_size, settings.precision),
    )
    if _cache.key != key:
        _cache = FeatureCache(key, load_encoder(recipe, source, upstream, channels, seed, device))
    return _cache.encode


def load_encoder(
    recipe: Recipe, source: str, upstream: PhaseFolder | None, channels: int, seed: int, device: str
) -> Encode:
    """Build the encoder and read its weights. Arguments as in `encoder`."""
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
        with precision.autocast():
            encoded = [model.features(p, recipe.linear_probe.pooling) for p in parts]
        return torch.cat(encoded).float()

    return encode


def extract(
    split: Split | FileSplit, encode: Encode, data: Dataset, recipe: Recipe, run: PhaseRun
) -> torch.Tensor:
    """Encode a whole split with all workers, without augmentation: (n, width)."""
    if encode is _cache.encode and id(split) in _cache.features:
        return _cache.features[id(split)][1]
    batches = plain(
        split,
        run.device,
        ENCODE_BATCH,
        image_size=recipe.linear_probe.image_size,
        workers=recipe.data.workers,
        turns=run.workers.own_batches,
    )
    parts = [encode(normalise(pixels, data.mean, data.std)) for pixels, _ in batches]
    rows = list(torch.arange(len(split)).split(ENCODE_BATCH)[run.workers.own_batches])
    features = run.workers.gather_rows(rows, parts, len(split)).to(run.device)
    if encode is _cache.encode:
        _cache.keep(split, features)
    return features
