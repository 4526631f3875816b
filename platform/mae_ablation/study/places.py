"""Files and folders that the user names: checked before anything heavy is imported."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from mae_ablation.errors import UserError
from mae_ablation.store import files
from mae_ablation.store.atomic import replacing
from mae_ablation.store.folder import PhaseFolder, Store

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
IDENTITY_START = re.compile(r"[0-9a-fA-F]{1,12}")
LISTED = 10  # phases whose identities begin alike


# files --------------------------------------------------------------------------------------------


def require_file(path: Path, wanted: str) -> None:
    """Raise a UserError if there is no file to read; `wanted` says what to give instead."""
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "no such file"
        raise UserError(f"{fault}: give {wanted}", str(path))


def require_suffix(path: Path) -> None:
    """Raise a UserError if a file's suffix names none of the formats that are written."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"the suffix decides on the format, and {path.suffix or 'none'} is not one of "
            f"{' '.join(SUFFIXES)}: take {path.stem}.safetensors, or {path.stem}.pth for torch's",
            str(path),
        )


def require_place(path: Path) -> None:
    """Raise a UserError if a file cannot be written, before anything is computed for it."""
    if path.is_dir():
        raise UserError("is a folder: give the file's name, too", str(path))
    folder = path.absolute().parent  # what is not there is made when the file is written
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"cannot be written: {folder} is not a folder", str(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"cannot be written: no permission in {folder}", str(path))


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write that is in place, whole, when the block ends without an exception."""
    require_place(path)
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror or error}", str(path)) from None


def require_hash(path: Path, expected: str, place: str) -> None:
    """Raise a UserError if a file of tokeniser weights is not the one that the recipe means."""
    if not path.is_file():
        raise UserError(f"tokenizer.file {path}: no such file", place)
    status = path.stat()
    found = _sha256(path.absolute(), status.st_mtime_ns, status.st_size)
    if found != expected.lower():
        message = f"tokenizer.file {path}: its sha256 is {found}, the recipe expects {expected}"
        raise UserError(message, place)


@lru_cache(maxsize=8)
def _sha256(path: Path, modified_ns: int, size: int) -> str:
    """Hash a file, once as long as it is not written to: a study asks for each of its trials."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# the store ----------------------------------------------------------------------------------------


def open_store(place: str, *, filled: bool = False) -> Store:
    """Open a store that answers, within 15 s, and has something in it if it has to be `filled`."""
    # a store that is away is found out in seconds, before anything is computed for it
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
    """Raise a UserError if a folder, or a store at an address, cannot be written."""
    try:
        files.try_writing(folder)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write there: {error}", str(folder)) from None


def find_checkpoint(checkpoint: str, store: Store) -> Path | PhaseFolder:
    """Return a checkpoint's file, or the pre-training in the store whose identity begins so."""
    path = Path(checkpoint)
    if path.exists() or not IDENTITY_START.fullmatch(checkpoint):
        require_file(path, "the path of a checkpoint, or the identity of a pre-training")
        return path
    return find_phase(store, checkpoint, "pretrain")


def find_phase(store: Store, identity: str, kind: str | None = None) -> PhaseFolder:
    """Return the one phase whose identity begins so.

    Args:
        identity: hexadecimal digits, in either case; all twelve or the first few.
        kind: of the phases that are meant, such as "pretrain"; None: all.
    """
    try:
        folders = store.folders()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the store: {error}", store.root) from None

    # an identity is unique among all kinds, its beginning need not be
    found = [folder for folder in folders if folder.identity.startswith(identity.lower())]
    meant = [folder for folder in found if kind is None or folder.name.startswith(f"{kind}/")]
    if not meant:
        what = f"no {f'{kind} ' if kind else ''}phase {identity!r} among {len(folders)}"
        other = f"; {found[0].name} is of another kind" if found else ""
        raise UserError(f"{what}{other}: `mae-ablation store ls` lists them", store.root)
    if len(meant) > 1:
        names = ", ".join(folder.name for folder in meant[:LISTED])
        more = f" and {len(meant) - LISTED} more" if len(meant) > LISTED else ""
        several = f"{identity!r} is the beginning of several: {names}{more}"
        raise UserError(f"{several}; give more of its digits", store.root)
    return meant[0]


# reports ------------------------------------------------------------------------------------------


def path_from(folder: Path, study: Path) -> str:
    """Return the study's path as seen from a folder: the same in every copy of both."""
    return Path(os.path.relpath(os.path.realpath(study), os.path.realpath(folder))).as_posix()


def another_study(recorded: object, folder: Path, study: Path) -> Path | None:
    """Return the file that is recorded as the owner, if it is another study than `study`.

    Args:
        recorded: a path as `path_from` gave it, relative to `folder`, or an absolute one.
    """
    # none is recorded, the recorded one is gone, or it says the same: no other study
    if not isinstance(recorded, str) or not recorded:
        return None
    # a copy of both folders, or of the study under another name, is the same study
    there = Path(os.path.normpath(os.path.join(os.path.realpath(folder), recorded)))
    if not there.is_file() or there.resolve() == study.resolve():
        return None
    try:
        return None if there.read_bytes() == study.read_bytes() else there
    except OSError:  # not ours to read, so not known to be the same
        return there


def require_own_place(folder: Path, about: object, study: Path) -> None:
    """Raise a UserError rather than write a study's report over another study's.

    Args:
        about: the report.json of the folder as it is now; anything else where there is none.
    """
    # said before anything is trained, too
    if folder.exists() and not folder.is_dir():
        message = f"a file is in the way of the report of {study}: --reports OTHER writes elsewhere"
        raise UserError(message, str(folder))
    recorded = about.get("study_file") if isinstance(about, dict) else None
    if there := another_study(recorded, folder, study):
        message = f"this is the report of {there}, which is another study than {study}"
        remedy = "rename one of the files, or write elsewhere with --reports OTHER"
        raise UserError(f"{message}: {remedy}", str(folder))
