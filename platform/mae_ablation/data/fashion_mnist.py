"""The bundled images: a class-balanced subset of Fashion-MNIST, 28 x 28, one channel.

10,000 training and 2,000 test images of ten classes; Zalando SE, MIT licence (notice beside the
file). Made by `make_fashion_mnist.py`. Nothing is imported on the way to the fingerprint.
"""

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

FILE = Path(__file__).with_name("fashion_mnist.npz")
SHA256 = "efefbe05b9d7eaf04f28ae39025070e3f555b25bf705ff9319bf8a7a4784fc6b"
SIDE = 28
TRAIN_IMAGES, TEST_IMAGES = 10_000, 2_000
CLASSES = 10


def read() -> dict[str, "np.ndarray"]:
    """Arrays train_images (10000, 28, 28), train_labels (10000,), test_images, test_labels: uint8.

    Raises:
        ValueError: the file is not the one this version was made with.
    """
    import numpy as np

    raw = FILE.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != SHA256:
        raise ValueError(f"{FILE}: sha256 is {found}, expected {SHA256}: reinstall the package")
    with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
        return dict(arrays)
