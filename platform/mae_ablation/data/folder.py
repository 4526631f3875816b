"""Folders of images: train/CLASS/*.jpg and val/CLASS/*.jpg, as torchvision's ImageFolder has them.

Sorted class names give the labels 0, 1, ... Everything but `unreadable` is file names alone: no
image is opened and nothing heavy imported.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mae_ablation.study.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
"""in either case; what torchvision decodes"""
LAYOUT = "train/CLASS/*.jpg and val/CLASS/*.jpg"


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """One split: names relative to the folder, sorted by class and name, and where classes lie."""

    names: tuple[str, ...]
    counts: tuple[int, ...]
    """images of each class, in the order of the classes"""
    sizes: tuple[int, ...]
    """bytes of each file"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What lies in a folder whose layout is right."""

    classes: tuple[str, ...]
    train: Images
    val: Images
    fingerprint: str
    """sha256 over sorted relative names and sizes: cheap, and enough to tell sets apart"""


def check_layout(folder: Path, classes: int | None = None, place: str = "") -> None:
    """The folder against the layout, and against the number of classes if that is known.

    Raises:
        UserError: what is missing, or differs between the splits, in one line.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: expected {LAYOUT} in it", place)
    for split in ("train", "val"):
        if not (folder / split).is_dir():
            raise UserError(f"{folder} has no {split}/: expected {LAYOUT}", place)
        if not class_names(folder / split):
            raise UserError(f"{folder / split} has no class folders: expected {LAYOUT}", place)
    _check_classes(folder, classes, place)
    for split in ("train", "val"):
        empty = [name for name in class_names(folder / split) if not files(folder / split / name)]
        if empty:
            known = " ".join(EXTENSIONS)
            raise UserError(f"{folder / split}: no image ({known}) in {first(empty)}", place)


def _check_classes(folder: Path, classes: int | None, place: str) -> None:
    train, val = (class_names(folder / split) for split in ("train", "val"))
    for here, there, split, other in ((train, val, "train", "val"), (val, train, "val", "train")):
        only = sorted(set(here) - set(there))
        if only:
            raise UserError(
                f"{folder}: class folders in {split}/ but not in {other}/: {first(only)}", place
            )
    if classes is not None and len(train) != classes:
        raise UserError(f"{folder} has {len(train)} class folders, expected {classes}", place)


def first(names: list[str]) -> str:
    """Up to five names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def class_names(split: Path) -> list[str]:
    """Sorted names of the folders in a split's folder; hidden ones are not classes."""
    with os.scandir(split) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


@lru_cache(maxsize=4096)  # ImageNet has 2,000 folders: checked, then listed, read from disk once
def files(folder: Path) -> tuple[tuple[str, int], ...]:
    """Sorted names and sizes in bytes of the images in a folder."""
    with os.scandir(folder) as entries:
        return tuple(sorted((e.name, e.stat().st_size) for e in entries if is_image(e)))


def is_image(entry: os.DirEntry) -> bool:
    name = entry.name
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".") and entry.is_file()


@lru_cache(maxsize=4)
def listing(folder: Path) -> Listing:
    """What lies in a folder that passes `check_layout`, read once per process."""
    names = tuple(class_names(folder / "train"))
    train, val = (_images(folder, split, names) for split in ("train", "val"))
    return Listing(classes=names, train=train, val=val, fingerprint=_fingerprint(train, val))


def _images(folder: Path, split: str, classes: tuple[str, ...]) -> Images:
    found = [(name, files(folder / split / name)) for name in classes]
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
    """What was read of folders is read again: after a download, say."""
    files.cache_clear()
    listing.cache_clear()


def unreadable(folder: Path, workers: int = 4) -> list[str]:
    """Relative names of images that cannot be decoded, every image of both splits tried.

    Some 100 images per second and core at ImageNet's sizes.

    Raises:
        UserError: as `check_layout`.
    """
    from mae_ablation.data.decode import Reader, nothing

    check_layout(folder)
    found = listing(folder)
    names = found.train.names + found.val.names
    reader = Reader(str(folder), names, nothing, workers)
    return [file.name for batch in reader.tried(64) for file in batch]
