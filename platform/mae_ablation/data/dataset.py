"""Data sets: splits of uint8 images in memory or of files, a normalisation and a fingerprint."""

import warnings
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from mae_ablation.data.arrays import arrays_of, statistics
from mae_ablation.data.augment import resized
from mae_ablation.data.catalog import facts, fetch_images
from mae_ablation.data.draws import hold_out
from mae_ablation.data.folder import FolderImages, Images
from mae_ablation.data.shards import Counts, ShardImages, images_of, list_images
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
    return _from_folder(data) if data.set.in_files else _from_arrays(data)


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


def _from_arrays(data: Data) -> Dataset:
    # held-out images are drawn before anything is copied: the arrays are shared
    fetch_images(data)
    arrays, known = arrays_of(data), facts(data)
    mean, std = statistics(data)
    train, validation = hold_out(
        arrays["train_labels"], data.validation_images, data.train_images, known.classes
    )

    def split(part: str, index: np.ndarray | slice) -> Split:
        index = np.arange(len(arrays[f"{part}_labels"]))[index]  # copies: the arrays are shared
        images = torch.from_numpy(arrays[f"{part}_images"][index])
        images = images if images.ndim == 4 else images[:, None]
        labels = torch.from_numpy(arrays[f"{part}_labels"][index]).long()
        return Split(images=fit_to_side(images, data.image_size), labels=labels)

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


def _from_folder(data: Data) -> Dataset:
    """Sorted class names are the labels; the folder's val/ is `test`."""
    known = data.set
    fetch_images(data)
    found = list_images(known.location(data), known.classes, "data.folder")
    train, validation = hold_out(
        labels_of(found.train), data.validation_images, data.train_images, len(found.classes)
    )

    def split(part: str, index: np.ndarray | slice) -> Split | FileSplit:
        labels = labels_of(getattr(found, part))
        index = np.arange(len(labels))[index]
        images = images_of(found, part, data).part(index)
        return _read(data, images, torch.from_numpy(labels[index]))

    return Dataset(
        name=data.name,
        fingerprint=found.fingerprint,
        classes=len(found.classes),
        mean=known.mean,
        std=known.std,
        train=split("train", train),
        validation=split("train", validation),
        test=split("val", slice(None)),
    )


def _read(
    data: Data, images: FolderImages | ShardImages, labels: torch.Tensor
) -> Split | FileSplit:
    if data.reading == "stream":
        return FileSplit(images=images, labels=labels, image_size=data.image_size)
    from mae_ablation.data.decode import read_all

    return Split(images=read_all(images, data.image_size, data.workers), labels=labels)


def labels_of(part: Images | Counts) -> np.ndarray:
    """(n,) int64, in the order of the names."""
    return np.repeat(np.arange(len(part.counts)), part.counts)


def fit_to_side(images: torch.Tensor, size: int) -> torch.Tensor:
    """Bring images to a side of `size`: smaller ones are padded, larger ones resized down."""
    return resized(images, size) if images.shape[-1] > size else pad(images, size)


def pad(images: torch.Tensor, size: int) -> torch.Tensor:
    """Add an even border of zeros, up to `size` x `size`."""
    # 28 to 32 pixels: two more on every side; an odd pixel goes to the end
    missing = size - images.shape[-1]
    before = missing // 2
    return F.pad(images, (before, missing - before, before, missing - before))


SPLITS = ("train", "validation", "test")


def to_arrays(dataset: Dataset) -> dict:
    """Turn a data set into plain values and numpy arrays that share its memory."""
    names = ("name", "fingerprint", "classes", "mean", "std")
    plain = {name: getattr(dataset, name) for name in names}
    for part in SPLITS:
        split = getattr(dataset, part)
        plain |= {f"{part}_images": split.images.numpy(), f"{part}_labels": split.labels.numpy()}
    return plain


def from_arrays(arrays: dict) -> Dataset:
    """Undo `to_arrays`, on the arrays themselves: nothing ever writes into them."""
    plain = dict(arrays)
    with warnings.catch_warnings():  # arrays from Ray's object store are read-only: all the better
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        for part in SPLITS:
            images, labels = (plain.pop(f"{part}_{what}") for what in ("images", "labels"))
            images, labels = torch.from_numpy(images), torch.from_numpy(labels)
            plain[part] = Split(images=images, labels=labels)
    return Dataset(**plain)
