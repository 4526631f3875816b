"""Feed: batches of a split as a view shows them, from memory or from files.

From memory, a batch is drawn when its turn comes: boxes first, then RandAugment; what comes after
the crop has a generator of its own, so that images are cropped alike with it and without. From
files, every image has a seed of its own, drawn before the first batch, so that nothing depends on
how many workers there are or how far ahead they are; what comes after the crop is drawn when a
batch's turn comes.

Shapes: n images of a batch, c channels, s side asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from mae_ablation.data.augment import Boxes, View, boxes_for, cropped, resized
from mae_ablation.data.dataset import FileSplit, Split
from mae_ablation.data.transfer import send

Batch = tuple[torch.Tensor, torch.Tensor]
Rows = torch.Tensor | slice
"""positions in a batch"""


def whole(n: int) -> Sequence[Rows]:
    """All n images of a batch at once."""
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
        self.reader = self._reader(workers) if isinstance(split, FileSplit) else None

    def _reader(self, workers: int):
        from mae_ablation.data.decode import Reader, streamed

        show = partial(streamed, view=self.view, side=self.view.image_size or self.split.image_size)
        pin = self.device.type == "cuda"
        return Reader(self.split.images, show, workers, pin)

    def batches(
        self,
        indices: Sequence[torch.Tensor],
        generator: torch.Generator,
        *,
        skip: int = 0,
        shares: Callable[[int], Sequence[Rows]] = whole,
    ) -> Iterator[Batch]:
        """Pixels (n, c, s, s) float32 in [0, 1] and labels (n,) int64 of each index batch (n,).

        Take the batches of one call before those of the next: workers serve one at a time.

        Args:
            skip: so many batches at the beginning are not shown; what is random in them is drawn.
            shares: which rows of a batch of n are shown, each share as a batch of its own; what is
                random is drawn for the whole batch.

        Raises:
            UserError: a file cannot be decoded.
        """
        if self.reader is None:
            return self._from_memory(indices, generator, skip, shares)
        seeds = [torch.randint(2**63 - 1, index.shape, generator=generator) for index in indices]
        return self._from_files(indices, seeds, generator, skip, shares)

    def _from_memory(
        self,
        indices: Sequence[torch.Tensor],
        generator: torch.Generator,
        skip: int,
        shares: Callable[[int], Sequence[Rows]],
    ) -> Iterator[Batch]:
        change_rng = apart_from(generator)
        for number, index in enumerate(indices):
            drawn = self._draw(len(index), generator, change_rng)
            for rows in shares(len(index)) if number >= skip else ():
                yield self._show(index[rows], drawn.of(rows)), self._labels(index[rows])

    def _from_files(
        self,
        indices: Sequence[torch.Tensor],
        seeds: Sequence[torch.Tensor],
        generator: torch.Generator,
        skip: int,
        shares: Callable[[int], Sequence[Rows]],
    ) -> Iterator[Batch]:
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

    def _draw(self, n: int, generator: torch.Generator, change_rng: torch.Generator) -> "Drawn":
        view, side = self.view, self.split.images.shape[-1]
        boxes = boxes_for(view, n, side, generator)
        change = view.augmentation.draw(n, change_rng)
        seeds = None
        if view.randaugment_magnitude:
            seeds = torch.randint(2**63 - 1, (n,), generator=generator)
        return Drawn(boxes, change, seeds)

    def _changed(self, pixels: torch.Tensor, change: Any) -> torch.Tensor:
        return pixels if change is None else self.view.augmentation.apply(pixels, change)

    def _show(self, index: torch.Tensor, drawn: "Drawn") -> torch.Tensor:
        images = self.split.images.index_select(0, index)  # a tenth of indexing's time
        pixels = self._changed(cropped(send(images, self.device), drawn.boxes), drawn.change)
        if drawn.seeds is not None:
            pixels = self._randaugmented(pixels, drawn.seeds)
        return resized(pixels, self.view.image_size)

    def _randaugmented(self, pixels: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """Through PIL, image by image: a tenth of a millisecond each at 30 pixels."""
        from mae_ablation.data.randaugment import randaugment

        view = self.view
        images = (pixels * 255).round().byte().cpu()
        images = randaugment(
            images,
            seeds.tolist(),
            view.randaugment_magnitude,
            view.randaugment_fill,
        )
        return send(images, self.device).float() / 255


class Drawn(NamedTuple):
    """What is random about a batch of a split in memory."""

    boxes: Boxes | None
    change: Any
    """drawn by the augmentation, for what it does after the crop; None: nothing"""
    seeds: torch.Tensor | None
    """(n,) int64, of RandAugment"""

    def of(self, rows: Rows) -> "Drawn":
        """That of some of its images."""
        seeds = None if self.seeds is None else self.seeds[rows]
        return Drawn(take_rows(self.boxes, rows), take_rows(self.change, rows), seeds)


def take_rows(drawn: Any, rows: Rows) -> Any:
    """The part of what was drawn for a batch that is some rows': of a tensor or a tuple of them."""
    if drawn is None or isinstance(drawn, torch.Tensor):
        return drawn if drawn is None else drawn[rows]
    parts = (values[rows] for values in drawn)
    return type(drawn)(*parts) if hasattr(drawn, "_fields") else tuple(parts)


def apart_from(generator: torch.Generator) -> torch.Generator:
    """A generator that follows from another's state and takes nothing from it: whatever is drawn
    beside them, the boxes of an epoch are the same."""
    copy = torch.Generator().set_state(generator.get_state())
    return torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=copy)) + 1)


def plain(
    split: Split | FileSplit,
    device: str | torch.device = "cpu",
    batch: int = 512,
    image_size: int | None = None,
    workers: int = 0,
    turns: slice = slice(None),
) -> Iterator[Batch]:
    """The split in order and without augmentation, as `Feed.batches` gives it.

    Args:
        turns: which of the batches; all of them if not said.
    """
    feed = Feed(split, View(image_size=image_size), device, workers)
    return feed.batches(torch.arange(len(split)).split(batch)[turns], torch.Generator())
