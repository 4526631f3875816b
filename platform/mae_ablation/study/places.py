"""Files that the user names, to be read or written: checked before anything heavy is imported."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mae_ablation.errors import UserError
from mae_ablation.store import files
from mae_ablation.store.atomic import replacing
from mae_ablation.store.folder import Store


def require_file(path: Path, wanted: str) -> None:
    """Raise a UserError if there is no file to read; `wanted` says what to give instead."""
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "no such file"
        raise UserError(f"{fault}: give {wanted}", str(path))


SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def require_suffix(path: Path) -> None:
    """Raise a UserError if a file's suffix names none of the formats that are written."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"the suffix decides on the format, and {path.suffix or 'none'} is not one of "
            f"{' '.join(SUFFIXES)}: take {path.stem}.safetensors, or {path.stem}.pth for torch's",
            str(path),
        )


def require_place(path: Path) -> None:
    """Checks that a file can be written, before anything is computed for it.

    Folders that are not there are made when it is written.

    Raises:
        UserError: it is a folder, below something that is none, or in a folder that is closed.
    """
    if path.is_dir():
        raise UserError("is a folder: give the file's name, too", str(path))
    folder = path.absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"cannot be written: {folder} is not a folder", str(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"cannot be written: no permission in {folder}", str(path))


def open_store(place: str, *, filled: bool = False) -> Store:
    """Open a store and ask it for an answer, which takes 15 s at most.

    Args:
        filled: refuse one that has nothing in it.

    Raises:
        UserError: it cannot be read, or is empty.
    """
    try:
        store = Store(place)
        store.files.require_answer()
        names = store.files.names("")
    except (OSError, ValueError) as error:  # ValueError: an unknown scheme
        raise UserError(f"cannot read the store: {error}", str(place)) from None
    if filled and not names:
        raise UserError("there is no store", place)
    return store


def require_writable(folder: Path | str) -> None:
    """Check that a folder, or a store at an address, can be written.

    Raises:
        UserError: it cannot.
    """
    try:
        files.require_writable(folder)
    except (OSError, ValueError) as error:  # ValueError: an unknown scheme
        raise UserError(f"cannot write there: {error}", str(folder)) from None


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write that is in place, whole, when the block ends without an exception.

    Raises:
        UserError: it cannot be written, for whatever reason of the system's.
    """
    require_place(path)
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror or error}", str(path)) from None
