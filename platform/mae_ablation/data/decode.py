"""Image files to pixels, in worker processes.

Importing torchvision costs seconds: import this module where it is needed.

Workers come from a fork server: a process of its own that imports this module once, has no other
threads, and forks a worker in a tenth of a second. Forking the trainer itself would copy the locks
of Ray's, OpenMP's and CUDA's threads in whatever state they are in, without the threads that
release them, and hang now and then; spawning would pay the import in every worker.

Shapes: an image is (3, h, w) uint8, s is the side asked for.
"""

import multiprocessing
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader
from torchvision.io import decode_image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from mae_ablation.data.augment import View, boxes_for
from mae_ablation.study.errors import UserError

Show = Callable[[torch.Tensor, int], torch.Tensor]
"""Maps a decoded image and its seed to what is wanted of it, in the worker."""


def streamed(image: torch.Tensor, seed: int, *, view: View, side: int) -> torch.Tensor:
    """(3, s, s): the crop of the full image, then RandAugment, all drawn from the seed.

    crop_random and crop_jitter: a random box of the image as it is. The others resize the short
    side to s x 256 / 224 and crop s, in the centre (paper's evaluation) or anywhere (crop_fixed).
    Above 224 pixels evaluation resizes to s itself, as the official code does.
    """
    rng = torch.Generator().manual_seed(seed)
    if view.augmentation in ("crop_random", "crop_jitter"):
        boxes = boxes_for(view, 1, tuple(image.shape[1:]), rng)
        *box, flip = (int(part) for part in boxes)
        image = F.resized_crop(image, *box, [side, side], InterpolationMode.BICUBIC, antialias=True)
    else:
        exact = view.augmentation == "none" and side > 224
        image = short_side(image, side if exact else round(side * 256 / 224))
        where = torch.rand(3, generator=rng) if view.augmentation == "crop_fixed" else None
        image, flip = square(image, side, where), where is not None and where[2] < 0.5
    image = image.flip(-1) if flip else image
    return with_randaugment(image, view, rng) if view.randaugment_magnitude else image


def square(image: torch.Tensor, side: int, where: torch.Tensor | None) -> torch.Tensor:
    """(3, s, s) out of a larger image: at shares `where` of the room there is, or in the centre."""
    room = [extent - side for extent in image.shape[1:]]
    if where is None:
        top, left = (extent // 2 for extent in room)
    else:
        top, left = (int(share * (n + 1)) for share, n in zip(where.tolist(), room, strict=False))
    return image[:, top : top + side, left : left + side]


def with_randaugment(image: torch.Tensor, view: View, rng: torch.Generator) -> torch.Tensor:
    from mae_ablation.data.randaugment import randaugment

    seed = torch.randint(2**63 - 1, (1,), generator=rng)
    settings = view.randaugment_magnitude, view.randaugment_fill
    return randaugment(image[None], seed.tolist(), *settings)[0]


def cached(image: torch.Tensor, seed: int, *, side: int) -> torch.Tensor:
    """(3, s, s): short side resized to s, then the centre; nothing is random."""
    return square(short_side(image, side), side, None)


def nothing(image: torch.Tensor, seed: int) -> torch.Tensor:
    """Of an image that could be decoded."""
    return image.new_empty(0)


def short_side(image: torch.Tensor, side: int) -> torch.Tensor:
    """Resized, larger or smaller, until the short side has `side` pixels."""
    return F.resize(image, [side], InterpolationMode.BICUBIC, antialias=True)


def decode(path: Path) -> torch.Tensor:
    """(3, h, w) uint8 of a JPEG, PNG or WebP file, grey and CMYK converted; RuntimeError if not.

    The one place that decodes: torchvision 0.29 announces that TorchCodec will take this over.
    """
    image = decode_image(str(path), mode="RGB")
    return image if image.dtype == torch.uint8 else (image.int() >> 8).byte()  # PNG of 16 bits


class Broken(NamedTuple):
    """A file that could not be decoded. Returned: what a worker raises arrives as a traceback."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """What workers hold: files by number. Items are asked for with a seed."""

    root: str
    names: tuple[str, ...]
    show: Show

    def __getitem__(self, item: tuple[int, int]) -> torch.Tensor | Broken:
        index, seed = item
        try:
            image = decode(Path(self.root) / self.names[index])
        except (RuntimeError, OSError) as error:
            reason = re.sub(r"^.*\.cpp:\d+, ", "", str(error).splitlines()[0])
            return Broken(self.names[index], reason)
        return self.show(image, seed)


def collate(items: list[torch.Tensor | Broken]) -> torch.Tensor | list[Broken]:
    """The batch, rows in memory in the order of its axes, or what of it is broken."""
    broken = [item for item in items if isinstance(item, Broken)]
    return broken or torch.stack(items).contiguous()


class Agenda:
    """The batches of an epoch as the DataLoader asks for them; the next epoch's replace them.

    A DataLoader of its own for every epoch would start its workers anew.
    """

    def __init__(self) -> None:
        self.batches: Sequence[tuple[torch.Tensor, torch.Tensor]] = ()

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for index, seeds in self.batches:
            yield list(zip(index.tolist(), seeds.tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.batches)


class Reader:
    """Files decoded batch by batch, in order, by workers that live as long as the reader.

    Args:
        root, names: the folder, and files relative to it.
        show: what is wanted of an image; a function of this module, or a `partial` of one.
        workers: processes, each with one thread (DataLoader's rule); 0: in this process.
        pin: batches lie in pinned memory, for the copy to a GPU.
    """

    def __init__(
        self, root: str, names: tuple[str, ...], show: Show, workers: int = 0, pin: bool = False
    ) -> None:
        self.root, self.names, self.agenda = root, names, Agenda()
        self.loader = DataLoader(
            Pictures(root, names, show),
            batch_sampler=self.agenda,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin,
            persistent_workers=workers > 0,
            multiprocessing_context=fork_server() if workers else None,
            generator=torch.Generator(),  # else it draws a seed from torch's global state
        )

    def batches(
        self, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]
    ) -> Iterator[torch.Tensor]:
        """What is shown of each batch (indices (n,), seeds (n,)): (n, 3, s, s) uint8.

        Raises:
            UserError: a file cannot be decoded.
        """
        self.agenda.batches = batches
        for batch in self.loader:
            if isinstance(batch, list):
                name, reason = batch[0]
                raise UserError(f"cannot decode {name}: {reason}; replace or remove it", self.root)
            yield batch

    def all(self, size: int) -> Iterator[torch.Tensor]:
        """Every file in order, `size` at a time; errors as `batches`."""
        return self.batches(in_order(len(self.names), size))

    def tried(self, size: int) -> Iterator[list[Broken]]:
        """What of every batch of `size` files is broken."""
        self.agenda.batches = in_order(len(self.names), size)
        for batch in self.loader:
            yield batch if isinstance(batch, list) else []


def in_order(n: int, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Indices 0 to n - 1 in batches, with seeds that nothing uses."""
    return [(index, torch.zeros_like(index)) for index in torch.arange(n).split(size)]


def fork_server() -> multiprocessing.context.BaseContext:
    """The process's fork server; what it imports is fixed once it runs, so RandAugment, too."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["__main__", "mae_ablation.data.decode", "mae_ablation.data.randaugment"]
    )
    return context


def read_all(root: str, names: tuple[str, ...], side: int, workers: int) -> torch.Tensor:
    """Every file as `cached` shows it: one tensor (n, 3, s, s) uint8; errors as `batches`."""
    out = torch.empty(len(names), 3, side, side, dtype=torch.uint8)
    done = 0
    for batch in Reader(root, names, partial(cached, side=side), workers).all(64):
        out[done : done + len(batch)] = batch
        done += len(batch)
    return out
