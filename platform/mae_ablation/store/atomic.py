"""Files that are either whole or not there: write beside, fsync, rename."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PART = ".part"
"""ends the name of a file that is being written; one left behind is a killed process's"""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write that takes `path`'s place when the block ends without an exception."""
    # beside it: a rename is atomic within one file system only
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{PART}")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def to_json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
