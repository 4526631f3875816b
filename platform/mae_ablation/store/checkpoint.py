"""Checkpoints of a phase: the file's name holds the step and the checksum of its content.

checkpoint-00001200-5f0c3b9a1e7d2468.pt    after 1200 steps, SHA-256 of the file begins 5f0c...
"""

import hashlib
import re
from dataclasses import dataclass

from mae_ablation.store.files import Files

CHECKPOINT = re.compile(r"checkpoint-(\d+)-([0-9a-f]{16})\.pt")


class Damaged(ValueError):
    """A checkpoint is not what was written."""


def checkpoint_name(step: int, data: bytes | memoryview) -> str:
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
        """Number of optimiser steps before it."""
        return int(CHECKPOINT.fullmatch(self.file)[1])

    def read(self) -> bytes:
        """Read the file; Damaged if it is not what was written, or is gone."""
        # the sum is in the name: whoever lists a folder knows what he will get
        data = self.files.read(self.name)
        if data is None:
            raise Damaged(f"{self.name} is gone")
        if digest(data) != CHECKPOINT.fullmatch(self.file)[2]:
            raise Damaged(f"{self.name} is damaged: its checksum is another")
        return data
