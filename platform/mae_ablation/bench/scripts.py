"""Scripts: what a user without a platform runs, one process per phase; timed over some steps.

    python -m mae_ablation.bench.scripts pretrain --study STUDY.yaml --ratio 0.75 --steps 20
    python -m mae_ablation.bench.scripts probe --study STUDY.yaml --source random --steps 8

Images are augmented one by one by torchvision on PIL images, batched by a DataLoader, the model is
the product's in timm's blocks through its forward, and the loops are as plain as a page has them:
no checkpoint, no curve, no evaluation. All threads of the machine. Stdout is a line of JSON.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Pictures
from torchvision import transforms

from mae_ablation.data.dataset import Dataset, Split, load
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.study.machine import cores
from mae_ablation.train.linear_probe import Head
from mae_ablation.train.models import build_model, target_of
from mae_ablation.train.optim import decay_groups, generator, scaled_lr

NO_STORE = "none"  # a plan asks for one
WARM_UP = 5  # steps that are not counted: a DataLoader begins with some batches in stock


class Decoded(Pictures):
    """Images in memory, shown one by one as PIL images through a transform."""

    def __init__(self, split: Split, transform: Callable) -> None:
        self.images = split.images.numpy()  # (n, c, s, s) uint8
        self.labels = split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.images[index]
        plane = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        return self.transform(Image.fromarray(plane)), self.labels[index]


def shifted(side: int) -> list[Callable]:
    """`crop_fixed` as torchvision has it: moved by up to an eighth of the side, half flipped."""
    crop = transforms.RandomCrop(side, padding=side // 8)
    return [crop, transforms.RandomHorizontalFlip()]


def transform_of(data: Dataset, augmentation: list[Callable]) -> Callable:
    """PIL image to normalised pixels (c, s, s)."""
    last = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    return transforms.Compose([*augmentation, *last])


def loader_of(
    data: Dataset, augmentation: list[Callable], batch_size: int, workers: int
) -> DataLoader:
    """Shuffled whole batches of the training split; its workers stay over the epochs."""
    return DataLoader(
        Decoded(data.train, transform_of(data, augmentation)),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def endless(loader: DataLoader) -> Iterator[list[torch.Tensor]]:
    """Batches of epoch after epoch."""
    while True:
        yield from loader


def pretrain(recipe: Recipe, steps: int, workers: int) -> dict:
    """Time so many steps of masked pre-training."""
    settings = recipe.pretrain
    assert settings.augmentation == "crop_fixed", settings.augmentation
    data = load(recipe.data)
    loader = loader_of(data, shifted(recipe.data.image_size), settings.batch_size, workers)
    target, _ = target_of(recipe, None, data, "cpu")
    model = build_model(recipe, data.channels, 0, target)
    optimizer = torch.optim.AdamW(
        decay_groups(model, settings.weight_decay),
        lr=scaled_lr(settings.base_lr, settings.batch_size),
        betas=(settings.beta1, settings.beta2),
    )
    clock = Clock(steps)
    for images, _ in endless(loader):
        shuffle = torch.rand(len(images), recipe.patches).argsort(dim=1)
        loss = model(images, shuffle, recipe.kept_patches)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if clock.is_over(loss.item()):
            break
    return {"kept": recipe.kept_patches, **clock.said(len(loader))}


def probe(recipe: Recipe, steps: int, workers: int, source: str) -> dict:
    """Time so many steps of a linear classifier, whose images are encoded anew in every epoch.

    Args:
        source: "random" (any encoder of the recipe's shape) or "pixels".
    """
    settings = recipe.linear_probe
    data = load(recipe.data)
    loader = loader_of(data, [], min(settings.batch_size, len(data.train)), workers)
    model = build_model(recipe, data.channels, 0).eval()
    pixels = data.channels * recipe.data.image_size**2
    width = pixels if source == "pixels" else recipe.model.encoder_width
    head = Head(width, data.classes, generator(0, "probe/init"))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=settings.momentum)
    clock = Clock(steps)
    for images, labels in endless(loader):
        with torch.no_grad():
            encoded = source != "pixels"
            inputs = model.features(images, settings.pooling) if encoded else images.flatten(1)
        loss = F.cross_entropy(head(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if clock.is_over(loss.item()):
            break
    return clock.said(len(loader))


class Clock:
    """Times the steps of a loop."""

    def __init__(self, steps: int) -> None:
        self._steps, self._times = steps, [time.perf_counter()]

    def is_over(self, loss: float) -> bool:
        """A step has ended with this loss; whether it was the last."""
        assert loss == loss, "the loss is not a number"
        self._times.append(time.perf_counter())
        return len(self._times) > WARM_UP + self._steps

    def said(self, steps_per_epoch: int) -> dict:
        """Mean seconds of a step, of an epoch, and of the whole loop with its warm-up."""
        step_s = (self._times[-1] - self._times[WARM_UP]) / (len(self._times) - 1 - WARM_UP)
        return {
            "step_s": step_s,
            "epoch_s": step_s * steps_per_epoch,
            "loop_s": self._times[-1] - self._times[0],
        }


def main(words: list[str] | None = None) -> None:
    from mae_ablation.api import plan_study

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phase", choices=("pretrain", "probe"))
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--ratio", type=float, default=0.75)
    parser.add_argument("--source", choices=("random", "pixels"), default="random")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--workers", type=int, default=0, help="of the DataLoader")
    asked = parser.parse_args(words)
    torch.set_num_threads(cores())
    recipe = plan_study(asked.study, store=NO_STORE, changes=asked.changes).study.baseline
    recipe = replace(recipe, pretrain=replace(recipe.pretrain, mask_ratio=asked.ratio))
    if asked.phase == "pretrain":
        said = pretrain(recipe, asked.steps, asked.workers)
    else:
        said = probe(recipe, asked.steps, asked.workers, asked.source)
    print(json.dumps(said))


if __name__ == "__main__":
    main()
