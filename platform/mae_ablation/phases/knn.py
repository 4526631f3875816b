"""Phase `knn`: classification by nearest neighbours in feature space. No training, nothing tuned.

A vote of the k most similar training images (cosine), each weighted by exp(similarity /
temperature); features as in the linear probe.
"""

import time

import torch
from torch.nn import functional as F

from mae_ablation.data.dataset import load
from mae_ablation.phases.facts import facts
from mae_ablation.phases.linear_probe import encoder, extract
from mae_ablation.phases.memory import reset_peak_memory
from mae_ablation.phases.run import PhaseRun
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.study.recipe import Recipe

QUERIES = 256  # test images compared at a time


def knn(
    recipe: Recipe, seed: int, run: PhaseRun, *, source: str, upstream: PhaseFolder | None
) -> dict:
    """Returns what `result.json` holds. Arguments as in `linear_probe`."""
    reset_peak_memory(run.device)
    began = time.perf_counter()
    data = load(recipe.data)
    encode = encoder(recipe, source, upstream, data.channels, seed, run.device)
    bank = F.normalize(extract(data.train, encode, data, recipe, run), dim=1)
    labels = data.train.labels.to(run.device)

    def accuracy(split) -> float:
        queries = F.normalize(extract(split, encode, data, recipe, run), dim=1)
        votes = [vote(part, bank, labels, data.classes, recipe) for part in queries.split(QUERIES)]
        return 100 * (torch.cat(votes).cpu() == split.labels).float().mean().item()

    out = {"test_acc1": accuracy(data.test), "validation_acc1": accuracy(data.validation)}
    run.tell("knn", 1, 1, 0.0, len(data.train), time.perf_counter() - began)
    return {**out, "seconds": time.perf_counter() - began, **facts(run)}


def vote(
    queries: torch.Tensor, bank: torch.Tensor, labels: torch.Tensor, classes: int, recipe: Recipe
) -> torch.Tensor:
    """Classes (q,) of unit features (q, D), by the nearest of the bank (m, D)."""
    k = min(recipe.knn.neighbours, len(bank))
    similarity, nearest = (queries @ bank.T).topk(k, dim=1)
    weights = (similarity / recipe.knn.temperature).exp()
    scores = torch.zeros(len(queries), classes, device=queries.device)
    return scores.scatter_add_(1, labels[nearest], weights).argmax(dim=1)
