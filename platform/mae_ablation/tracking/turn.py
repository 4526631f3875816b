"""Turn: which of several drivers writes an experiment of one database. The others wait for it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mae_ablation.store.patience import waiting


class Turn:
    """A lock on a small file beside the database.

    The system lets go of it when the process ends, however it ends.
    """

    def __init__(self, database: Path, experiment: str) -> None:
        self._path = database.with_name(f"{database.name}-{experiment}.lock")
        self._file: BinaryIO | None = None

    @property
    def folder(self) -> Path:
        """Of the database."""
        return self._path.parent

    def take(self) -> bool:
        """Whether it is ours now, or was before."""
        if self._file is None:
            file = open(self._path, "ab")  # noqa: SIM115 - held until it is given back
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
            self._file = file
        return True

    def give_back(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def one_at_a_time(database: Path) -> Iterator[None]:
    """Opening a new database: of several processes that make its tables at once, all but one fail
    (measured)."""
    with open(database.with_name(f"{database.name}-open.lock"), "ab") as file:
        with waiting(f"another process that opens {database}"):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
