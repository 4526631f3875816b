"""What a data set is prepared from: images with names and classes, in the order they are stored."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mae_ablation.data.folder import FolderImages, check_layout, listing
from mae_ablation.errors import UserError
from mae_ablation.store.paths import is_remote


class Original(Protocol):
    """What `prepare` asks of its source."""

    root: str
    classes: tuple[str, ...]
    """in the order of their labels"""
    names: tuple[str, ...]
    """SPLIT/CLASS/FILE of each image, SPLIT is "train" or "val" """
    sizes: Sequence[int]
    """bytes of each image, or of the file it is in: they tell whether it has changed"""
    left_out: tuple[str, ...]
    """what else lies there and is not taken, counted"""

    def read(self, number: int) -> bytes:
        """Bytes of an image, in any thread. Raises OSError."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderOriginal:
    """A folder of images: train/CLASS/*.jpg and val/CLASS/*.jpg."""

    root: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    left_out: tuple[str, ...]

    def read(self, number: int) -> bytes:
        return FolderImages(self.root, self.names).read(number)


def open_original(place: str) -> Original:
    """Find out what lies in a folder.

    Raises:
        UserError: nothing that can be prepared.
    """
    if is_remote(place):
        raise UserError("is an address: images are prepared from a folder of this machine", place)
    folder = Path(os.path.abspath(place))
    check_layout(folder)
    found = listing(folder)
    return FolderOriginal(
        root=str(folder),
        classes=found.classes,
        names=found.train.names + found.val.names,
        sizes=found.train.sizes + found.val.sizes,
        left_out=tuple(map(str, found.left_out)),
    )
