"""Linear probe, protocol `converged`: logistic regression on cached features, to its one solution.

Nothing is drawn: two runs on the same features agree, so what differs between seeds is the encoder
(and, where the recipe limits them, the labels). It takes seconds, so an interrupted one starts
over. The penalty is the one best on validation, the strongest of equals.
"""

import time
from typing import NamedTuple

import torch

from mae_ablation.recipe.cost import encoder_flops
from mae_ablation.study.speed import classifier_flops
from mae_ablation.train.evaluation import Job, accuracy
from mae_ablation.train.logistic_regression import LogisticRegression
from mae_ablation.train.run import Stopped


class PenaltyFit(NamedTuple):
    """A penalty, its solution, and how well that classifies."""

    penalty: float
    objective: float
    converged: bool
    validation_acc1: float
    predicted: torch.Tensor
    """classes (n,) of the test images"""


def converged_probe(job: Job, kind: str) -> dict:
    """Solve for every penalty, test the one best on validation.

    Every worker encodes some of the images; rank zero solves, the others wait.

    Args:
        kind: name of the evaluation.

    Raises:
        Stopped: the run was to stop; nothing is kept.
    """
    recipe, run, data = job.recipe, job.run, job.data
    settings, workers = getattr(recipe, kind), run.workers
    began = time.perf_counter()

    # frozen features
    seen = job.labelled(settings.labels)
    train, validation, test = map(job.features, (seen, data.validation, data.test))

    # one solution per penalty, each from the one before: rank zero's work
    regression: LogisticRegression | None = None

    def fit(penalty: float) -> PenaltyFit:
        nonlocal regression
        if regression is None:
            labels = seen.labels.to(run.device)
            regression = LogisticRegression(train.double(), labels, data.classes)
        solution = regression.solve(penalty)
        validated, tested = (solution.scores(f).argmax(dim=1).cpu() for f in (validation, test))
        right = accuracy(validated, data.validation.labels)
        return PenaltyFit(penalty, solution.objective, solution.converged, right, tested)

    fits: list[PenaltyFit] = []
    for penalty in settings.penalties:
        if workers.broadcast(run.stop()):
            raise Stopped(f"stopped before penalty {penalty:g}")
        fits.append(workers.on_rank_zero(lambda penalty=penalty: fit(penalty)))

    # the one best on validation, the strongest of equals: `max` takes the first
    best = max(fits, key=lambda each: each.validation_acc1)
    at_edge = len(fits) > 1 and (best is fits[0] or best is fits[-1])
    seconds = time.perf_counter() - began
    run.report_epoch(kind, 1, 1, best.objective, len(seen), seconds)

    # encoding validation and test images is shared out among the training images
    forward = 0
    if job.source != "pixels":
        forward = encoder_flops(recipe, data.channels, recipe.patches_at(settings.image_size))
    encode_all = forward * (1 + (len(validation) + len(test)) / len(seen))
    classifier = classifier_flops(train.shape[1], data.classes, len(fits))
    return {
        **job.save_predictions(best.predicted),
        "validation_acc1": best.validation_acc1,
        "train_loss": best.objective,
        "penalty": best.penalty,
        "penalties": len(fits),
        "penalty_at_edge": at_edge,
        "converged": best.converged,
        "seconds": seconds,
        "images_per_s": len(seen) / seconds,
        "flops_per_image": encode_all + classifier,
        "classifier_flops_per_image": classifier,
        "encoder_flops_per_image": forward,
    }
