"""Files of a store by name, wherever they lie: a folder (local, NFS) or a URI such as s3://.

A name is relative to the root, with slashes: "pretrain/x-3f2a9c0d1e4b/result.json". Whoever reads
a file gets all of it or none; OSError says why something could not be done.
"""

import errno
import os
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mae_ablation.store import atomic
from mae_ablation.store.paths import expanded_place, is_remote

if TYPE_CHECKING:
    from mae_ablation.store.remote import RemoteFiles

MARKER = ".store"
"""file by which a store is known to be the same one"""


class LocalFiles:
    """Files under a folder of this machine, or of a file server it has mounted."""

    def __init__(self, root: Path) -> None:
        self.path = root
        self.root = str(root)
        self._was_here = False

    def read(self, name: str) -> bytes | None:
        """Return the file's bytes; None where there is no such file."""
        try:
            with open(f"{self.root}/{name}", "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Put the whole file in place, or leave what was there."""
        self.require_here()
        with atomic.replacing(self.path / name) as file:
            file.write(data)

    def append(self, name: str, line: bytes) -> None:
        """Add a line to a file that one process writes."""
        with open(self.path / name, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())  # a checkpoint that follows is not to outlive its points

    def require_here(self) -> None:
        """Raise FileNotFoundError if the store's marker has gone since it was last seen."""
        # under a mount that vanished, an empty folder of the same name takes everything
        here = os.path.exists(self.path / MARKER)
        if self._was_here and not here:
            raise FileNotFoundError(errno.ENOENT, "the store has vanished", self.root)
        self._was_here = self._was_here or here

    def names(self, folder: str) -> list[str]:
        """List the names directly in a folder, sorted; none where there is no such folder."""
        try:
            return sorted(os.listdir(self.path / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, name: str) -> bool:
        """Tell whether there is a file or a folder of this name."""
        return os.path.exists(f"{self.root}/{name}")

    def size(self, name: str) -> int:
        """Return the bytes of a file, or of all files in a folder."""
        path = self.path / name
        return sum(f.stat().st_size for f in (path.rglob("*") if path.is_dir() else [path]))

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it; nothing where there is none."""
        path = self.path / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def stamp(self, folder: str) -> object:
        """Return what changes when a name in the folder comes or goes; None: no such folder."""
        try:
            return os.stat(f"{self.root}/{folder}").st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return None

    def refresh(self) -> None:
        """See what others have written until now: a folder is always read as it is."""

    def require_answer(self) -> None:
        """Raise OSError if the place cannot be reached; a file server has its own patience."""

    def read_now(self, name: str) -> bytes | None:
        """Read from the place itself: for the few files that several processes write."""
        return self.read(name)

    def write_now(self, name: str, data: bytes) -> None:
        """Write beside whatever else this process is writing there."""
        self.write(name, data)


Files: TypeAlias = "LocalFiles | RemoteFiles"
"""the files of one place, of either kind"""


def files_at(root: str | os.PathLike) -> Files:
    """Return the files under a folder or URI: one object for each place and process."""
    text = expanded_place(root)
    return _files_at(text if is_remote(text) else os.path.join(os.getcwd(), text))


@cache
def _files_at(root: str) -> Files:
    if not is_remote(root):
        return LocalFiles(Path(root))
    from mae_ablation.store.remote import RemoteFiles

    return RemoteFiles(root)


def try_writing(root: str | os.PathLike) -> None:
    """Raise OSError or ValueError if nothing can be written there; leaves nothing behind."""
    # an object store says only to a real file whether it may be written
    files = files_at(root)
    if not isinstance(files, LocalFiles):
        files.require_answer()
        files.write(".writable", b"")
        files.remove(".writable")
        return

    # what is not there yet will be made in the nearest folder that is
    existing = files.path
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(f"{existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"{existing} is not writable")
