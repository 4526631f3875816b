"""Feed: batches of a split as a view shows them, from memory or from files.

From memory, a batch is drawn when its turn comes: boxes first, then RandAugment; jitter has a
generator of its own, so that images are cropped alike with it and without. From
files, every image has a seed of its own, drawn before the first batch, so that nothing depends on
how many workers there are or how far ahead they are; jitter is drawn when a batch's turn comes.

Shapes: n images of a batch, c channels, s side asked for.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from mae_ablation.data.augment import View, boxes_for, cropped, resized
from mae_ablation.data.dataset import Files, Split
from mae_ablation.data.jitter import apply_jitter, random_jitter

Batch = tuple[torch.Tensor, torch.Tensor]


class Feed:
    """Batches of one split. Keep it over the epochs: its workers live as long as it does.

    Args:
        split: pixels in memory, or files.
        view: augmentation and size.
        device: where batches go.
        workers: processes that decode files; 0: in this process. Of no use to a split in memory.
    """

    def __init__(
        self,
        split: Split | Files,
        view: View,
        device: str | torch.device = "cpu",
        workers: int = 0,
    ) -> None:
        self.split, self.view, self.device = split, view, torch.device(device)
        self.reader = self._reader(workers) if isinstance(split, Files) else None

    def _reader(self, workers: int):
        from mae_ablation.data.decode import Reader, streamed

        show = partial(streamed, view=self.view, side=self.view.image_size or self.split.image_size)
        pin = self.device.type == "cuda"
        return Reader(self.split.root, self.split.names, show, workers, pin)

    def batches(
        self, indices: Sequence[torch.Tensor], generator: torch.Generator
    ) -> Iterator[Batch]:
        """Pixels (n, c, s, s) float32 in [0, 1] and labels (n,) int64 of each index batch (n,).

        Take the batches of one call before those of the next: workers serve one at a time.

        Raises:
            UserError: a file cannot be decoded.
        """
        if self.reader is None:
            return self._from_memory(indices, generator)
        seeds = [torch.randint(2**63 - 1, index.shape, generator=generator) for index in indices]
        return self._from_files(indices, seeds, generator)

    def _from_memory(
        self, indices: Sequence[torch.Tensor], generator: torch.Generator
    ) -> Iterator[Batch]:
        view, images = self.view, self.split.images
        jitter_rng = apart_from(generator)
        for index in indices:
            boxes = boxes_for(
                view.augmentation, len(index), images.shape[-1], view.crop_min_area, generator
            )
            pixels = cropped(images[index].to(self.device, non_blocking=True), boxes)
            pixels = self._jittered(pixels, jitter_rng)
            if view.randaugment_magnitude:
                pixels = self._randaugmented(pixels, generator)
            yield resized(pixels, view.image_size), self._labels(index)

    def _from_files(
        self,
        indices: Sequence[torch.Tensor],
        seeds: Sequence[torch.Tensor],
        generator: torch.Generator,
    ) -> Iterator[Batch]:
        shown = self.reader.batches(list(zip(indices, seeds, strict=True)))
        for index, images in zip(indices, shown, strict=True):
            pixels = images.to(self.device, non_blocking=True).float() / 255
            yield self._jittered(pixels, generator), self._labels(index)

    def _labels(self, index: torch.Tensor) -> torch.Tensor:
        return self.split.labels[index].to(self.device, non_blocking=True)

    def _jittered(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        view = self.view
        if view.augmentation != "crop_jitter":
            return pixels
        jitter = random_jitter(len(pixels), view.jitter, view.jitter_hue, generator)
        return apply_jitter(pixels, jitter)

    def _randaugmented(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Through PIL, image by image: a tenth of a millisecond each at 30 pixels."""
        from mae_ablation.data.randaugment import randaugment

        view = self.view
        seeds = torch.randint(2**63 - 1, (len(pixels),), generator=generator).tolist()
        images = (pixels * 255).round().byte().cpu()
        images = randaugment(
            images,
            seeds,
            view.randaugment_magnitude,
            view.randaugment_std,
            view.randaugment_fill,
        )
        return images.to(self.device).float() / 255


def apart_from(generator: torch.Generator) -> torch.Generator:
    """A generator that follows from another's state and takes nothing from it: with jitter or
    without, the boxes of an epoch are the same."""
    copy = torch.Generator().set_state(generator.get_state())
    return torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=copy)) + 1)


def plain(
    split: Split | Files,
    device: str | torch.device = "cpu",
    batch: int = 512,
    image_size: int | None = None,
    workers: int = 0,
) -> Iterator[Batch]:
    """The whole split in order and without augmentation, as `Feed.batches` gives it."""
    feed = Feed(split, View(image_size=image_size), device, workers)
    return feed.batches(torch.arange(len(split)).split(batch), torch.Generator())
