"""Reads parts of files on a disk or at an address such as s3://."""

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mae_ablation.store.paths import is_remote

MOST_OPEN = 64
"""files that a process holds open"""
COPIED_AT_ONCE = 16 * 2**20
"""bytes of a file that is read as a whole"""


def read_range(root: str, name: str, offset: int, size: int) -> bytes:
    """Read bytes of a file in a folder or at an address; fewer at its end.

    Raises:
        OSError: it cannot be read.
    """
    file = open_file(root, name)
    return file.read_at(size, offset) if is_remote(root) else os.pread(file.fileno(), size, offset)


def read_through(root: str, name: str) -> Iterator[bytes]:
    """Read all of a file, one part after another. Raises as `read_range`."""
    if is_remote(root):
        system, path = remote_system(root)
        file = system.open_input_stream(f"{path}/{name}")
    else:
        file = open(f"{root}/{name}", "rb")  # noqa: SIM115
    with file:
        while part := file.read(COPIED_AT_ONCE):
            yield part


def sizes_of(root: str, names: Sequence[str]) -> list[int | None]:
    """Count the bytes of files of a folder; None: there is no such file. Raises as
    `read_range`."""
    if not is_remote(root):
        paths = [Path(root, name) for name in names]
        return [path.stat().st_size if path.is_file() else None for path in paths]
    system, path = remote_system(root)
    found = system.get_file_info([f"{path}/{name}" for name in names])
    return [info.size if info.is_file else None for info in found]


@lru_cache(maxsize=MOST_OPEN)
def open_file(root: str, name: str) -> Any:
    """Open a file of this machine, or an object, which pyarrow gives a method `read_at`."""
    if not is_remote(root):
        return open(f"{root}/{name}", "rb", buffering=0)
    system, path = remote_system(root)
    return system.open_input_file(f"{path}/{name}")


@lru_cache(maxsize=8)
def remote_system(root: str) -> tuple[Any, str]:
    """Return a file system of pyarrow's and the folder's path in it."""
    from mae_ablation.store.remote import file_system

    system, path = file_system(root.rstrip("/"))
    return system, path.rstrip("/")
