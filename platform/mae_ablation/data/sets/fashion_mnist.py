"""The bundled images: all of Fashion-MNIST, 28 x 28, one channel.

60,000 training and 10,000 test images of ten classes; Zalando SE, MIT licence (notice beside the
file). Made by `make_fashion_mnist.py`. Nothing is imported on the way to the fingerprint.
"""

import hashlib
import io
from functools import lru_cache
from pathlib import Path

from mae_ablation.data.sources import Known
from mae_ablation.registry import register

FILE = Path(__file__).parents[1] / "fashion_mnist.npz"
SHA256 = "1c5733926d5aa516f0e73b920c8f6f409f232ffd4545f4e1276e0d10bbc35a0a"


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
        return read()


@lru_cache(maxsize=1)  # recipes of one process share the arrays
def read() -> dict:
    """Arrays train_images (60000, 28, 28), train_labels (60000,), test_images, test_labels: uint8.

    They are read-only, since callers share them. Takes a third of a second, once per process.

    Raises:
        ValueError: the file is not the one this version was made with.
    """
    import numpy as np

    raw = FILE.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != SHA256:
        raise ValueError(f"{FILE}: sha256 is {found}, expected {SHA256}: reinstall the package")
    with np.load(io.BytesIO(raw), allow_pickle=False) as members:
        arrays = dict(members)
    for array in arrays.values():
        array.flags.writeable = False
    return arrays
