"""The data sets a recipe can name, and what is known of each before it is opened.

`test` is what accuracy is measured on: the test split where labels are public, the validation
folder of ImageNet and its like. Validation images for a recipe's choices are held out of training.
Train and test counts are nominal for folders; what lies there is counted (folder.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mae_ablation.data import fashion_mnist
from mae_ablation.recipe.recipe import Data
from mae_ablation.store.paths import expanded

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """One named set."""

    kind: Literal["bundled", "arrays", "folder"]
    """in the package; read whole by torchvision; one file per image"""
    fingerprint: str = ""
    """of the archives, as md5 sums that torchvision knows; folders have theirs computed"""
    classes: int | None = None
    """None: as many as there are folders"""
    train_images: int = 0
    test_images: int = 0
    side: int | None = None
    """pixels; images are padded, not shrunk, where a recipe asks for another size. None: any"""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """per channel, of pixels in [0, 1]"""
    std: tuple[float, ...] = IMAGENET_STD
    files: tuple[str, ...] = ()
    """arrays: what torchvision looks for in the set's folder"""
    downloads: bool = False
    """torchvision can fetch it"""

    @property
    def channels(self) -> int:
        return len(self.mean)


def cifar(folder: str, *files: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{file}" for file in files)


SETS: dict[str, Known] = {
    "fashion_mnist": Known(
        kind="bundled",
        fingerprint=fashion_mnist.SHA256,
        classes=fashion_mnist.CLASSES,
        train_images=fashion_mnist.TRAIN_IMAGES,
        test_images=fashion_mnist.TEST_IMAGES,
        side=fashion_mnist.SIDE,
        mean=(0.2860,),
        std=(0.3530,),
    ),
    "cifar10": Known(
        kind="arrays",
        fingerprint="cifar10-c58f30108f718f92721af3b95e74349a",
        classes=10,
        train_images=50_000,
        test_images=10_000,
        side=32,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        files=cifar("cifar-10-batches-py", *(f"data_batch_{i}" for i in range(1, 6)))
        + cifar("cifar-10-batches-py", "test_batch", "batches.meta"),
        downloads=True,
    ),
    "cifar100": Known(
        kind="arrays",
        fingerprint="cifar100-eb9058c3a382ffc7106e4002c42a8d85",
        classes=100,
        train_images=50_000,
        test_images=10_000,
        side=32,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        files=cifar("cifar-100-python", "train", "test", "meta"),
        downloads=True,
    ),
    # training on the 5,000 labelled images; the 100,000 unlabelled ones come in the same archive,
    # which torchvision checks as a whole, and are not used
    "stl10": Known(
        kind="arrays",
        fingerprint="stl10-91f7769df0f17e558f3565bffb0c7dfb",
        classes=10,
        train_images=5_000,
        test_images=8_000,
        files=tuple(
            f"stl10_binary/{part}.bin"
            for part in ("train_X", "train_y", "unlabeled_X", "test_X", "test_y")
        ),
        downloads=True,
    ),
    "imagenette": Known(
        kind="folder", classes=10, train_images=9_469, test_images=3_925, downloads=True
    ),
    "imagenet": Known(kind="folder", classes=1000, train_images=1_281_167, test_images=50_000),
    "imagenet100": Known(kind="folder", classes=100, train_images=126_689, test_images=5_000),
    "image_folder": Known(kind="folder"),
}


def location(data: Data) -> Path:
    """Folder of the set's files: `data.folder`, or data/NAME in the working directory.

    torchvision unpacks Imagenette into a folder of its own inside, which then is the one.
    """
    folder = expanded(data.folder) if data.folder else Path("data") / data.name
    inside = folder / "imagenette2"
    found = inside if data.name == "imagenette" and inside.is_dir() else folder
    return found.absolute()  # what is remembered of a folder must not depend on where one stands


def missing(data: Data) -> str:
    """One line that says what is not on this machine and how to get it; empty: all is there."""
    known, folder = SETS[data.name], location(data)
    if known.kind == "folder":
        absent, layout = not folder.exists(), "train/CLASS/*.jpg and val/CLASS/*.jpg"
    else:
        absent = not all((folder / file).is_file() for file in known.files)
        layout = f"{known.files[0]} and the like" if known.files else ""
    if not absent:
        return ""
    remedy = "--set data.download=true or " if known.downloads else ""
    return (
        f"data set {data.name} is not in {folder}, where {layout} were expected: "
        f"{remedy}--set data.folder=FOLDER"
    )


def even_shares(total: int, classes: int) -> list[int]:
    """A class-balanced choice: images of each class, the first classes taking what is over."""
    return [total // classes + (c < total % classes) for c in range(classes)]
