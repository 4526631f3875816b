"""Features of whole images from a frozen encoder, which the linear probe and k-NN classify.

They come from a pre-trained encoder or, as reference rows, from a randomly initialised encoder or
from the pixels themselves.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch

from mae_ablation.data.augment import normalise
from mae_ablation.data.dataset import Dataset, Files, Split
from mae_ablation.data.feed import plain
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.train.models import encoder_of
from mae_ablation.train.precision import Precision
from mae_ablation.train.run import PhaseRun

ENCODE_BATCH = 512
KEPT_BYTES = 2**30  # of features that wait for the trial's next evaluation
Encode = Callable[[torch.Tensor], torch.Tensor]


@dataclass(slots=True)
class Recent:
    """What was encoded last, for the trial's next evaluation: linear probe and k-NN see the same
    features, and encoding them costs either more than all the rest."""

    key: Hashable = None
    encode: Encode | None = None
    features: dict[int, tuple[Split | Files, torch.Tensor]] = field(default_factory=dict)
    """by the split's id, which stays the split's own as long as it is held here"""

    def keep(self, split: Split | Files, features: torch.Tensor) -> None:
        """Hold a split's features, unless they are large."""
        held = sum(each.nbytes for _, each in self.features.values())
        if held + features.nbytes <= KEPT_BYTES:
            self.features[id(split)] = split, features


_recent = Recent()


def forget() -> None:
    """Drop what was encoded last, and the encoder."""
    global _recent
    _recent = Recent()


def encoder(
    recipe: Recipe, source: str, upstream: PhaseFolder | None, channels: int, seed: int, device: str
) -> Encode:
    """Maps normalised images (n, c, h, w) to features (n, width), without gradients.

    Args:
        source: "pretrain" (the upstream phase's last checkpoint), "random" (the same seed's
            initial weights) or "pixels".
    """
    global _recent
    settings = recipe.linear_probe
    weights = upstream and [found.name for found in upstream.checkpoints()]
    key = (
        *(source, upstream, weights, channels, seed, device, recipe.model, recipe.data),
        *(settings.pooling, settings.image_size, settings.precision),
    )
    if _recent.key != key:
        _recent = Recent(key, loaded_encoder(recipe, source, upstream, channels, seed, device))
    return _recent.encode


def loaded_encoder(
    recipe: Recipe, source: str, upstream: PhaseFolder | None, channels: int, seed: int, device: str
) -> Encode:
    """The encoder, with its weights read. Arguments as in `encoder`."""
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
    if encode is _recent.encode and id(split) in _recent.features:
        return _recent.features[id(split)][1]
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
    features = run.team.assemble(rows, parts, len(split)).to(run.device)
    if encode is _recent.encode:
        _recent.keep(split, features)
    return features
