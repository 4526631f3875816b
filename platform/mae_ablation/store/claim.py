"""Claims: one process at a time works on a phase, however many share the store.

On a folder a claim is a lock of the system's: it is free the moment its process ends, however it
ends. Where there are no such locks (object stores) it is a file that its holder renews; one that
nobody has renewed for a minute is free. There, two processes that ask in the same second may very
rarely both be let in; as every file is put whole, that costs work done twice and nothing else.
"""

import errno
import json
import os
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from mae_ablation.store import atomic
from mae_ablation.store.files import Files, LocalFiles

CLAIMS = ".claims"
BEAT_S = 10.0
DEAD_S = 60.0
SETTLE_S = 1.0  # between writing a claim and looking whether it is still one's own
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)


class Claim(Protocol):
    """The right to work on a phase."""

    def release(self) -> None:
        """Let others in."""


def take(files: Files, identity: str, owner: str) -> Claim | None:
    """Claim a phase; None: another process holds it.

    Args:
        owner: takes over a renewed claim of its own at once: that process is known to have ended.
    """
    # a file server may have no locks: it is then an object store to us
    name = f"{CLAIMS}/{identity}"
    if isinstance(files, LocalFiles):
        files.require_here()
        try:
            return _lock(files.path / name)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    return _beat(files, name + ".json", owner)


class _Lock:
    """A lock of the system's, held by an open file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        os.close(self._descriptor)


def _lock(path: Path) -> Claim | None:
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # another user's file in a shared store: a lock needs no more
        descriptor = os.open(path, os.O_RDONLY)
    # the lock is the open file's: the system frees it however this process ends
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return _Lock(descriptor)


_watched: dict[tuple[str, str], tuple[bytes, float]] = {}
"""claims of others and since when they have not changed; clocks of machines are not compared"""


def _beat(files: Files, name: str, owner: str) -> Claim | None:
    found = files.read_now(name)
    if found and json.loads(found)["owner"] != owner:
        # another's claim is dead when nobody has renewed it for a minute
        seen, since = _watched.get((files.root, name), (b"", 0.0))
        if seen != found:
            _watched[files.root, name] = (found, time.monotonic())
            return None
        if time.monotonic() - since <= DEAD_S:
            return None

    # of several that ask at once the last one to write has it
    mine = _Beating(files, name, owner)
    time.sleep(SETTLE_S)
    if not mine.is_mine():
        return None
    mine.start()
    return mine


class _Beating:
    """A claim that is a file, renewed by a thread."""

    def __init__(self, files: Files, name: str, owner: str) -> None:
        self._files, self._name, self._owner = files, name, owner
        self._token = uuid.uuid4().hex
        self._left = threading.Event()
        self._writing = threading.Lock()  # a beat under way must not write again what is released
        self._beats = 0
        self._write()

    def start(self) -> None:
        threading.Thread(target=self._renew, name="claim", daemon=True).start()

    def is_mine(self) -> bool:
        found = self._files.read_now(self._name)
        return bool(found) and json.loads(found)["token"] == self._token

    def leave(self) -> None:
        """Renew it no more, as if the process had ended."""
        self._left.set()

    def release(self) -> None:
        with self._writing:
            self.leave()
            if self.is_mine():
                self._files.refresh()
                self._files.remove(self._name)

    def _write(self) -> None:
        state = {"owner": self._owner, "token": self._token, "beat": self._beats}
        self._files.write_now(self._name, atomic.to_json(state))

    def _renew(self) -> None:
        while not self._left.wait(BEAT_S):
            # a place that is away is asked again at the next beat
            with suppress(OSError), self._writing:
                if self._left.is_set() or not self.is_mine():
                    return
                self._beats += 1
                self._write()
