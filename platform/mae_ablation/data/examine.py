"""Every image of a folder opened once: what cannot be read, how small it is, whether it is turned.

Some 100 images per second and core at ImageNet's sizes. Importing torchvision costs seconds: import
this module where it is needed.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch.utils.data import DataLoader

from mae_ablation.data.decode import CannotDecode, decode_read, fork_server, orientation
from mae_ablation.data.folder import FolderImages, Listing
from mae_ablation.data.shards import Prepared, ShardImages, list_images

_AT_A_TIME = 64  # files a worker looks at before it answers


class Examined(NamedTuple):
    """An image file that was opened."""

    name: str
    """relative to the set's folder"""
    reason: str = ""
    """why it cannot be read; "" if it can"""
    short_side: int = 0
    """in pixels"""
    turned: bool = False
    """its EXIF data asks for a turn"""


@dataclass(frozen=True, slots=True)
class Looks:
    """Images by number, as the workers that open them hold them."""

    images: FolderImages | ShardImages

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Examined:
        # reasons are values, not exceptions: one broken file must not end the check
        name, data = self.images.names[index], b""

        def read() -> bytes:
            nonlocal data
            data = self.images.read(index)
            return data

        try:
            image = decode_read(read)
        except CannotDecode as error:
            return Examined(name, str(error))
        return Examined(name, "", min(image.shape[1:]), orientation(io.BytesIO(data)) != 1)


def examine_images(folder: Path | str, workers: int = 2) -> Iterator[Examined]:
    """Open every image that a training would take, of both splits, in the listing's order.

    Args:
        folder: of images, or of what `data prepare` made, then also an address.
        workers: processes that open files; 0: in this process.

    Raises:
        UserError: as `list_images`.
    """
    found = list_images(folder)
    for split in ("train", "val"):
        loader = DataLoader(
            Looks(found.images(split)),
            batch_size=_AT_A_TIME,
            num_workers=workers,
            collate_fn=list,
            multiprocessing_context=fork_server() if workers else None,
        )
        for batch in loader:
            yield from batch


def describe_folder(found: Listing | Prepared, seen: list[Examined]) -> list[str]:
    """Write lines on what a folder holds, what is not taken of it, and what is odd."""
    # what a training would find
    train, val = sum(found.train.counts), sum(found.val.counts)
    classes = f"{len(found.classes)} class{'es' * (len(found.classes) != 1)}"
    lines = [f"{train} training and {val} validation images of {classes}"]
    lines += [f"not taken: {part}" for part in found.left_out]

    # images that are taken, and may not be what one thinks
    turned = [each.name for each in seen if each.turned]
    if turned:
        asking = "1 image asks" if len(turned) == 1 else f"{len(turned)} images ask"
        lines.append(
            f"{asking} in EXIF data to be turned ({turned[0]}"
            f"{', ...' * (len(turned) > 1)}): training takes the pixels as they are stored, as "
            "torchvision's ImageFolder does; `reconstruct` turns them"
        )
    sound = [each for each in seen if not each.reason]
    if sound:
        least = min(sound, key=lambda each: each.short_side)
        lines.append(
            f"smallest image: {least.short_side} px on the short side ({least.name}); what is "
            "below a recipe's data.image_size is enlarged"
        )

    # the verdict, over what is taken and no more
    broken, left = len(seen) - len(sound), sum(part.count for part in found.left_out)
    more = "1 more thing lies there and is" if left == 1 else f"{left} more lie there and are"
    aside = f"; {more} not taken" if left else ""
    if broken:
        return [*lines, f"{broken} of {len(seen)} images cannot be read{aside}"]
    return [*lines, f"every one of the {len(seen)} images taken can be read{aside}"]
