"""Checkpoints of a phase: the file's name holds the step and the checksum of what is in it.

checkpoint-00001200-5f0c3b9a1e7d2468.pt    after 1200 steps, SHA-256 of the file begins 5f0c...
checkpoint-00012.pt                        of earlier versions: by epoch; checked as the zip it is
"""

import hashlib
import io
import re
import zipfile
from dataclasses import dataclass

from mae_ablation.store.files import Files

NAME = re.compile(r"checkpoint-(\d+)(?:-([0-9a-f]{16}))?\.pt")


class Damaged(ValueError):
    """A checkpoint is not what was written."""


def name_of(step: int, data: bytes | memoryview) -> str:
    return f"checkpoint-{step:08d}-{digest(data)}.pt"


def digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint file, not read yet."""

    files: Files
    folder: str
    file: str

    @property
    def name(self) -> str:
        return f"{self.folder}/{self.file}"

    @property
    def step(self) -> int:
        """Optimiser steps before it; epochs in a file of earlier versions."""
        return int(NAME.fullmatch(self.file)[1])

    @property
    def order(self) -> tuple[bool, int]:
        """Newer ones are larger; the earlier versions' files are the oldest."""
        return NAME.fullmatch(self.file)[2] is not None, self.step

    def read(self) -> bytes:
        """What was written.

        Raises:
            Damaged: the file is not what was written, or is gone.
        """
        data = self.files.read(self.name)
        if data is None:
            raise Damaged(f"{self.name} is gone")
        wanted = NAME.fullmatch(self.file)[2]
        sound = digest(data) == wanted if wanted else is_sound_zip(data)
        if not sound:
            raise Damaged(f"{self.name} is damaged: its checksum is another")
        return data


def is_sound_zip(data: bytes) -> bool:
    try:
        return zipfile.ZipFile(io.BytesIO(data)).testzip() is None
    except zipfile.BadZipFile:
        return False
