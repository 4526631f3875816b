"""Feed: batches of a split as a view shows them, from memory or from files.

From memory, a batch is drawn when its turn comes: boxes first, then RandAugment. From files, every
image has a seed of its own, drawn before the first batch, so that nothing depends on how many
workers there are or how far ahead they are; what comes after the crop is drawn when a batch's turn
comes.

Shapes: n images of a batch, c channels, s side asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from mae_ablation.data.augment import Boxes, View, boxes_for, cropped, resized
from mae_ablation.data.dataset import FileSplit, Split
from mae_ablation.data.transfer import send

Batch = tuple[torch.Tensor, torch.Tensor]
Rows = torch.Tensor | slice
"""positions in a batch"""


def whole(n: int) -> Sequence[Rows]:
    """Share a batch of n images out whole."""
    return [slice(None)]


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
        split: Split | FileSplit,
        view: View,
        device: str | torch.device = "cpu",
        workers: int = 0,
    ) -> None:
        self.split, self.view, self.device = split, view, torch.device(device)
        self.reader = None
        if isinstance(split, FileSplit):
            from mae_ablation.data.decode import Reader, streamed

            show = partial(streamed, view=view, side=view.image_size or split.image_size)
            self.reader = Reader(split.images, show, workers, self.device.type == "cuda")

    def batches(
        self,
        indices: Sequence[torch.Tensor],
        generator: torch.Generator,
        *,
        skip: int = 0,
        shares: Callable[[int], Sequence[Rows]] = whole,
    ) -> Iterator[Batch]:
        """Show pixels (n, c, s, s) float32 in [0, 1] and labels (n,) int64 of index batches (n,).

        Take the batches of one call before those of the next: workers serve one at a time.

        Args:
            skip: so many batches at the beginning are not shown; what is random in them is drawn.
            shares: rows of a batch of n that are shown, each share as a batch of its own; what is
                random is drawn for the whole batch.

        Raises:
            UserError: a file cannot be decoded.
        """
        if self.reader is None:
            return self._from_memory(indices, generator, skip, shares)
        # all seeds before the first batch: workers may run ahead as far as they like
        seeds = [torch.randint(2**63 - 1, index.shape, generator=generator) for index in indices]
        return self._from_files(indices, seeds, generator, skip, shares)

    def _from_memory(self, indices, generator, skip, shares) -> Iterator[Batch]:
        view, side = self.view, self.split.images.shape[-1]
        # what comes after the crop has a generator of its own: it follows from the other's state
        # and takes nothing from it, so that the boxes of an epoch are the same with it and without
        copy = torch.Generator().set_state(generator.get_state())
        seed = int(torch.randint(2**62, (), generator=copy)) + 1
        change_rng = torch.Generator().manual_seed(seed)
        for number, index in enumerate(indices):
            boxes = boxes_for(view, len(index), side, generator)
            change = view.augmentation.draw(len(index), change_rng)
            seeds = None
            if view.randaugment_magnitude:
                seeds = torch.randint(2**63 - 1, (len(index),), generator=generator)
            for rows in shares(len(index)) if number >= skip else ():
                drawn = (take_rows(each, rows) for each in (boxes, change, seeds))
                yield self._show(index[rows], *drawn), self._labels(index[rows])

    def _from_files(self, indices, seeds, generator, skip, shares) -> Iterator[Batch]:
        # batches that are skipped are neither opened nor decoded, but drawn below
        asked = zip(indices[skip:], seeds[skip:], strict=True)
        shown = self.reader.batches(
            [(index[rows], own[rows]) for index, own in asked for rows in shares(len(index))]
        )
        for number, index in enumerate(indices):
            change = self.view.augmentation.draw(len(index), generator)
            for rows in shares(len(index)) if number >= skip else ():
                pixels = next(shown).to(self.device, non_blocking=True).float() / 255
                yield self._changed(pixels, take_rows(change, rows)), self._labels(index[rows])

    def _labels(self, index: torch.Tensor) -> torch.Tensor:
        return send(self.split.labels[index], self.device)

    def _changed(self, pixels: torch.Tensor, change: Any) -> torch.Tensor:
        return pixels if change is None else self.view.augmentation.apply(pixels, change)

    def _show(
        self, index: torch.Tensor, boxes: Boxes | None, change: Any, seeds: torch.Tensor | None
    ) -> torch.Tensor:
        """Show images of a split in memory as was drawn for them."""
        images = self.split.images.index_select(0, index)  # a tenth of indexing's time
        pixels = self._changed(cropped(send(images, self.device), boxes), change)
        if seeds is not None:
            # through PIL, image by image: a tenth of a millisecond each at 30 pixels
            from mae_ablation.data.randaugment import randaugment

            settings = self.view.randaugment_magnitude, self.view.randaugment_fill
            images = randaugment((pixels * 255).round().byte().cpu(), seeds.tolist(), *settings)
            pixels = send(images, self.device).float() / 255
        return resized(pixels, self.view.image_size)


def take_rows(drawn: Any, rows: Rows) -> Any:
    """Take some rows' part of what was drawn for a batch: of a tensor or a tuple of them."""
    if drawn is None or isinstance(drawn, torch.Tensor):
        return drawn if drawn is None else drawn[rows]
    # a named tuple, such as Boxes, stays one
    parts = (values[rows] for values in drawn)
    return type(drawn)(*parts) if hasattr(drawn, "_fields") else tuple(parts)


def plain(
    split: Split | FileSplit,
    device: str | torch.device = "cpu",
    batch: int = 512,
    image_size: int | None = None,
    workers: int = 0,
    turns: slice = slice(None),
) -> Iterator[Batch]:
    """Show the split in order and without augmentation, as `Feed.batches` does.

    Args:
        turns: which of the batches; all of them if not said.
    """
    feed = Feed(split, View(image_size=image_size), device, workers)
    return feed.batches(torch.arange(len(split)).split(batch)[turns], torch.Generator())
