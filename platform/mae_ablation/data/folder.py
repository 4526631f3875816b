"""Folders of images: train/CLASS/*.jpg and val/CLASS/*.jpg, as torchvision's ImageFolder has them.

Sorted class names give the labels 0, 1, ... This is file names alone: no image is opened
(examine.py does that) and nothing heavy imported. Whatever lies there and is not taken is counted.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from mae_ablation.errors import UserError, name_first

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""in either case; what torchvision and PIL decode with nothing further installed"""
LAYOUT = "train/CLASS/*.jpg and val/CLASS/*.jpg"


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """One split: names relative to the folder, sorted by class and name, and where classes lie."""

    names: tuple[str, ...]
    counts: tuple[int, ...]
    """images of each class, in the order of the classes"""
    sizes: tuple[int, ...]
    """bytes of each file"""


@dataclass(frozen=True, slots=True)
class FolderImages:
    """Files of a folder by number, as a training reads them; 100 bytes each, in every worker."""

    root: str
    names: tuple[str, ...]
    """relative to the root"""
    remedy = "replace or remove it"
    """advice on one that cannot be decoded"""

    def __len__(self) -> int:
        return len(self.names)

    def part(self, index: Iterable[int]) -> "FolderImages":
        """The files at these positions."""
        return FolderImages(self.root, tuple(self.names[i] for i in index))

    def read(self, number: int) -> bytes:
        return Path(self.root, self.names[number]).read_bytes()


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Lists a folder whose layout is right."""

    root: str
    classes: tuple[str, ...]
    train: Images
    val: Images
    fingerprint: str
    """sha256 over sorted relative names and sizes: cheap, and enough to tell sets apart"""
    left_out: tuple["LeftOut", ...]
    """everything else that lies there, by kind"""

    def images(self, split: str) -> FolderImages:
        """The files of "train" or "val" by number."""
        return FolderImages(self.root, getattr(self, split).names)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Files or folders of one kind that lie in the set's folder and are not taken."""

    kind: str
    """such as "hidden file{s}" """
    count: int
    example: str
    """the first one's name, relative to the set's folder"""

    def __str__(self) -> str:
        """Write "2 hidden files (train/cat/.a.jpg, ...)"."""
        kind = self.kind.replace("{s}", "s" * (self.count != 1))
        return f"{self.count} {kind} ({self.example}{', ...' * (self.count > 1)})"


DEEPER = "file{s} in folders inside a class folder"
BESIDE = "file{s} beside the class folders"
NO_SPLIT = "folder{s} beside train/ and val/"
HIDDEN, HIDDEN_FOLDER = "hidden file{s}", "hidden folder{s}"
LINK = "broken link{s}"


class Inside(NamedTuple):
    """Lists one class folder."""

    images: tuple[tuple[str, int], ...]
    """sorted names and sizes in bytes"""
    left_out: tuple[tuple[str, str], ...]
    """kind and name of everything else"""


def check_layout(folder: Path, classes: int | None = None, place: str = "") -> None:
    """Check a folder's layout, and the number of its classes if that is known.

    Raises:
        UserError: one line on what is missing, or differs between the splits.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: expected {LAYOUT} in it", place)
    for split in ("train", "val"):
        if not (folder / split).is_dir():
            raise UserError(f"{folder} has no {split}/: expected {LAYOUT}", place)
        if not class_names(folder / split):
            raise UserError(f"{folder / split} has no class folders: expected {LAYOUT}", place)
    _check_classes(folder, classes, place)

    # a class without an image would shift the labels of all that follow it
    for split in ("train", "val"):
        names = class_names(folder / split)
        empty = [name for name in names if not files(folder / split / name).images]
        if empty:
            known = " ".join(EXTENSIONS)
            other = "; ".join(map(str, _count_kinds(_left_in(folder, split, empty))))
            there = f"; what is there is not taken: {other}" if other else ""
            message = f"no image ({known}) in {name_first(empty, 5)}{there}"
            raise UserError(f"{folder / split}: {message}", place)


def _check_classes(folder: Path, classes: int | None, place: str) -> None:
    train, val = (class_names(folder / split) for split in ("train", "val"))
    for here, there, split, other in ((train, val, "train", "val"), (val, train, "val", "train")):
        only = sorted(set(here) - set(there))
        if only:
            raise UserError(
                f"{folder}: class folders in {split}/ but not in {other}/: {name_first(only, 5)}; "
                "every class needs images in both",
                place,
            )
    if classes is not None and len(train) != classes:
        raise UserError(f"{folder} has {len(train)} class folders, expected {classes}", place)


def class_names(split: Path) -> list[str]:
    """Sort the names of the folders in a split's folder; hidden ones are not classes."""
    return sorted(e.name for e in entries(split) if e.is_dir() and not e.name.startswith("."))


def entries(folder: Path) -> list[os.DirEntry]:
    """List everything directly in a folder; raise a UserError for one that cannot be read."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise UserError(f"cannot read the folder: {error.strerror}", str(folder)) from None


@lru_cache(maxsize=4096)  # ImageNet has 2,000 folders: checked, then listed, read from disk once
def files(folder: Path) -> Inside:
    """List a class folder: images with their sizes, and what is not taken."""
    images, others = [], []
    for entry in entries(folder):
        if kind := _why_not(entry):
            others.append((kind, entry.name))
        elif entry.is_dir():
            others += [(DEEPER, f"{entry.name}/{name}") for name in _below(Path(entry.path))]
        else:
            images.append((entry.name, entry.stat().st_size))
    return Inside(tuple(sorted(images)), tuple(sorted(others)))


def _why_not(entry: os.DirEntry) -> str:
    """The kind of a file that is not taken; "" of images and folders."""
    if entry.name.startswith("."):
        return HIDDEN_FOLDER if entry.is_dir() else HIDDEN
    if entry.is_dir():
        return ""
    if not entry.is_file():
        return LINK if entry.is_symlink() else "special file{s}"
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in EXTENSIONS:
        return ""
    return f"file{{s}} of suffix {suffix}" if suffix else "file{s} without suffix"


def _below(folder: Path) -> Iterator[str]:
    """Files anywhere below a folder, relative to it. Links to folders are not followed."""
    for path, _, names in os.walk(folder):
        for name in sorted(names):
            yield (Path(path) / name).relative_to(folder).as_posix()


@lru_cache(maxsize=4)
def listing(folder: Path) -> Listing:
    """List a folder that passes `check_layout`, once per process."""
    # check_layout has found the same classes in both
    names = tuple(class_names(folder / "train"))
    train, val = (_images(folder, split, names) for split in ("train", "val"))
    left_in = (_left_in(folder, split, names) for split in ("train", "val"))
    return Listing(
        root=str(folder),
        classes=names,
        train=train,
        val=val,
        fingerprint=_fingerprint(train, val),
        left_out=tuple(_count_kinds(chain(*left_in, _beside(folder)))),
    )


def _beside(folder: Path) -> Iterator[tuple[str, str]]:
    """Kind and name of what lies beside the splits and beside the class folders."""
    for entry in entries(folder):
        if entry.is_dir() and entry.name not in ("train", "val"):
            yield (_why_not(entry) or NO_SPLIT), f"{entry.name}/"
    for split in ("train", "val"):
        for entry in entries(folder / split):
            kind = _why_not(entry)
            if kind or not entry.is_dir():
                named = kind in (HIDDEN, HIDDEN_FOLDER, LINK)
                yield (kind if named else BESIDE), f"{split}/{entry.name}"


def _left_in(folder: Path, split: str, classes: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Kind and name of what is not taken of some classes' folders."""
    for name in classes:
        for kind, file in files(folder / split / name).left_out:
            yield kind, f"{split}/{name}/{file}"


def _count_kinds(found: Iterable[tuple[str, str]]) -> list[LeftOut]:
    """Counts kinds, with the first name of each."""
    names: dict[str, list[str]] = {}
    for kind, name in found:
        names.setdefault(kind, []).append(name)
    return [LeftOut(kind=kind, count=len(n), example=n[0]) for kind, n in names.items()]


def _images(folder: Path, split: str, classes: tuple[str, ...]) -> Images:
    found = [(name, files(folder / split / name).images) for name in classes]
    return Images(
        names=tuple(f"{split}/{name}/{file}" for name, inside in found for file, _ in inside),
        counts=tuple(len(inside) for _, inside in found),
        sizes=tuple(size for _, inside in found for _, size in inside),
    )


def _fingerprint(*parts: Images) -> str:
    found = (pair for part in parts for pair in zip(part.names, part.sizes, strict=True))
    text = "".join(f"{name}\0{size}\n" for name, size in sorted(found))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def forget() -> None:
    """Read folders again: after a download, say."""
    files.cache_clear()
    listing.cache_clear()
