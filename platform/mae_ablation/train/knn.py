"""Phase `knn`: classification by nearest neighbours in feature space. No training, nothing tuned.

A vote of the k most similar training images (cosine), each weighted by exp(similarity /
temperature); features as in the linear probe. The vote and its temperature 0.07 are those of Wu et
al. 2018 (Unsupervised Feature Learning via Non-Parametric Instance Discrimination), k = 20 is what
Caron et al. 2021 (DINO) found best.
"""

import time

import torch
from torch.nn import functional as F

from mae_ablation.data.dataset import Files, Split, load
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.train.device import reset_peak_memory
from mae_ablation.train.evaluation import accuracy, draw_labelled_images, save_predictions
from mae_ablation.train.features import encoder, extract
from mae_ablation.train.run import PhaseRun

QUERIES = 256  # test images compared at a time


def knn(
    recipe: Recipe, seed: int, run: PhaseRun, *, source: str, upstream: PhaseFolder | None
) -> dict:
    """Classify validation and test split; returns the content of `result.json`.

    Arguments as in `features.encoder`.
    """
    reset_peak_memory(run.device)
    began = time.perf_counter()

    # the bank: labelled training images
    data = load(recipe.data)
    encode = encoder(recipe, source, upstream, data.channels, seed, run.device)
    seen = draw_labelled_images(data, recipe.knn.labels, seed)
    bank = F.normalize(extract(seen, encode, data, recipe, run), dim=1)
    labels = seen.labels.to(run.device)

    def predict(split: Split | Files) -> torch.Tensor:
        queries = F.normalize(extract(split, encode, data, recipe, run), dim=1)
        votes = [vote(part, bank, labels, data.classes, recipe) for part in queries.split(QUERIES)]
        return torch.cat(votes).cpu()

    out = {
        **save_predictions(run, predict(data.test), data.test.labels, data.classes),
        "validation_acc1": accuracy(predict(data.validation), data.validation.labels),
    }
    run.report_epoch("knn", 1, 1, 0.0, len(seen), time.perf_counter() - began)
    return {**out, "seconds": time.perf_counter() - began, **run.describe()}


def vote(
    queries: torch.Tensor, bank: torch.Tensor, labels: torch.Tensor, classes: int, recipe: Recipe
) -> torch.Tensor:
    """Classify unit features (q, D) by the nearest of the bank (m, D); returns classes (q,)."""
    k = min(recipe.knn.neighbours, len(bank))
    similarity, nearest = (queries @ bank.T).topk(k, dim=1)
    weights = (similarity / recipe.knn.temperature).exp()
    scores = torch.zeros(len(queries), classes, device=queries.device)
    return scores.scatter_add_(1, labels[nearest], weights).argmax(dim=1)
