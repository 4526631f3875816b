"""Pre-training of the recipe laptop: lanes side by side, and its augmentation alone.

python -m tests.bench.training THREADS     trains two epochs; answers {"images_per_s": ...}
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from mae_ablation.data.augment import View, normalise
from mae_ablation.data.augmentations import CropRandom
from mae_ablation.data.dataset import Split
from mae_ablation.data.feed import Feed
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.train.device import keep_freed_memory
from mae_ablation.train.pretrain import pretrain
from mae_ablation.train.run import PhaseRun

from .compare import Row, answers, in_turn, laptop, seconds

BATCH, SIDE, MIN_AREA = 128, 32, 0.2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pretrained(recipe: Recipe, place: Path, epochs: int = 2) -> tuple[PhaseFolder, dict]:
    """Trains some epochs of a recipe without pictures. Returns its folder and result."""
    settings = replace(recipe.pretrain, epochs=epochs, reconstructions=0)
    (place / "pretrain").mkdir()
    folder = PhaseFolder.at(place / "pretrain")
    return folder, pretrain(replace(recipe, pretrain=settings), 0, PhaseRun(folder=folder))


# lanes -------------------------------------------------------------------------------------------


def lanes(rounds: int) -> list[Row]:
    """Compares two trainings of one thread side by side with one of two threads."""

    def rate(*threads: int) -> float:
        each = answers("training", *[(number,) for number in threads])
        return sum(answer["images_per_s"] for answer in each)

    ours, theirs = in_turn(lambda: rate(1, 1), lambda: rate(2), rounds)
    return [
        Row(
            what="two lanes of one thread together",
            against="one process of two threads",
            ours=ours,
            theirs=theirs,
            unit="images/s",
            note="Two epochs of the recipe laptop, as the phase itself reports them. The lanes "
            "are two trainings started together; their images per second are added.",
        )
    ]


def main(threads: str) -> None:
    torch.set_num_threads(int(threads))
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        _, result = pretrained(laptop(), Path(folder))
    print(json.dumps({"images_per_s": result["images_per_s"]}))


# augmentation ------------------------------------------------------------------------------------


class Pictures(Dataset):
    """Decoded images in memory, transformed one by one as the paper's recipe has it."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self.images = [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in pixels]
        crop = transforms.RandomResizedCrop(
            SIDE, scale=(MIN_AREA, 1.0), interpolation=InterpolationMode.BICUBIC
        )
        last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        self.transform = transforms.Compose([crop, transforms.RandomHorizontalFlip(), *last])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.transform(self.images[number])


def augmentation(rounds: int, images: int = 16 * BATCH) -> list[Row]:
    """Compares a batch at once with image by image."""
    keep_freed_memory()
    pixels = torch.randint(256, (images, 3, SIDE, SIDE), dtype=torch.uint8)
    split = Split(images=pixels, labels=torch.zeros(images, dtype=torch.long))
    feed = Feed(split, View(augmentation=CropRandom(), crop_min_area=MIN_AREA))
    loader = DataLoader(Pictures(pixels), batch_size=BATCH, shuffle=True)
    rng = torch.Generator().manual_seed(0)

    def our_epoch() -> None:
        for batch, _ in feed.batches(torch.randperm(images, generator=rng).split(BATCH), rng):
            normalise(batch, MEAN, STD)

    ours, theirs = in_turn(
        lambda: seconds(our_epoch, 5) * BATCH / images,
        lambda: seconds(lambda: list(loader)) * BATCH / images,
        rounds,
    )
    return [
        Row(
            what=f"augmentation and normalisation, batch of {BATCH} at {SIDE} px",
            against="torchvision's transforms on PIL images, one by one, through a DataLoader",
            ours=ours,
            theirs=theirs,
            note=f"Random resized crop (bicubic), flip, to float, normalise; the mean over "
            f"{images} images of three channels. One thread, num_workers=0; images are in memory "
            "and decoded on both sides.",
        )
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
