"""A data set that is read whole: its arrays, checked, and what follows from them. No torch."""

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from mae_ablation.errors import UserError
from mae_ablation.recipe.recipe import Data
from mae_ablation.registry import DataSet, ask

if TYPE_CHECKING:
    import numpy as np

_PARTS = ("train_images", "train_labels", "test_images", "test_labels")


def arrays_of(data: Data) -> dict[str, "np.ndarray"]:
    """Read a set's arrays; they are kept of a set that says nothing of itself beforehand.

    Raises:
        UserError: arrays of another shape or type than a set needs.
    """
    return _kept(data) if data.set.facts.__func__ is DataSet.facts else _checked(data)


def measure_facts(data: Data) -> dict:
    """Find the facts of a set that says none: sizes and a fingerprint of what is read."""
    arrays = _kept(data)
    # types and shapes count, too: the same bytes may be other images
    digest = hashlib.sha256()
    for name in _PARTS:
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())

    # sizes; labels are 0 to classes - 1, though a split may lack some
    images = arrays["train_images"]
    return {
        "fingerprint": digest.hexdigest(),
        "channels": images.shape[1] if images.ndim == 4 else 1,
        "train_images": len(images),
        "test_images": len(arrays["test_images"]),
        "classes": int(max(arrays[f"{part}_labels"].max() for part in ("train", "test"))) + 1,
    }


def statistics(data: Data) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Find mean and standard deviation per channel, of pixels in [0, 1]: the set's own, or those of
    its training images."""
    if data.set.mean and data.set.std:
        return data.set.mean, data.set.std
    images = arrays_of(data)["train_images"]
    images = images if images.ndim == 4 else images[:, None]
    # channel by channel: float64 of all of them would be eight times the set
    channels = [images[:, c].astype("float64") / 255 for c in range(images.shape[1])]
    return tuple(float(c.mean()) for c in channels), tuple(float(c.std()) for c in channels)


@lru_cache(maxsize=2)
def _kept(data: Data) -> dict[str, "np.ndarray"]:
    return _checked(data)


def _checked(data: Data) -> dict[str, "np.ndarray"]:
    """Read arrays and refuse those of other shapes or types than a set needs."""
    place, arrays = f"data set {data.name}", ask(data.set.read, data=data)
    # a user's set is checked where it is read, so that no training meets what it cannot use
    if absent := [name for name in _PARTS if name not in arrays]:
        raise UserError(f"read() gives no {', '.join(absent)}: return {', '.join(_PARTS)}", place)
    for part in ("train", "test"):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        square = images.ndim in (3, 4) and images.shape[-1] == images.shape[-2]
        if images.dtype != "uint8" or not square:
            raise UserError(
                f"{part}_images are {images.dtype} {images.shape}: give uint8 of (n, channels, "
                "side, side) or (n, side, side)",
                place,
            )
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
            raise UserError(
                f"{part}_labels are {labels.dtype} {labels.shape} of {len(images)} images: give "
                "whole numbers from 0, one for each",
                place,
            )
    return arrays
