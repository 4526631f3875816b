"""Makes the bundled Fashion-MNIST from the four original idx files.

    python tests/make_fashion_mnist.py /usr/share/datasets/fashion-mnist

(the folder of Debian's package `dataset-fashion-mnist`). Every image is kept, in the order of the
original files, and the same files give the same bytes again.

The strongest deflate takes 31 MB and a third of a second to read. What is smaller is slower: PNG
28 MB and 0.9 s, lossless WebP 27 MB and 1.2 s, xz 26 MB and 3 s.
"""

import argparse
import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np

from mae_ablation.data.sets import FASHION_MNIST

PARTS = {"train": "train", "test": "t10k"}
STRONGEST = 9


def read_idx(path: Path) -> np.ndarray:
    """Array of an idx file: two zero bytes, type 8 (uint8), rank, one big-endian int32 per axis."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: not an idx file of unsigned bytes")
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def arrays_in(folder: Path) -> dict[str, np.ndarray]:
    """Images (n, 28, 28) and labels (n,) of both splits, in file order."""
    return {
        f"{part}_{what}": read_idx(folder / f"{original}-{what}-idx{rank}-ubyte.gz")
        for part, original in PARTS.items()
        for what, rank in (("images", 3), ("labels", 1))
    }


def write(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz file whose members carry no date, compressed more than numpy would."""
    with zipfile.ZipFile(file, "w") as members:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, array, allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980
            members.writestr(member, data.getvalue(), zipfile.ZIP_DEFLATED, STRONGEST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with the four *-ubyte.gz files")
    write(FASHION_MNIST, arrays_in(parser.parse_args().folder))
    print(f"{FASHION_MNIST}: {FASHION_MNIST.stat().st_size / 1e6:.1f} MB")
    print(f"sha256 {hashlib.sha256(FASHION_MNIST.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
