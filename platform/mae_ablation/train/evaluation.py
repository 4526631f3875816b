"""One evaluation at work: the images whose labels it sees, their features, its predictions.

Linear probe and k-NN see the same features, and encoding them costs more than all the rest: the
last encoder and its features are kept for a trial's next evaluation.
"""

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property

import torch

from mae_ablation.data.augment import normalise
from mae_ablation.data.dataset import Dataset, FileSplit, Split, load_dataset
from mae_ablation.data.draws import draw_labelled
from mae_ablation.data.feed import plain
from mae_ablation.recipe.checks import count_labels
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.registry import Evaluation, ask
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.store.predictions import NAME, SUM, Predictions, pack_predictions, sum_of
from mae_ablation.train.models import load_encoder
from mae_ablation.train.optim import generator
from mae_ablation.train.precision import NumberFormat
from mae_ablation.train.run import PhaseRun

ENCODE_BATCH = 512  # images in a forward pass without gradients
FEATURE_BYTES = 2**30  # of features that are kept for the next evaluation
Encode = Callable[[torch.Tensor], torch.Tensor]
"""normalised images (n, c, h, w) -> features (n, D)"""


@dataclass(slots=True)
class _Kept:
    """The last encoder and its features."""

    key: Hashable = None
    encode: Encode | None = None
    features: dict[int, tuple[Split | FileSplit, torch.Tensor]] = field(default_factory=dict)
    """keyed by id(split), which is the split's own as long as the split is held here"""


_kept = _Kept()


def clear_features() -> None:
    """Drop the last encoder and its features."""
    global _kept
    _kept = _Kept()


@dataclass(frozen=True, kw_only=True)
class Job:
    """Gives an evaluation its recipe, its images, and their features."""

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
        """The frozen encoder: normalised images (n, c, h, w) to features (n, D).

        It has the upstream phase's last weights, the seed's initial ones where `source` is
        "random", or gives the pixels themselves.
        """
        global _kept
        # k-NN sees the linear probe's features, so that section says how images are encoded
        settings, upstream = self.recipe.linear_probe, self.upstream
        weights = upstream and [found.name for found in upstream.checkpoints()]
        key = (
            *(self.source, upstream, weights, self.data.channels, self.seed, self.run.device),
            *(self.recipe.model, self.recipe.data),
            *(settings.pooling, settings.image_size, settings.precision),
        )
        if _kept.key != key:
            _kept = _Kept(key, self._build_encode())
        return _kept.encode

    def _build_encode(self) -> Encode:
        if self.source == "pixels":
            return lambda images: images.flatten(1)
        recipe, settings, device = self.recipe, self.recipe.linear_probe, self.run.device
        # its number format holds in its own passes alone, whichever evaluation encodes
        precision = NumberFormat(settings.precision, device)
        model = load_encoder(recipe, self.data.channels, self.seed, self.upstream)
        if settings.image_size:
            model.at_grid((settings.image_size // recipe.model.patch_size,) * 2)
        model.to(device).eval()

        @torch.no_grad()
        def encode(images: torch.Tensor) -> torch.Tensor:
            with precision.autocast():
                parts = [model.features(p, settings.pooling) for p in images.split(ENCODE_BATCH)]
            return torch.cat(parts).float()

        return encode

    def labelled(self, labels: float | None = None) -> Split | FileSplit:
        """Draw a class-balanced part of the training images by the seed.

        The draw is the same for every level and every evaluation of a seed, and a smaller one lies
        within a larger one.

        Args:
            labels: how many images, or below 1 the share of them; None: all.

        Raises:
            UserError: a class has too few images.
        """
        train = self.data.train
        if labels is None:
            return train
        rng, classes = self.generator("labels"), self.data.classes
        count = count_labels(labels, len(train), classes)
        drawn = draw_labelled(train.labels.numpy(), count, classes, rng)
        return train.part(torch.from_numpy(drawn))

    def features(self, split: Split | FileSplit) -> torch.Tensor:
        """Return features (n, D) of a split on the run's device, encoded by all workers."""
        encode, device = self.encode, self.run.device
        kept = _kept.features if encode is _kept.encode else {}
        if id(split) in kept:
            return kept[id(split)][1]
        features = self.map_split(split, encode, self.recipe.linear_probe.image_size).to(device)
        if features.nbytes + sum(each.nbytes for _, each in kept.values()) <= FEATURE_BYTES:
            kept[id(split)] = split, features
        return features

    def map_split(
        self,
        split: Split | FileSplit,
        function: Callable[[torch.Tensor], torch.Tensor],
        image_size: int | None,
    ) -> torch.Tensor:
        """Apply a function to a split's images with all workers, without augmentation.

        Args:
            function: normalised images (m, c, h, w) -> (m, D).
        """
        # dealt out batch by batch: no worker decodes or encodes another's images
        run, data = self.run, self.data
        own, workers = run.workers.own_batches, self.recipe.data.workers
        batches = plain(split, run.device, ENCODE_BATCH, image_size, workers, own)
        parts = [function(normalise(pixels, data.mean, data.std)) for pixels, _ in batches]
        rows = list(torch.arange(len(split)).split(ENCODE_BATCH)[own])
        return run.workers.gather_rows(rows, parts, len(split))

    def generator(self, stream: str) -> torch.Generator:
        """Make a separate generator for a use of randomness, derived from the seed."""
        return generator(self.seed, stream)

    def save_predictions(self, predicted: torch.Tensor) -> dict[str, float | str]:
        """Write the class predicted for every test image; returns accuracy and checksum.

        Every worker calls this; rank zero writes. A phase that is killed before its result is
        written writes the same file again.

        Args:
            predicted: classes (n,) in the order of the test split.
        """
        # answers and labels in one small file, so that intervals can be computed from it alone
        labels = self.data.test.labels
        answers = Predictions(predicted=predicted.cpu().numpy(), label=labels.cpu().numpy())
        packed, folder = pack_predictions(answers, self.data.classes), self.run.folder
        path = f"{folder.name}/{NAME}"
        self.run.workers.on_rank_zero(lambda: folder.files.write(path, packed))
        return {"test_acc1": answers.acc1, SUM: sum_of(packed)}

    def classify(self, evaluation: Evaluation) -> dict:
        """Predict validation and test images from features of training images."""
        data, name = self.data, evaluation.component.name
        # an evaluation that does not know `labels` sees them all
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
        Diverged: several losses in a row, or an epoch's mean, are not finite.
        Stopped: the run was to stop; a checkpoint has been written.
        UserError: the batch cannot be divided evenly among the workers.
        ValueError: it gives no number where it has to, or one that is not finite.
    """
    # images are loaded, and encoded, when the evaluation first asks for them
    evaluation = recipe.chosen("evaluation", kind)
    run.begin_measuring(
        getattr(evaluation, "precision", None) if evaluation.trains_encoder else None
    )
    began = time.perf_counter()
    job = Job(recipe=recipe, seed=seed, run=run, source=source, upstream=upstream)
    result = evaluation.evaluate(job)

    # a user's evaluation may return anything; numbers of torch and numpy are as good
    if not isinstance(result, dict):
        given = type(result).__name__
        raise ValueError(f"{kind} returns {given}: return a dict of numbers such as test_acc1")
    result = {k: v.item() if getattr(v, "ndim", None) == 0 else v for k, v in result.items()}
    for number in evaluation.numbers or ("acc1",):
        value = result.get(f"test_{number}")
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{kind} gives test_{number} = {value}: return a finite number")

    seconds = time.perf_counter() - began
    if "train_loss" not in result:  # nothing has reported an epoch
        run.report_epoch(kind, 1, 1, 0.0, len(job.data.train), seconds)
    return {"seconds": seconds, **result, **run.describe()}


def accuracy(predicted: torch.Tensor, labels: torch.Tensor) -> float:
    """Compute top-1 accuracy in per cent, of classes (n,)."""
    return 100 * (predicted == labels).double().mean().item()
