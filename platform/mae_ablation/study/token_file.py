"""The user's file of tokeniser weights: known by its hash, so that it is what the recipe means."""

import hashlib
from functools import lru_cache
from pathlib import Path

from mae_ablation.errors import UserError


def require_hash(path: Path, expected: str, place: str) -> None:
    """Raises UserError: no such file, or one with another hash."""
    if not path.is_file():
        raise UserError(f"tokenizer.file {path}: no such file", place)
    status = path.stat()
    found = _sha256(path.absolute(), status.st_mtime_ns, status.st_size)
    if found != expected.lower():
        message = f"tokenizer.file {path}: its sha256 is {found}, the recipe expects {expected}"
        raise UserError(message, place)


@lru_cache(maxsize=8)
def _sha256(path: Path, modified_ns: int, size: int) -> str:
    """Of a file, read once as long as it is not written to."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
