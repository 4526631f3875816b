"""One run at a time in a store: two would write the same journals."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold the store for the block; the system lets go when the process ends, however it ends.

    Raises:
        BlockingIOError: another process holds it; the message is that process's id.
    """
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise BlockingIOError(file.read().strip()) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
