"""The images that a recipe can name, and what is known of each before it is opened.

`test` is what accuracy is measured on: the test split where labels are public, the validation
folder of ImageNet and its like. Validation images for a recipe's choices are held out of training.
"""

import hashlib
import io
from functools import lru_cache
from pathlib import Path

from mae_ablation.errors import UserError, one_line
from mae_ablation.recipe.recipe import Data
from mae_ablation.registry import register
from mae_ablation.store.paths import expanded, is_remote

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FASHION_MNIST = Path(__file__).parent / "fashion_mnist.npz"
SHA256 = "1c5733926d5aa516f0e73b920c8f6f409f232ffd4545f4e1276e0d10bbc35a0a"


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

    def location(self, data: Data) -> Path | str:
        """Return the folder of its files: `data.folder`, or data/NAME in the working directory; an
        address, where prepared images lie, is a text."""
        if self.in_files and data.folder and is_remote(data.folder):
            return data.folder
        folder = expanded(data.folder) if data.folder else Path("data") / self.component.name
        return folder.absolute()  # what is remembered of it must not depend on where one stands

    def missing(self, data: Data) -> str:
        folder = self.location(data)
        if isinstance(folder, str):  # asked for when its index is read
            return ""
        if self.in_files:
            absent, layout = not folder.exists(), "train/CLASS/*.jpg and val/CLASS/*.jpg"
        else:
            absent = not all((folder / file).is_file() for file in self.files)
            layout = f"{self.files[0]} and the like"

        # what torchvision can fetch is offered first
        remedy = "--set data.download=true or " if self.downloads else ""
        message = f"data set {self.component.name} is not in {folder}, where {layout} were expected"
        return f"{message}: {remedy}--set data.folder=FOLDER" if absent else ""


@register.dataset("fashion_mnist", version=1)
class FashionMnist(Known):
    """Clothes in grey, bundled with the package: 60,000 and 10,000 images of 28 pixels."""

    order = 10
    fingerprint = SHA256
    classes = 10
    train_images, test_images = 60_000, 10_000
    side = 28
    mean, std = (0.2860,), (0.3530,)

    def location(self, data) -> None:
        """It needs no folder."""

    def missing(self, data) -> str:
        return ""

    def read(self) -> dict:
        return read_fashion_mnist()


@lru_cache(maxsize=1)  # recipes of one process share the arrays
def read_fashion_mnist() -> dict:
    """Read the arrays, which callers share and cannot write, in a third of a second.

    Raises:
        ValueError: the file is not the one this version was made with.
    """
    import numpy as np

    # hashed as it is read, so that no image changes unnoticed
    raw = FASHION_MNIST.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != SHA256:
        message = f"{FASHION_MNIST}: sha256 is {found}, expected {SHA256}: reinstall the package"
        raise ValueError(message)
    with np.load(io.BytesIO(raw), allow_pickle=False) as members:
        arrays = dict(members)
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


class TorchvisionSet(Known):
    """A set that torchvision fetches and reads; it checks the files' md5 sums each time."""

    downloads = True
    reader = ""
    """name of torchvision's class"""
    splits = ({"train": True}, {"train": False})
    """arguments that ask that class for the training and for the test split"""

    def fetch(self, data: Data) -> None:
        self.open_split(data, 0)  # fetches both splits

    def read(self, data: Data) -> dict:
        import numpy as np

        # both splits; STL-10 calls its labels otherwise than CIFAR
        arrays = {}
        for number, part in enumerate(("train", "test")):
            source = self.open_split(data, number)
            labels = source.labels if hasattr(source, "labels") else source.targets
            arrays[f"{part}_images"] = channels_first(np.asarray(source.data))
            arrays[f"{part}_labels"] = np.asarray(labels, dtype=np.uint8)
        return arrays

    def open_split(self, data: Data, split: int):
        """Return torchvision's object for one split.

        Raises:
            UserError: files that are missing or damaged, or cannot be fetched.
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
    """Order axes as (n, 3, h, w), in memory, too; images of one channel stay (n, h, w)."""
    import numpy as np

    last = images.ndim == 4 and images.shape[-1] == 3  # CIFAR
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2) if last else images)


@register.dataset("cifar10", version=1)
class Cifar10(TorchvisionSet):
    """CIFAR-10: 50,000 and 10,000 colour images of 32 pixels."""

    order = 20
    reader = "CIFAR10"
    fingerprint = "cifar10-c58f30108f718f92721af3b95e74349a"
    classes = 10
    train_images, test_images = 50_000, 10_000
    side = 32
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    files = (
        *(f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)),
        *("cifar-10-batches-py/test_batch", "cifar-10-batches-py/batches.meta"),
    )


@register.dataset("cifar100", version=1)
class Cifar100(TorchvisionSet):
    """CIFAR-100: 50,000 and 10,000 colour images of 32 pixels."""

    order = 30
    reader = "CIFAR100"
    fingerprint = "cifar100-eb9058c3a382ffc7106e4002c42a8d85"
    classes = 100
    train_images, test_images = 50_000, 10_000
    side = 32
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    files = tuple(f"cifar-100-python/{part}" for part in ("train", "test", "meta"))


@register.dataset("stl10", version=1)
class Stl10(TorchvisionSet):
    """STL-10: 5,000 labelled and 8,000 test colour images of 96 pixels."""

    # its 100,000 unlabelled images come in the same archive and are not used
    order = 40
    reader = "STL10"
    splits = ({"split": "train"}, {"split": "test"})
    fingerprint = "stl10-91f7769df0f17e558f3565bffb0c7dfb"
    classes = 10
    train_images, test_images = 5_000, 8_000
    files = tuple(
        f"stl10_binary/{part}.bin"
        for part in ("train_X", "train_y", "unlabeled_X", "test_X", "test_y")
    )


@register.dataset("imagenette", version=1)
class Imagenette(TorchvisionSet):
    """Ten easy classes of ImageNet: 9,469 and 3,925 images, in files."""

    order = 50
    in_files = True
    reader = "Imagenette"
    splits = ({"split": "train"}, {"split": "val"})
    classes = 10
    train_images, test_images = 9_469, 3_925

    def location(self, data):
        # torchvision unpacks it into a folder of its own inside, which then is the one
        folder = super().location(data)
        inside = Path(folder, "imagenette2")
        return inside if inside.is_dir() else folder


@register.dataset("imagenet", version=1)
class Imagenet(Known):
    """ImageNet-1K: 1,281,167 training images of 1,000 classes, in files."""

    order = 60
    in_files = True
    classes = 1000
    train_images, test_images = 1_281_167, 50_000


@register.dataset("imagenet100", version=1)
class Imagenet100(Known):
    """100 classes of ImageNet-1K, in files."""

    order = 70
    in_files = True
    classes = 100
    train_images, test_images = 126_689, 5_000


@register.dataset("image_folder", version=1)
class ImageFolder(Known):
    """A folder of yours: train/CLASS/*.jpg and val/CLASS/*.jpg."""

    order = 80
    in_files = True

    def facts(self, data) -> dict:
        # nothing is known of a folder that is not there
        from mae_ablation.data.folder import LAYOUT

        raise UserError(f"no folder {self.location(data)}: expected {LAYOUT} in it")
