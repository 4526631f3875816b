"""Files of a store on an object store or any other file system that pyarrow or fsspec knows.

Objects are put whole, so nothing half-written is ever read. There is no appending: lines wait here
and go with the next file of the same folder, or after five seconds. What is there is taken from a
listing that is at most a second old; small files that never change are asked for once.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mae_ablation.store.paths import quoted_address
from mae_ablation.store.waiting import answer_in_time, waiting

SEND_AFTER_S = 5.0
LISTING_S = 1.0
LISTING_SHARE = 10  # a listing that took a second is good for ten
READERS = 32
LASTING = ("result.json", "phase.json")
"""written once: what was read of them stays true while size and time are the same"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file in the listing."""

    size: int
    changed_ns: int


def file_system(uri: str):
    """Return the pyarrow file system of a URI, and the path within it; ValueError: none knows."""
    from pyarrow import fs

    # pyarrow's own object stores are the fast ones, fsspec knows all others
    scheme, _, rest = uri.partition("://")
    if not scheme or not rest.strip("/"):
        raise ValueError("an address needs a bucket or folder, as in s3://bucket/store")
    try:
        return fs.FileSystem.from_uri(quoted_address(uri))
    except ValueError as unknown:  # pyarrow's ArrowInvalid
        import fsspec

        try:
            system, path = fsspec.core.url_to_fs(uri)
        except ImportError as error:
            raise ValueError(f"{scheme}:// needs another package: {error}") from None
        except ValueError:
            raise ValueError(f"{scheme}:// is no known file system ({unknown})") from None
        return fs.PyFileSystem(fs.FSSpecHandler(system)), path


class RemoteFiles:
    """Files under a URI, with the methods of `files.LocalFiles`; threads take turns."""

    def __init__(self, uri: str) -> None:
        self.root = uri.rstrip("/")
        self._fs, path = answer_in_time(lambda: file_system(self.root), self.root)
        self._base = path.rstrip("/") + "/"
        self._guard = threading.RLock()
        self._listing: dict[str, Seen] = {}
        self._children: dict[str, set[str]] = {}
        self._good_until = 0.0
        self._has_answered = False
        self._listings = 0
        self._kept: dict[str, tuple[Seen, bytes]] = {}
        self._lines: dict[str, bytearray] = {}  # whole files that have lines not sent yet
        self._sent_at: dict[str, float] = {}

    def require_answer(self) -> None:
        # asked for one name, since a long listing takes its time
        answer_in_time(lambda: self._fs.get_file_info(self._base.rstrip("/")), self.root)
        self._has_answered = True

    def read(self, name: str) -> bytes | None:
        with self._guard:
            if name in self._lines:
                return bytes(self._lines[name])
            seen = self._look().get(name)
            if seen is None:
                return None

            # what never changes is asked for once, with all its like: a request takes 50 ms
            last = name.rsplit("/", 1)[-1]
            if last not in LASTING:
                return self._get(name)
            if self._kept.get(name, (None,))[0] != seen:
                self._read_ahead(last)
            return self._kept[name][1] if name in self._kept else None

    def write(self, name: str, data: bytes | memoryview) -> None:
        with self._guard:
            folder = name.rpartition("/")[0]
            self._lines.pop(name, None)
            # a checkpoint is not to outlive the points of its folder
            for other in [n for n in self._lines if n.rpartition("/")[0] == folder]:
                self._put(other, bytes(self._lines.pop(other)))
            self._put(name, data)

    def append(self, name: str, line: bytes) -> None:
        with self._guard:
            if name not in self._lines:
                self._lines[name] = bytearray(self.read(name) or b"")
                self._sent_at[name] = time.monotonic()
            # there is no appending to an object: the whole file goes again, now and then
            self._lines[name] += line
            if time.monotonic() - self._sent_at[name] > SEND_AFTER_S:
                self._put(name, bytes(self._lines[name]))
                self._sent_at[name] = time.monotonic()

    def names(self, folder: str) -> list[str]:
        with self._guard:
            self._look()
            return sorted(self._children.get(folder.strip("/"), ()))

    def exists(self, name: str) -> bool:
        with self._guard:
            return name in self._look() or name.strip("/") in self._children

    def size(self, name: str) -> int:
        with self._guard:
            inside = name + "/"
            found = self._look().items()
            return sum(s.size for other, s in found if other == name or other.startswith(inside))

    def remove(self, name: str) -> None:
        with self._guard:
            inside = name + "/"
            for other in [n for n in self._look() if n == name or n.startswith(inside)]:
                self._fs.delete_file(self._base + other)
            self._lines.pop(name, None)
            self.refresh()

    def stamp(self, folder: str) -> object:
        with self._guard:
            self._look()
            names = self._children.get(folder.strip("/"))  # within a listing it only grows
            return (self._listings, len(names)) if names else None

    def read_now(self, name: str) -> bytes | None:
        return self._get(name)

    def write_now(self, name: str, data: bytes) -> None:
        # without the guard, which a checkpoint holds that is on its way for minutes
        self._upload(name, data)

    def refresh(self) -> None:
        self._good_until = 0.0

    def _look(self) -> dict[str, Seen]:
        """Return the listing, made again if it is old."""
        if time.monotonic() < self._good_until:
            return self._listing
        if not self._has_answered:  # a place out of reach is found out in seconds
            self.require_answer()
        from pyarrow import fs

        # one request for all: folders are names with slashes
        began = time.monotonic()
        everything = fs.FileSelector(self._base, allow_not_found=True, recursive=True)
        with waiting(f"the list of what is in {self.root}"):
            listed = self._fs.get_file_info(everything)
        self._listing, self._children = {}, {}
        for info in listed:
            if info.is_file:
                changed = info.mtime_ns or 0
                self._note(info.path[len(self._base) :], Seen(info.size or 0, changed))

        # a long listing is good for longer: it may not take most of the time
        self._listings += 1
        took = time.monotonic() - began
        self._good_until = time.monotonic() + max(LISTING_S, LISTING_SHARE * took)
        return self._listing

    def _note(self, name: str, seen: Seen) -> None:
        # object stores have no folders: they follow from the names
        self._listing[name] = seen
        while name:
            parent, _, last = name.rpartition("/")
            self._children.setdefault(parent, set()).add(last)
            name = parent

    def _read_ahead(self, last: str) -> None:
        """Fetch every file of this last name that is new, side by side."""
        wanted = [
            (name, seen)
            for name, seen in self._listing.items()
            if name.rsplit("/", 1)[-1] == last and self._kept.get(name, (None,))[0] != seen
        ]
        with ThreadPoolExecutor(READERS) as pool:
            contents = list(pool.map(self._get, (name for name, _ in wanted)))
        for (name, seen), data in zip(wanted, contents, strict=True):
            if data is not None:
                self._kept[name] = (seen, data)

    def _get(self, name: str) -> bytes | None:
        try:
            with self._fs.open_input_stream(self._base + name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _put(self, name: str, data: bytes | memoryview) -> None:
        self._upload(name, data)
        self._kept.pop(name, None)
        self._note(name, Seen(len(data), time.time_ns()))

    def _upload(self, name: str, data: bytes | memoryview) -> None:
        path = self._base + name
        if self._fs.type_name.startswith("py::"):  # what fsspec knows may want folders made
            self._fs.create_dir(path.rpartition("/")[0], recursive=True)
        with self._fs.open_output_stream(path) as file:
            file.write(data)
