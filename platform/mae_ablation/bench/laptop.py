"""Laptop: the recipe of two CPU cores, and its pre-training step by step."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch

from mae_ablation.data.augment import View, normalise
from mae_ablation.data.dataset import load
from mae_ablation.data.feed import Feed
from mae_ablation.mae.masking import sample_shuffle
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.study.recipe_file import read_recipe
from mae_ablation.study.settings import resolve
from mae_ablation.train.device import keep_freed_memory
from mae_ablation.train.models import build_model, target_of
from mae_ablation.train.optim import decay_groups, generator, lr_at, scaled_lr, set_lr

RECIPES = Path(__file__).parents[3] / "studies" / "recipes"


def laptop() -> Recipe:
    """studies/recipes/laptop.yaml, as in a clone of the repository."""
    return resolve(read_recipe(RECIPES / "laptop.yaml").settings)


class Training:
    """Pre-training of a recipe: `train/pretrain.py` without what is written and told.

    A step is its whole work on a batch: indices, crops, normalisation, masks, forward, backward,
    optimiser. For recipes that predict pixels; on the CPU.
    """

    def __init__(self, recipe: Recipe, seed: int = 0) -> None:
        self.recipe, self.data = recipe, load(recipe.data)
        target, _ = target_of(recipe, None, self.data, "cpu")
        self.model = build_model(recipe, self.data.channels, seed, target).train()
        keep_freed_memory()
        settings = recipe.pretrain
        self.optimizer = torch.optim.AdamW(
            decay_groups(self.model, settings.weight_decay),
            lr=scaled_lr(settings.base_lr, settings.batch_size),
            betas=(settings.beta1, settings.beta2),
            fused=True,
        )
        self._order, self._augment, self._mask = (
            generator(seed, stream) for stream in ("order", "augment", "mask")
        )
        self._batches = self._fed()
        self._steps = count()

    def _fed(self) -> Iterator[torch.Tensor]:
        """Normalised batches (n, c, s, s), epoch after epoch."""
        settings, data = self.recipe.pretrain, self.data
        view = View(augmentation=settings.augmentation, crop_min_area=settings.crop_min_area)
        feed = Feed(data.train, view)
        images = len(data.train) // settings.batch_size * settings.batch_size
        while True:
            order = torch.randperm(len(data.train), generator=self._order)[:images]
            for pixels, _ in feed.batches(order.split(settings.batch_size), self._augment):
                yield normalise(pixels, data.mean, data.std)

    def feed(self) -> torch.Tensor:
        """The next batch, augmented and normalised."""
        return next(self._batches)

    def learn(self, batch: torch.Tensor) -> None:
        """One optimiser step on this batch."""
        recipe, settings = self.recipe, self.recipe.pretrain
        steps = len(self.data.train) // settings.batch_size
        rate = lr_at(
            next(self._steps) % (steps * settings.epochs) / steps,
            peak=scaled_lr(settings.base_lr, settings.batch_size),
            warmup=settings.warmup_epochs,
            epochs=settings.epochs,
        )
        set_lr(self.optimizer, rate)
        shuffle = sample_shuffle(
            settings.mask_sampling, len(batch), self.model.grid, recipe.kept_patches, self._mask
        )
        self.optimizer.zero_grad(set_to_none=True)
        self.model(batch, shuffle, recipe.kept_patches).backward()
        self.optimizer.step()

    def step(self) -> None:
        """One whole step, its data included."""
        self.learn(self.feed())
