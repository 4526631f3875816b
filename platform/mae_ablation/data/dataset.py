"""Data sets: splits of uint8 images in memory or of files, a normalisation and a fingerprint."""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from mae_ablation.data.arrays import arrays_of, statistics
from mae_ablation.data.augment import resized
from mae_ablation.data.catalog import facts, fetch_images
from mae_ablation.data.draws import hold_out
from mae_ablation.data.folder import FolderImages
from mae_ablation.data.shards import ShardImages, images_of, list_images
from mae_ablation.recipe.recipe import Data


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Images (n, c, side, side) uint8 and labels (n,) int64."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, index: torch.Tensor) -> "Split":
        """Take the images at these positions (m,)."""
        return Split(images=self.images[index], labels=self.labels[index])


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSplit:
    """A split that is decoded whenever it is looked at; labels (n,) int64."""

    images: FolderImages | ShardImages
    labels: torch.Tensor
    image_size: int
    """side of the crops, unless something else is asked for"""

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, index: torch.Tensor) -> "FileSplit":
        """Take the files at these positions (m,)."""
        images = self.images.part(index.tolist())
        return replace(self, images=images, labels=self.labels[index])


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One data set at the size a recipe asks for.

    `validation` is held out of `train`; `test` is measured once, after the last epoch.
    `mean` and `std` are per channel, of pixels in [0, 1].
    """

    name: str
    fingerprint: str
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split | FileSplit
    validation: Split | FileSplit
    test: Split | FileSplit

    @property
    def channels(self) -> int:
        return len(self.mean)


_MakeSplit = Callable[[str, np.ndarray, torch.Tensor], Split | FileSplit]
"""Makes a split of "train" or "test", of images at some positions, with their labels."""
KEPT = 2  # of the data sets that a process has read
_loaded: OrderedDict[Data, Dataset] = OrderedDict()


def load_dataset(data: Data) -> Dataset:
    """Read a recipe's data set, once per process; the last two are kept.

    Raises:
        UserError: missing or damaged files, or a split that the set is too small for.
        ValueError: the bundled file is damaged.
    """
    if not is_loaded(data):
        keep_dataset(data, read_dataset(data))
    return _loaded[key_of(data)]


def is_loaded(data: Data) -> bool:
    """Tell whether `load_dataset` has it at hand."""
    return key_of(data) in _loaded


def read_dataset(data: Data) -> Dataset:
    """Read a recipe's data set from its files. Raises as `load_dataset` does."""
    fetch_images(data)
    labels, show = _open_files(data) if data.set.in_files else _open_arrays(data)
    known, (mean, std) = facts(data, "data.folder"), statistics(data)

    # held-out images are drawn before anything is decoded or copied
    train, validation = hold_out(
        labels["train"], data.validation_images, data.train_images, known.classes
    )

    def split(part: str, index: np.ndarray | slice) -> Split | FileSplit:
        index = np.arange(len(labels[part]))[index]
        return show(part, index, torch.from_numpy(labels[part][index]).long())

    return Dataset(
        name=data.name,
        fingerprint=known.fingerprint,
        classes=known.classes,
        mean=mean,
        std=std,
        train=split("train", train),
        validation=split("train", validation),
        test=split("test", slice(None)),
    )


def _open_arrays(data: Data) -> tuple[dict[str, np.ndarray], _MakeSplit]:
    """Labels of a set that is read whole, and what makes splits of it."""
    arrays = arrays_of(data)

    def show(part: str, index: np.ndarray, labels: torch.Tensor) -> Split:
        images = torch.from_numpy(arrays[f"{part}_images"][index])  # copies: arrays are shared
        images = images if images.ndim == 4 else images[:, None]
        return Split(images=fit_to_side(images, data.image_size), labels=labels)

    return {part: arrays[f"{part}_labels"] for part in ("train", "test")}, show


def _open_files(data: Data) -> tuple[dict[str, np.ndarray], _MakeSplit]:
    """Labels of a set of files, the places of sorted class names, and what makes splits of it."""
    found = list_images(data.set.location(data), data.set.classes, "data.folder")
    folders = {"train": "train", "test": "val"}

    def show(part: str, index: np.ndarray, labels: torch.Tensor) -> Split | FileSplit:
        images = images_of(found, folders[part], data).part(index)
        if data.reading == "stream":
            return FileSplit(images=images, labels=labels, image_size=data.image_size)
        from mae_ablation.data.decode import read_all

        return Split(images=read_all(images, data.image_size, data.workers), labels=labels)

    counts = {part: getattr(found, folder).counts for part, folder in folders.items()}
    return {part: np.repeat(np.arange(len(n)), n) for part, n in counts.items()}, show


def keep_dataset(data: Data, dataset: Dataset) -> None:
    """Have `load_dataset(data)` return this data set: one that another process has read."""
    # a lane goes from one set to the next: two are enough, the oldest goes
    while len(_loaded) >= KEPT:
        _loaded.popitem(last=False)
    _loaded[key_of(data)] = dataset


def key_of(data: Data) -> Data:
    """Reduce a section to what tells data sets apart: of a folder of images its place, too."""
    folder = str(data.set.location(data)) if data.set.in_files else None
    how = {"download": False, "workers": 0, "cache_dir": None, "cache_gb": 1}
    return replace(data, folder=folder, **how)


def fits_in_memory(data: Data) -> bool:
    """Tell whether the set, once read, is pixels in memory that another process can be given."""
    return data.reading == "cache"


def fit_to_side(images: torch.Tensor, size: int) -> torch.Tensor:
    """Bring images to a side of `size`: smaller ones are padded, larger ones resized down."""
    return resized(images, size) if images.shape[-1] > size else pad(images, size)


def pad(images: torch.Tensor, size: int) -> torch.Tensor:
    """Add an even border of zeros, up to `size` x `size`."""
    # 28 to 32 pixels: two more on every side; an odd pixel goes to the end
    missing = size - images.shape[-1]
    before = missing // 2
    return F.pad(images, (before, missing - before, before, missing - before))


PARTS = ("train", "validation", "test")


def to_arrays(dataset: Dataset) -> dict:
    """Turn a data set into plain values and numpy arrays that share its memory."""
    # Ray shares arrays between processes without a copy, tensors it would pickle
    names = ("name", "fingerprint", "classes", "mean", "std")
    plain = {name: getattr(dataset, name) for name in names}
    for part in PARTS:
        split = getattr(dataset, part)
        plain |= {f"{part}_images": split.images.numpy(), f"{part}_labels": split.labels.numpy()}
    return plain


def from_arrays(arrays: dict) -> Dataset:
    """Undo `to_arrays`, on the arrays themselves: nothing ever writes into them."""
    plain = dict(arrays)
    with warnings.catch_warnings():  # arrays from Ray's object store are read-only: all the better
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        for part in PARTS:
            images, labels = (plain.pop(f"{part}_{what}") for what in ("images", "labels"))
            images, labels = torch.from_numpy(images), torch.from_numpy(labels)
            plain[part] = Split(images=images, labels=labels)
    return Dataset(**plain)
