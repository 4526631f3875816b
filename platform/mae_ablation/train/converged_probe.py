"""Linear probe, protocol `converged`: logistic regression on cached features, to its one solution.

Nothing is drawn: two runs on the same features agree, so what differs between seeds is the encoder
(and, where the recipe limits them, the labels). It takes seconds, so an interrupted one starts
over. The penalty is the one best on validation, the strongest of equals.
"""

import time
from dataclasses import dataclass

import torch

from mae_ablation.data.dataset import load_dataset
from mae_ablation.recipe.cost import encoder_flops
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.study.speed import converged_flops
from mae_ablation.train.device import reset_peak_memory
from mae_ablation.train.evaluation import accuracy, draw_labelled_images, save_predictions
from mae_ablation.train.features import encoder, extract
from mae_ablation.train.logistic_regression import LogisticRegression
from mae_ablation.train.run import PhaseRun, Stopped


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PenaltyFit:
    """A penalty, its solution, and how well that classifies."""

    penalty: float
    objective: float
    converged: bool
    validation_acc1: float
    predicted: torch.Tensor
    """classes (n,) of the test images"""


def converged_probe(
    recipe: Recipe, seed: int, run: PhaseRun, *, source: str, upstream: PhaseFolder | None
) -> dict:
    """Solve for every penalty, test the one best on validation; returns `result.json`'s content.

    Every worker encodes some of the images; rank zero solves, the others wait. Arguments as in
    `features.encoder`.

    Raises:
        Stopped: the run was to stop; nothing is kept.
    """
    settings, workers = recipe.linear_probe, run.workers
    reset_peak_memory(run.device)
    began = time.perf_counter()

    # frozen features
    data = load_dataset(recipe.data)
    encode = encoder(recipe, source, upstream, data.channels, seed, run.device)
    seen = draw_labelled_images(data, settings.labels, seed)
    train, validation, test = (
        extract(split, encode, data, recipe, run) for split in (seen, data.validation, data.test)
    )

    # one solution per penalty, each from the one before: rank zero's work
    regression: LogisticRegression | None = None

    def fit(penalty: float) -> PenaltyFit:
        nonlocal regression
        if regression is None:
            labels = seen.labels.to(run.device)
            regression = LogisticRegression(train.double(), labels, data.classes)
        solution = regression.solve(penalty)
        predicted = [solution.scores(part).argmax(dim=1).cpu() for part in (validation, test)]
        return PenaltyFit(
            penalty=penalty,
            objective=solution.objective,
            converged=solution.converged,
            validation_acc1=accuracy(predicted[0], data.validation.labels),
            predicted=predicted[1],
        )

    fits: list[PenaltyFit] = []
    for penalty in settings.penalties:
        if workers.broadcast(run.stop()):
            raise Stopped(f"stopped before penalty {penalty:g}")
        fits.append(workers.on_rank_zero(lambda penalty=penalty: fit(penalty)))

    # the one best on validation, the strongest of equals: `max` takes the first
    best = max(fits, key=lambda each: each.validation_acc1)
    at_edge = len(fits) > 1 and best in (fits[0], fits[-1])
    seconds = time.perf_counter() - began
    run.report_epoch("linear_probe", 1, 1, best.objective, len(seen), seconds)
    forward = encoder_flops(recipe, data.channels, recipe.patches_at(settings.image_size))
    forward = 0 if source == "pixels" else forward
    encode_all = forward * (1 + (len(validation) + len(test)) / len(seen))
    return {
        **save_predictions(run, best.predicted, data.test.labels, data.classes),
        "validation_acc1": best.validation_acc1,
        "train_loss": best.objective,
        "penalty": best.penalty,
        "penalty_at_edge": at_edge,
        "converged": best.converged,
        "seconds": seconds,
        "images_per_s": len(seen) / seconds,
        "flops_per_image": converged_flops(encode_all, train.shape[1], data.classes),
        "encoder_flops_per_image": forward,
        **run.describe(),
    }
