"""Phases that fit what a target needs, once for all seeds of a study."""

import time
from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import nn

from mae_ablation.data.augment import View, normalise
from mae_ablation.data.dataset import Dataset, load_dataset
from mae_ablation.data.feed import Feed, plain
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.train.checkpoints import Checkpoints, checkpoint_bytes
from mae_ablation.train.meter import Meter
from mae_ablation.train.optim import OptimizerStep, generator
from mae_ablation.train.run import PhaseRun

SEED = 0  # of its own: all seeds of a study predict the same
BATCH = 512  # images at a time, where nothing is trained
CHECKPOINT_EVERY_S = 30.0


class Fitting:
    """Gives a target's `fit` its recipe, data, a training loop, and a place to save."""

    def __init__(self, recipe: Recipe, run: PhaseRun) -> None:
        self.recipe, self.run, self.device = recipe, run, run.device

    @cached_property
    def data(self) -> Dataset:
        """The recipe's images."""
        return load_dataset(self.recipe.data)

    def generator(self, stream: str) -> torch.Generator:
        """Make a generator for one use of randomness; the same for every seed of a study."""
        return generator(SEED, f"{self.recipe.target.needs}/{stream}")

    def images(self, count: int) -> Iterator[torch.Tensor]:
        """Yield batches (n, c, h, w), normalised and on the CPU, of at most `count` images spread
        evenly over the training split."""
        # spread evenly, so that no class is left out of a folder sorted by class
        train = self.data.train
        index = torch.linspace(0, len(train) - 1, min(len(train), count)).round().long()
        feed = Feed(train, View(), workers=self.recipe.data.workers)
        for pixels, _ in feed.batches(index.split(BATCH), self.generator("images")):
            yield normalise(pixels, self.data.mean, self.data.std)

    def validation(self) -> Iterator[torch.Tensor]:
        """Yield batches of pixels (n, c, h, w) in [0, 1] of the validation split."""
        return (pixels for pixels, _ in plain(self.data.validation, self.device))

    def save(self, tensors: dict[str, torch.Tensor]) -> None:
        """Keep the tensors that the target's methods will get as `fitted`."""
        self.run.folder.save_checkpoint(1, checkpoint_bytes(tensors))

    def train(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_of: Callable[[torch.Tensor], torch.Tensor],
        *,
        epochs: int,
        batch_size: int,
        after_step: Callable[[torch.Tensor], None] = lambda pixels: None,
        generators: dict[str, torch.Generator] | None = None,
    ) -> float:
        """Train a model on pixels in [0, 1], or resume; what is `fitted` is {"model": its state}.

        Args:
            loss_of: the loss of a batch of pixels (n, c, h, w).
            after_step: called with the batch after each step of the optimiser.
            generators: those that both draw from, so that they can be resumed.

        Returns the seconds of training.

        Raises:
            Diverged: several losses in a row, or an epoch's mean, are not finite.
            Stopped: the run was to stop; a checkpoint has been written.
        """
        # data; the last incomplete batch of an epoch is dropped
        kind, run, data = self.recipe.target.needs, self.run, self.data
        feed = Feed(data.train, View(), self.device, workers=self.recipe.data.workers)
        order_rng = self.generator("order")
        batch_size = min(batch_size, len(data.train))
        steps = len(data.train) // batch_size

        # where an earlier attempt stopped
        meter = Meter(run, epochs, steps)
        saved, replayed = {"model": model, "optimizer": optimizer}, {"order": order_rng}
        checkpoints = Checkpoints(run, meter, saved, CHECKPOINT_EVERY_S, replayed, generators or {})
        checkpoints.resume()
        update = OptimizerStep(optimizer, meter)

        # images are shown as they are, so that only the order's generator is replayed
        for _ in range(meter.epoch, epochs):
            checkpoints.begin_epoch()
            order = torch.randperm(len(data.train), generator=order_rng)
            batches = order[: steps * batch_size].split(batch_size)

            for pixels, _ in feed.batches(batches, order_rng, skip=meter.step):
                for _ in update.micro_batches():
                    update.backward(loss_of(pixels))
                update.apply()
                after_step(pixels)
                checkpoints.after_step()

            # end of the epoch: curve, checkpoint, progress
            loss, seconds = meter.finish_epoch()
            run.log(meter.global_step, {f"{kind}/loss": loss, f"{kind}/epoch": meter.epoch})
            checkpoints.after_epoch()
            run.report_epoch(kind, meter.epoch, epochs, loss, steps * batch_size, seconds)
        return meter.train_seconds


def fit_target(recipe: Recipe, run: PhaseRun) -> dict:
    """Fit what the recipe's target needs, on one worker; returns the content of `result.json`."""
    run.begin_measuring()
    began = time.perf_counter()
    result = recipe.target.fit(Fitting(recipe, run))
    return {"seconds": time.perf_counter() - began, **result, **run.describe()}
