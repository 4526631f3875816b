"""Makes the bundled subset of Fashion-MNIST from the four original idx files.

    python -m mae_ablation.data.make_fashion_mnist /usr/share/datasets/fashion-mnist

(the folder of Debian's package `dataset-fashion-mnist`). The first 1,000 training images and the
first 200 test images of each of the ten classes are kept, in the order of the original files.
"""

import argparse
import gzip
import hashlib
from pathlib import Path

import numpy as np

from mae_ablation.data.fashion_mnist import FILE

PER_CLASS = {"train": 1000, "t10k": 200}


def read_idx(path: Path) -> np.ndarray:
    """Array of an idx file: two zero bytes, type 8 (uint8), rank, one big-endian int32 per axis."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: not an idx file of unsigned bytes")
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def balanced(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The first images of each class, in file order: (n, 28, 28) uint8 and (n,) uint8."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    keep = [np.flatnonzero(labels == c)[: PER_CLASS[part]] for c in range(10)]
    index = np.sort(np.concatenate(keep))
    return images[index], labels[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with the four *-ubyte.gz files")
    folder = parser.parse_args().folder
    train_images, train_labels = balanced(folder, "train")
    test_images, test_labels = balanced(folder, "t10k")
    np.savez_compressed(
        FILE,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    print(f"{FILE}: {FILE.stat().st_size / 1e6:.1f} MB")
    print(f"sha256 {hashlib.sha256(FILE.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
