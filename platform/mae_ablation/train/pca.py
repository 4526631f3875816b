"""Phase `pca`: principal components of training patches, once for all seeds of a study.

Patches are those the model sees: of normalised, unaugmented training images, held-out ones
excluded. The paper keeps the 96 largest coefficients of 768 (Table 1d).
"""

import time

import torch

from mae_ablation.data.augment import View, normalise
from mae_ablation.data.dataset import load
from mae_ablation.data.feed import Feed
from mae_ablation.mae.targets import patchify
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.train.checkpoints import checkpoint_bytes
from mae_ablation.train.device import reset_peak_memory
from mae_ablation.train.optim import generator
from mae_ablation.train.run import PhaseRun

PATCHES = 1_000_000
"""number of patches that the covariance is estimated on"""
BATCH = 512


def pca(recipe: Recipe, run: PhaseRun) -> dict:
    """Fit and save `mean` (P,), `components` (P, P) by falling `eigenvalues` (P,).

    Returns the content of `result.json`.
    """
    reset_peak_memory(run.device)
    began = time.perf_counter()

    # images spread evenly over the training split
    data = load(recipe.data)
    images = min(len(data.train), max(1, PATCHES // recipe.patches))
    index = torch.linspace(0, len(data.train) - 1, images).round().long()
    width = recipe.model.patch_size**2 * data.channels
    count, total, products = 0, torch.zeros(width).double(), torch.zeros(width, width).double()

    # covariance in float64, image by image
    feed = Feed(data.train, View(augmentation="none"), workers=recipe.data.workers)
    for pixels, _ in feed.batches(index.split(BATCH), generator(0, "pca")):
        batch = normalise(pixels, data.mean, data.std)
        patches = patchify(batch, recipe.model.patch_size).flatten(0, 1).double()
        count += len(patches)
        total += patches.sum(dim=0)
        products += patches.T @ patches
    mean = total / count
    values, vectors = torch.linalg.eigh(products / count - mean[:, None] * mean[None])

    # largest first; the sign of a component is arbitrary, so it is fixed
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    vectors = vectors * largest.sign()
    fitted = {"mean": mean, "components": vectors, "eigenvalues": values}
    run.folder.save_checkpoint(
        1, checkpoint_bytes({name: value.float() for name, value in fitted.items()})
    )
    return {
        "patches": count,
        "explained": (values.cumsum(0) / values.sum()).tolist(),
        "seconds": time.perf_counter() - began,
        **run.describe(),
    }
