"""Augmentation: a batch at once against image by image, and its share of a training step."""

import time

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from mae_ablation.bench.laptop import Training, laptop
from mae_ablation.bench.pairs import Row, in_turn, quotients, seconds
from mae_ablation.bench.threads import threads
from mae_ablation.data.augment import View, normalise
from mae_ablation.data.dataset import Split
from mae_ablation.data.feed import Feed
from mae_ablation.train.device import keep_freed_memory

BATCH, SIDE, CHANNELS = 128, 32, 3
IMAGES = 16 * BATCH
CROP_MIN_AREA = 0.2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPOCHS = 5  # of ours in a round, which takes a tenth of the other's time
WARM_UP = 3
STEPS = 60
"""training steps of a round"""


def measure(rounds: int) -> list[Row]:
    """Both rows, with one thread; memory is kept as in a lane, for both sides."""
    keep_freed_memory()
    with threads(1):
        return [against_torchvision(rounds), share_of_a_step(rounds)]


# a batch at once, image by image ------------------------------------------------------------------


def against_torchvision(rounds: int, images: int = IMAGES) -> Row:
    """Crops, flips, floats and normalisation of the same images in memory.

    Each side holds the images as it likes them best: a uint8 tensor, decoded PIL images. Both go
    through all of them in random order, in batches of 128, in this process.
    """
    pixels = torch.randint(256, (images, CHANNELS, SIDE, SIDE), dtype=torch.uint8)
    feed, rng = our_feed(pixels), torch.Generator().manual_seed(0)
    loader = their_loader(pixels)
    our_epoch(feed, rng), their_epoch(loader)  # not counted
    batches = images / BATCH
    ours, theirs = in_turn(
        lambda: seconds(lambda: our_epoch(feed, rng), EPOCHS) / batches,
        lambda: seconds(lambda: their_epoch(loader)) / batches,
        rounds,
    )
    return Row(
        what=f"augmentation and normalisation, batch of {BATCH} at {SIDE} px",
        against="torchvision's transforms on PIL images, one by one, through a DataLoader",
        target=10,
        values=quotients(theirs, ours),
        ours=ours,
        theirs=theirs,
        note=(
            f"Random resized crop (bicubic), flip, to float, normalise; seconds of a batch, the "
            f"mean over {images} images of three channels. One thread, in the process itself "
            "(num_workers=0); images are in memory and decoded on both sides."
        ),
    )


def our_feed(pixels: torch.Tensor) -> Feed:
    """Of images (n, c, s, s) uint8."""
    split = Split(images=pixels, labels=torch.zeros(len(pixels), dtype=torch.long))
    return Feed(split, View(augmentation="crop_random", crop_min_area=CROP_MIN_AREA))


def our_epoch(feed: Feed, rng: torch.Generator) -> None:
    """All images once, as the phases take them."""
    order = torch.randperm(len(feed.split), generator=rng)
    for pixels, _ in feed.batches(order.split(BATCH), rng):
        normalise(pixels, MEAN, STD)


class Pictures(Dataset):
    """Decoded images, transformed one by one."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self.images = [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in pixels]
        self.transform = their_transform()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.transform(self.images[number])


def their_transform() -> transforms.Compose:
    """The transforms of the paper's official pre-training code."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(
                SIDE, scale=(CROP_MIN_AREA, 1.0), interpolation=InterpolationMode.BICUBIC
            ),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def their_loader(pixels: torch.Tensor) -> DataLoader:
    return DataLoader(Pictures(pixels), batch_size=BATCH, shuffle=True, num_workers=0)


def their_epoch(loader: DataLoader) -> None:
    for _ in loader:
        pass


# a share of a step --------------------------------------------------------------------------------


def share_of_a_step(rounds: int, steps: int = STEPS) -> Row:
    """Of pre-training's steps, how much goes by until their batch is there."""
    training = Training(laptop())
    fed_and_whole(training, WARM_UP)
    fed, whole = zip(*(fed_and_whole(training, steps) for _ in range(rounds)), strict=True)
    settings = training.recipe.pretrain
    return Row(
        what="augmentation and normalisation, share of a training step (laptop recipe)",
        against="the whole step, its data included",
        target=0.05,
        relation="<=",
        values=quotients(fed, whole),
        ours=fed,
        theirs=whole,
        note=(
            f"Seconds of a step, the mean of {steps} on Fashion-MNIST with one thread, batch "
            f"{settings.batch_size}, {settings.augmentation}. Both are of the same steps: the "
            "clock is read when a batch is normalised and when its optimiser step is done."
        ),
    )


def fed_and_whole(training: Training, steps: int) -> tuple[float, float]:
    """Mean seconds of a step's batch, and of the whole step."""
    fed = 0.0
    began = now = time.perf_counter()
    for _ in range(steps):
        batch = training.feed()
        fed += time.perf_counter() - now
        training.learn(batch)
        now = time.perf_counter()
    return fed / steps, (now - began) / steps
