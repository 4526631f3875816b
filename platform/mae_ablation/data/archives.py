"""Data sets that torchvision reads: small ones as arrays, and downloads of what it can fetch.

Files are checked against torchvision's md5 sums whenever they are read.
"""

from typing import TYPE_CHECKING

from mae_ablation.data import folder
from mae_ablation.data.sets import SETS, location, missing
from mae_ablation.errors import UserError, one_line
from mae_ablation.recipe.recipe import Data

if TYPE_CHECKING:
    import numpy as np


def fetch(data: Data) -> None:
    """What the recipe's data set lacks on this machine is downloaded, if `data.download` says so.

    To be called once, in one process: two that unpack the same archive spoil it.

    Raises:
        UserError: files that are not there and not to be fetched, or that cannot be fetched.
    """
    lacks = missing(data)
    if not lacks:
        return
    if not (data.download and SETS[data.name].downloads):
        raise UserError(lacks, "data.folder")
    opened(data, train=True)  # fetches both splits
    folder.forget()


def read(data: Data) -> dict[str, "np.ndarray"]:
    """train_images (n, 3, side, side), train_labels (n,), test_...: uint8.

    STL-10's training split is its 5,000 labelled images.

    Raises:
        UserError: missing or damaged files.
    """
    import numpy as np

    fetch(data)
    arrays = {}
    for part, train in (("train", True), ("test", False)):
        source = opened(data, train=train)
        labels = source.labels if data.name == "stl10" else source.targets
        arrays[f"{part}_images"] = channels_first(np.asarray(source.data))
        arrays[f"{part}_labels"] = np.asarray(labels, dtype=np.uint8)
    return arrays


def channels_first(images: "np.ndarray") -> "np.ndarray":
    """(n, 3, h, w), in this order in memory, too; images of one channel stay (n, h, w)."""
    import numpy as np

    last = images.ndim == 4 and images.shape[-1] == 3  # CIFAR
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2) if last else images)


def opened(data: Data, *, train: bool):
    """torchvision's object for one split.

    Raises:
        UserError: files that are damaged or cannot be fetched.
    """
    from torchvision import datasets

    download = {"download": data.download}
    root = location(data)
    try:
        if data.name == "imagenette":
            return datasets.Imagenette(root, split="train" if train else "val", **download)
        if data.name == "stl10":
            return datasets.STL10(root, split="train" if train else "test", **download)
        kinds = {
            "cifar10": datasets.CIFAR10,
            "cifar100": datasets.CIFAR100,
        }
        return kinds[data.name](root, train=train, **download)
    except Exception as error:  # whatever the bytes lead to: torchvision asserts and unpickles
        raise UserError(
            f"cannot read {data.name} in {root}: {one_line(error)}; remove what is there and fetch "
            "it again with --set data.download=true",
            "data.folder",
        ) from error
