"""One evaluation at work, and the steps that evaluations share: the images whose labels they see,
their features, accuracy, saved predictions."""

import math
import time
from dataclasses import dataclass
from functools import cached_property

import torch

from mae_ablation.data.dataset import Dataset, FileSplit, Split, load_dataset
from mae_ablation.data.draws import draw_labelled
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.registry import Evaluation, ask
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.store.predictions import NAME, SUM, Predictions, pack, sum_of
from mae_ablation.train.device import reset_peak_memory
from mae_ablation.train.features import Encode, encoder, extract
from mae_ablation.train.optim import generator
from mae_ablation.train.run import PhaseRun


@dataclass(frozen=True, kw_only=True)
class Job:
    """What an evaluation's `evaluate` works with."""

    recipe: Recipe
    seed: int
    run: PhaseRun
    source: str
    """"pretrain", or what a reference row has instead: "random", "pixels" or "scratch" """
    upstream: PhaseFolder | None
    """the finished pre-training; None: there is none"""

    @cached_property
    def data(self) -> Dataset:
        """The images: `train`, `validation` and `test` with their `labels`, `classes`."""
        return load_dataset(self.recipe.data)

    @cached_property
    def encode(self) -> Encode:
        """The frozen encoder: normalised images (n, c, h, w) to features (n, D)."""
        channels, device = self.data.channels, self.run.device
        return encoder(self.recipe, self.source, self.upstream, channels, self.seed, device)

    def labelled(self, labels: int | None = None) -> Split | FileSplit:
        """A class-balanced part of the training images, drawn by the seed; None: all."""
        return draw_labelled_images(self.data, labels, self.seed)

    def features(self, split: Split | FileSplit) -> torch.Tensor:
        """Features (n, D) of a split on the run's device, encoded by all workers."""
        return extract(split, self.encode, self.data, self.recipe, self.run)

    def generator(self, stream: str) -> torch.Generator:
        """A generator of its own for a use of randomness, derived from the seed."""
        return generator(self.seed, stream)

    def save_predictions(self, predicted: torch.Tensor) -> dict[str, float | str]:
        """Keep the classes (n,) predicted for the test images; returns test_acc1."""
        data = self.data
        return save_predictions(self.run, predicted, data.test.labels, data.classes)

    def classify(self, evaluation: Evaluation) -> dict:
        """Predict validation and test images from features of training images."""
        data, name = self.data, evaluation.component.name
        seen = self.labelled(getattr(evaluation, "labels", None))
        train, labels = self.features(seen), seen.labels.to(self.run.device)

        def predict(split: Split | FileSplit) -> torch.Tensor:
            known = {"seed": self.seed, "generator": self.generator(name)}
            given = (train, labels, self.features(split), data.classes)
            return ask(evaluation.predict, *given, **known).cpu()

        tested, validated = predict(data.test), predict(data.validation)
        return {
            **self.save_predictions(tested),
            "validation_acc1": accuracy(validated, data.validation.labels),
        }


def evaluate(
    recipe: Recipe,
    kind: str,
    seed: int,
    run: PhaseRun,
    *,
    source: str = "pretrain",
    upstream: PhaseFolder | None = None,
) -> dict:
    """Run a registered evaluation; returns the content of `result.json`.

    Raises:
        ValueError: it gives no number where it has to, or one that is not finite.
    """
    reset_peak_memory(run.device)
    began = time.perf_counter()
    evaluation = recipe.chosen("evaluation", kind)
    job = Job(recipe=recipe, seed=seed, run=run, source=source, upstream=upstream)
    result = evaluation.evaluate(job)
    for number in evaluation.numbers or ("acc1",):
        value = result.get(f"test_{number}")
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{kind} gives test_{number} = {value}: return a finite number")
    seconds = time.perf_counter() - began
    if "train_loss" not in result:  # nothing has reported an epoch
        run.report_epoch(kind, 1, 1, 0.0, len(job.data.train), seconds)
    return {"seconds": seconds, **result, **run.describe()}


def draw_labelled_images(data: Dataset, labels: int | None, seed: int) -> Split | FileSplit:
    """Draw a class-balanced part of the training split by the trial's seed.

    The draw is the same for every level and every evaluation of a seed, and a smaller one lies
    within a larger one.

    Args:
        labels: number of images; None: the whole split.

    Raises:
        UserError: a class has too few images.
    """
    if labels is None:
        return data.train
    rng = generator(seed, "labels")
    return data.train.part(
        torch.from_numpy(draw_labelled(data.train.labels.numpy(), labels, data.classes, rng))
    )


def accuracy(predicted: torch.Tensor, labels: torch.Tensor) -> float:
    """Compute top-1 accuracy in per cent, of classes (n,)."""
    return 100 * (predicted == labels).double().mean().item()


def save_predictions(
    run: PhaseRun, predicted: torch.Tensor, labels: torch.Tensor, classes: int
) -> dict[str, float | str]:
    """Write the class predicted for every test image; returns accuracy and checksum for the result.

    Every worker calls this; rank zero writes. A phase that is killed before its result is written
    writes the same file again.

    Args:
        predicted, labels: classes (n,) in the order of the test split.
    """
    answers = Predictions(predicted=predicted.cpu().numpy(), label=labels.cpu().numpy())
    data = pack(answers, classes)
    path = f"{run.folder.name}/{NAME}"
    run.workers.on_rank_zero(lambda: run.folder.files.write(path, data))
    return {"test_acc1": answers.acc1, SUM: sum_of(data)}
