"""Image files to pixels, in worker processes.

Importing torchvision costs seconds: import this module where it is needed.

Workers come from a fork server: a process of its own that imports this module once, has no other
threads, and forks a worker in a tenth of a second. Forking the trainer itself would copy the locks
of Ray's, OpenMP's and CUDA's threads in whatever state they are in, without the threads that
release them, and hang now and then; spawning would pay the import in every worker.

Shapes: an image is (3, h, w) uint8, s is the side asked for.
"""

import io
import multiprocessing
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch.utils.data import DataLoader
from torchvision.io import decode_image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from mae_ablation.data.augment import View, boxes_for
from mae_ablation.data.folder import FolderImages
from mae_ablation.data.shards import ShardImages
from mae_ablation.errors import UserError, one_line

Show = Callable[[torch.Tensor, int], torch.Tensor]
"""Maps a decoded image and its seed to what is wanted of it, in the worker."""


def streamed(image: torch.Tensor, seed: int, *, view: View, side: int) -> torch.Tensor:
    """Crop the full image to (3, s, s), then apply RandAugment, all drawn from the seed."""
    rng = torch.Generator().manual_seed(seed)
    # a random box of the image as it is; or the short side is resized to s x 256 / 224 and s is cut
    # out, in the centre (paper's evaluation) or anywhere
    if view.augmentation.streamed == "box":
        boxes = boxes_for(view, 1, tuple(image.shape[1:]), rng)
        *box, flip = (int(part) for part in boxes)
        image = F.resized_crop(image, *box, [side, side], InterpolationMode.BICUBIC, antialias=True)
    else:
        exact = view.augmentation.as_evaluated and side > 224  # as the official code evaluates
        image = short_side(image, side if exact else round(side * 256 / 224))
        where = torch.rand(3, generator=rng) if view.augmentation.streamed == "anywhere" else None
        image, flip = square(image, side, where), where is not None and where[2] < 0.5
    image = image.flip(-1) if flip else image
    if not view.randaugment_magnitude:
        return image
    from mae_ablation.data.randaugment import randaugment

    seeds = torch.randint(2**63 - 1, (1,), generator=rng).tolist()
    return randaugment(image[None], seeds, view.randaugment_magnitude, view.randaugment_fill)[0]


def square(image: torch.Tensor, side: int, where: torch.Tensor | None) -> torch.Tensor:
    """Cut (3, s, s) out of a larger image: at shares `where` of the room there is, or centred."""
    room = [extent - side for extent in image.shape[1:]]
    if where is None:
        top, left = (extent // 2 for extent in room)
    else:
        # each place is equally likely, the last one too
        top, left = (int(share * (n + 1)) for share, n in zip(where.tolist(), room, strict=False))
    return image[:, top : top + side, left : left + side]


def cached(image: torch.Tensor, seed: int, *, side: int) -> torch.Tensor:
    """Resize the short side to s and cut out the centre, (3, s, s); nothing is random."""
    return square(short_side(image, side), side, None)


def short_side(image: torch.Tensor, side: int) -> torch.Tensor:
    """Resize, larger or smaller, until the short side has `side` pixels."""
    return F.resize(image, [side], InterpolationMode.BICUBIC, antialias=True)


class CannotDecode(ValueError):
    """A file is not one picture that can be read; the text says why, in one line."""


# first bytes of JPEG, PNG, GIF and WebP: whatever a file is called, its content decides
OF_TORCHVISION = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")
OF_PIL = ("BMP", "DIB", "TIFF", "JPEG2000", "PPM")  # torchvision has no decoder for these
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")  # PIL's names of grey pixels of 16 bits


def decode(path: Path) -> torch.Tensor:
    """Read the picture in a file: see `decode_read`."""
    return decode_read(path.read_bytes)


def decode_read(read: Callable[[], bytes]) -> torch.Tensor:
    """Decode one picture of any format in folder.EXTENSIONS as (3, h, w) uint8.

    Grey, palette and CMYK are converted, 16 bits keep the upper 8, transparency is left out, and
    the pixels lie as PIL and ImageFolder have them: not turned by EXIF data, but in TIFF files.
    The one place that decodes: every check of a picture stands here, so that `data`, a training
    and a reconstruction refuse the same files in the same words.

    Raises:
        CannotDecode: not a picture, cut short, out of reach, or several pictures.
    """
    try:
        data = read()
        if not data:
            raise CannotDecode("the file is empty")
        if (pictures := _pictures_of_png(data)) > 1:
            raise CannotDecode(_several(pictures))
        if data.startswith(OF_TORCHVISION):
            content = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            image = decode_image(content, mode="RGB")
        else:
            image = _decode_by_pil(data)
    except CannotDecode:
        raise
    except Exception as error:  # whatever the bytes lead to: OSError, RuntimeError, SyntaxError
        raise CannotDecode(_reason(error)) from error
    if image.ndim != 3:
        raise CannotDecode(_several(len(image)))
    # a PNG of 16 bits stays so
    return image if image.dtype == torch.uint8 else (image.int() >> 8).byte()


def _decode_by_pil(data: bytes) -> torch.Tensor:
    # the formats are named, so that nothing exotic is opened by its first bytes
    with Image.open(io.BytesIO(data), formats=OF_PIL) as picture:
        if (pictures := getattr(picture, "n_frames", 1)) > 1:
            raise CannotDecode(_several(pictures))
        if picture.mode in SIXTEEN_BITS:
            grey = torch.from_numpy(np.asarray(picture).astype(np.int32) >> 8).byte()
            return grey.expand(3, -1, -1).contiguous()
        if picture.mode in ("I", "F"):  # their range is not known, and PIL would cut at 255
            raise CannotDecode(f"pixels of PIL's mode {picture.mode}, of 8 or 16 bits are needed")
        pixels = np.asarray(picture.convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()


def _pictures_of_png(data: bytes) -> int:
    """Pictures of an animated PNG, whose decoders show the first alone; 1 of any other file."""
    if not data.startswith(b"\x89PNG"):
        return 1
    # the chunk acTL, before the pixels, says how many frames there are
    said = data.find(b"acTL", 0, max(data.find(b"IDAT"), 0))
    return int.from_bytes(data[said + 4 : said + 8], "big") if said > 0 else 1


def _several(pictures: int) -> str:
    return f"holds {pictures} pictures (an animation or pages), and one is needed"


def _reason(error: Exception) -> str:
    """The error's first line, without the place in torchvision's sources."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    return re.sub(r"^.*\.cpp:\d+, ", "", text)


# by EXIF's orientation: quarter turns to the left, then mirrored left and right or not
TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False)}
TURNS |= {7: (1, True), 8: (1, False)}


def orientation(file: Path | io.BytesIO) -> int:
    """Read how a picture, as `decode` gives it, is to be turned: EXIF's 1 (not at all) to 8."""
    try:
        with Image.open(file) as picture:
            if picture.format == "TIFF":  # PIL turns these itself, ImageFolder's too
                return 1
            found = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF that cannot be read turns nothing, in a browser either
        return 1
    return found if found in TURNS else 1


def upright(image: torch.Tensor, orientation: int) -> torch.Tensor:
    """Turn a picture (3, h, w) as a person sees it: PIL's ImageOps.exif_transpose."""
    quarters, mirrored = TURNS.get(orientation, (0, False))
    image = torch.rot90(image, quarters, (1, 2))
    return image.flip(2) if mirrored else image


class Broken(NamedTuple):
    """A file that could not be decoded. Returned: what a worker raises arrives as a traceback."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """Files by number, as workers hold them; items are asked for with a seed."""

    images: FolderImages | ShardImages
    show: Show

    def __getitem__(self, item: tuple[int, int]) -> torch.Tensor | Broken:
        # what is wrong with a file is returned, what is wrong with us is raised
        index, seed = item
        name = self.images.names[index]
        try:
            image = decode_read(partial(self.images.read, index))
        except CannotDecode as error:
            return Broken(name, str(error))
        try:
            return self.show(image, seed)
        except Exception as error:  # a fault of ours: with the file that brings it out
            raise RuntimeError(f"{self.images.root}/{name}: {one_line(error)}") from error


def collate(items: list[torch.Tensor | Broken]) -> torch.Tensor | list[Broken]:
    """Stack a batch, rows in memory in the order of its axes, or list what of it is broken."""
    broken = [item for item in items if isinstance(item, Broken)]
    return broken or torch.stack(items).contiguous()


class Agenda:
    """The batches of an epoch as the DataLoader asks for them; the next epoch's replace them, for a
    DataLoader of its own would start its workers anew."""

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
        images: what is read, by number.
        show: what is wanted of an image; a function of this module, or a `partial` of one.
        workers: processes, each with one thread (DataLoader's rule); 0: in this process.
        pin: batches lie in pinned memory, for the copy to a GPU.
    """

    def __init__(
        self, images: FolderImages | ShardImages, show: Show, workers: int = 0, pin: bool = False
    ) -> None:
        self.images, self.agenda = images, Agenda()
        self.loader = DataLoader(
            Pictures(images, show),
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
        """Show each batch (indices (n,), seeds (n,)): (n, 3, s, s) uint8.

        Raises:
            UserError: a file cannot be decoded, with its name and the reason.
        """
        self.agenda.batches = batches
        for batch in self.loader:
            if isinstance(batch, list):
                name, reason = batch[0]
                line = f"cannot decode {name}: {reason}; {self.images.remedy}"
                raise UserError(line, self.images.root)
            yield batch

    def all(self, size: int) -> Iterator[torch.Tensor]:
        """Show every file in order, `size` at a time; errors as `batches`."""
        parts = torch.arange(len(self.images)).split(size)
        return self.batches([(index, torch.zeros_like(index)) for index in parts])  # unused seeds


def fork_server() -> multiprocessing.context.BaseContext:
    """Return the process's fork server, whose imports are fixed once it runs: RandAugment, too."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["__main__", "mae_ablation.data.decode", "mae_ablation.data.randaugment"]
    )
    return context


def read_all(images: FolderImages | ShardImages, side: int, workers: int) -> torch.Tensor:
    """Decode every file as `cached` shows it, into (n, 3, s, s) uint8; errors as `batches`."""
    # filled as batches arrive: the set is never in memory twice
    out = torch.empty(len(images), 3, side, side, dtype=torch.uint8)
    done = 0
    for batch in Reader(images, partial(cached, side=side), workers).all(64):
        out[done : done + len(batch)] = batch
        done += len(batch)
    return out
