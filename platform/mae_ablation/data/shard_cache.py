"""Shards on the disk of a node: fetched once, shared by its lanes, bounded, the oldest go first.

Every process of the node may ask for any shard at any time. A lock for each shard has it fetched
by one of them; a lock for the folder has room made and taken in one go. Locks are the system's, so
that a killed process leaves none behind.
"""

import errno
import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mae_ablation.data.ranges import read_through

if TYPE_CHECKING:
    from mae_ablation.data.shards import Shard

PART, LOCK = ".part", ".lock"

_given_up: set[str] = set()
"""shards for which this process has found no room"""
_used: set[str] = set()
"""shards that this process has used, so that they are the youngest"""


class NoRoom(Exception):
    """The node's disk takes no shard; the text says why."""


@dataclass(frozen=True, slots=True)
class ShardCache:
    """A folder that holds shards of any number of sets, up to so many bytes in all.

    A set makes room for its shards by removing those of others, never its own: else a set that is
    larger than the folder may be would be fetched again in every epoch. What fits of it is kept,
    the rest is read where it lies. Whoever has a shard open that is removed goes on reading it.
    """

    folder: str
    fingerprint: str
    """names the set"""
    most_bytes: int

    def fetch(self, root: str, shard: "Shard") -> str | None:
        """Have a shard on this node; returns the folder it is in.

        None: there is no room for it, and it is read at `root`, where it lies.

        Raises:
            OSError: it cannot be read at `root`, or is not what the index says.
        """
        folder = Path(self.folder, self.fingerprint[:12])
        path = str(folder / shard.name)
        if path in _given_up:
            return None

        # every image of a shard comes through here: where it lies already, that costs one stat
        try:
            with as_no_room():
                folder.mkdir(parents=True, exist_ok=True)
            if not is_whole(path, shard.size):
                with hold_lock(path + LOCK):  # whoever waited finds it there
                    if not is_whole(path, shard.size):
                        self._make_room(folder, path + PART, shard.size)
                        copy_shard(root, shard, path)
            if path not in _used:
                _used.add(path)
                with as_no_room():
                    os.utime(path)
        except NoRoom as error:
            if not _given_up:  # once in a process: it holds for every shard that follows
                line = f"data.cache_dir {self.folder}: {error}; shards are read where they lie"
                print(line, file=sys.stderr, flush=True)
            _given_up.add(path)
            return None
        return str(folder)

    def _make_room(self, folder: Path, part: str, size: int) -> None:
        """Remove what is oldest of other sets until a shard fits, and take its room on the disk.

        Raises:
            NoRoom: it does not fit.
        """
        with hold_lock(f"{self.folder}/{LOCK}"), as_no_room():
            # shards on their way count with the size that they will have
            files = [each for each in Path(self.folder).glob("*/*") if each.suffix != LOCK]
            seen = {each: each.stat() for each in files if str(each) != part}
            used = sum(stat.st_size for stat in seen.values())
            others = [each for each in seen if each.parent != folder]
            others.sort(key=lambda each: seen[each].st_mtime_ns)
            if used - sum(seen[each].st_size for each in others) + size > self.most_bytes:
                raise NoRoom(f"{self.most_bytes / 1e9:g} GB (data.cache_gb) do not hold the set")
            # whole shards go, the one first that was used first
            for each in others:
                if used + size <= self.most_bytes:
                    break
                each.unlink()
                used -= seen[each].st_size
            try:
                with open(part, "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, size)  # a full disk is found out here
            except OSError:
                Path(part).unlink(missing_ok=True)
                raise


def copy_shard(root: str, shard: "Shard", path: str) -> None:
    """Copy a shard into the room that was taken for it.

    Raises:
        OSError: it cannot be read, or has another checksum.
        NoRoom: it cannot be written.
    """
    digest = hashlib.sha256()
    try:
        with open(path + PART, "r+b") as file:
            for part in read_through(root, shard.name):
                digest.update(part)
                with as_no_room():
                    file.write(part)
        if digest.hexdigest() != shard.sha256:
            raise OSError(errno.EIO, "its sha256 is not what the index says")
        with as_no_room():
            os.replace(path + PART, path)
    finally:
        Path(path + PART).unlink(missing_ok=True)


def is_whole(path: str, size: int) -> bool:
    """Tell whether a shard has come; it has its name only when it is whole."""
    try:
        return os.stat(path).st_size == size
    except OSError:
        return False


@contextmanager
def hold_lock(path: str) -> Iterator[None]:
    """Hold a lock that ends with this process, whatever ends it."""
    with as_no_room():
        file = open(path, "wb")  # noqa: SIM115
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def as_no_room() -> Iterator[None]:
    """Make NoRoom of what the node's disk refuses."""
    try:
        yield
    except OSError as error:
        raise NoRoom(error.strerror or str(error)) from error
