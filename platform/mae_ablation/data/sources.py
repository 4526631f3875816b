"""Our data sets share this: facts that are known before one is opened, and where it lies.

`test` is what accuracy is measured on: the test split where labels are public, the validation
folder of ImageNet and its like. Validation images for a recipe's choices are held out of training.
"""

from pathlib import Path

from mae_ablation.errors import UserError, one_line
from mae_ablation.recipe.recipe import Data
from mae_ablation.store.paths import expanded

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Known:
    """A set whose sizes are known beforehand; those of a folder are nominal, what lies there is
    counted (folder.py)."""

    fingerprint = ""
    """md5 sums of the archives, as torchvision knows them; folders have theirs computed"""
    classes = None
    """None: as many as there are folders"""
    train_images = test_images = 0
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    files = ()
    """names that torchvision looks for in the set's folder"""

    def facts(self) -> dict:
        return {
            "fingerprint": self.fingerprint or f"absent-{self.component.name}",
            "channels": len(self.mean),
            "train_images": self.train_images,
            "test_images": self.test_images,
            "classes": self.classes,
        }

    def location(self, data: Data) -> Path:
        """Folder of the set's files: `data.folder`, or data/NAME in the working directory."""
        folder = expanded(data.folder) if data.folder else Path("data") / self.component.name
        return folder.absolute()  # what is remembered of it must not depend on where one stands

    def missing(self, data: Data) -> str:
        """One line that says what is not on this machine and how to get it; "": all is there."""
        folder = self.location(data)
        if self.in_files:
            absent, layout = not folder.exists(), "train/CLASS/*.jpg and val/CLASS/*.jpg"
        else:
            absent = not all((folder / file).is_file() for file in self.files)
            layout = f"{self.files[0]} and the like"
        if not absent:
            return ""
        remedy = "--set data.download=true or " if self.downloads else ""
        return (
            f"data set {self.component.name} is not in {folder}, where {layout} were expected: "
            f"{remedy}--set data.folder=FOLDER"
        )


class Archive(Known):
    """A set that torchvision reads whole. Files are checked against its md5 sums each time."""

    downloads = True
    reader = ""
    """name of torchvision's class"""
    splits = ({"train": True}, {"train": False})
    """arguments that ask that class for the training and for the test split"""

    def fetch(self, data: Data) -> None:
        self.opened(data, 0)  # fetches both splits

    def read(self, data: Data) -> dict:
        """Raises UserError for files that are missing or damaged."""
        import numpy as np

        arrays = {}
        for number, part in enumerate(("train", "test")):
            source = self.opened(data, number)
            labels = source.labels if hasattr(source, "labels") else source.targets
            arrays[f"{part}_images"] = channels_first(np.asarray(source.data))
            arrays[f"{part}_labels"] = np.asarray(labels, dtype=np.uint8)
        return arrays

    def opened(self, data: Data, split: int):
        """torchvision's object for one split.

        Raises:
            UserError: files that are damaged or cannot be fetched.
        """
        from torchvision import datasets

        root, name = self.location(data), self.component.name
        try:
            which = {**self.splits[split], "download": data.download}
            return getattr(datasets, self.reader)(root, **which)
        except Exception as error:  # whatever the bytes lead to: torchvision asserts and unpickles
            raise UserError(
                f"cannot read {name} in {root}: {one_line(error)}; remove what is there and fetch "
                "it again with --set data.download=true",
                "data.folder",
            ) from error


def channels_first(images):
    """(n, 3, h, w), in this order in memory, too; images of one channel stay (n, h, w)."""
    import numpy as np

    last = images.ndim == 4 and images.shape[-1] == 3  # CIFAR
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2) if last else images)


def fetch(data: Data) -> None:
    """Download the recipe's data set if it is missing and `data.download` allows it.

    To be called once, in one process: two that unpack the same archive spoil it.

    Raises:
        UserError: files that are not there and not to be fetched, or that cannot be fetched.
    """
    from mae_ablation.data import folder

    lacks = data.set.missing(data)
    if not lacks:
        return
    if not (data.download and data.set.downloads):
        raise UserError(lacks, "data.folder")
    data.set.fetch(data)
    folder.forget()


def even_shares(total: int, classes: int) -> list[int]:
    """A class-balanced choice: images of each class, the first classes taking what is over."""
    return [total // classes + (c < total % classes) for c in range(classes)]
