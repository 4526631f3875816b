"""The store: one folder per phase, named readably and by identity. It is the truth.

store/pretrain/fashion_mnist-30px-keep9of36-s0-3f2a9c0d1e4b/
    phase.json            what was hashed into the identity
    journal.jsonl         the curve
    checkpoint-00012.pt   the last two
    pictures/             reconstructions along a pre-training, by step
    result.json           written once, when the phase is finished
    failure.json          why it is not, if it failed
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from mae_ablation.store import atomic

CHECKPOINTS_KEPT = 2


@dataclass(frozen=True, slots=True)
class PhaseFolder:
    """One phase's files."""

    path: Path

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    def result(self) -> dict | None:
        """The finished phase's result; None while there is none."""
        return self._read("result.json")

    def failure(self) -> dict | None:
        """Why the phase failed when it was last tried; None if it did not."""
        return self._read("failure.json")

    def document(self) -> dict | None:
        """What was hashed into the identity; None where this is no phase's folder."""
        return self._read("phase.json")

    def begin(self, document: dict) -> None:
        """Make the folder, state what it is, and forget an earlier failure."""
        if self.document() is None:
            atomic.write_json(self.path / "phase.json", document)
        (self.path / "failure.json").unlink(missing_ok=True)

    def finish(self, result: dict) -> None:
        atomic.write_json(self.path / "result.json", result)

    def fail(self, reason: str, details: str) -> None:
        atomic.write_json(self.path / "failure.json", {"reason": reason, "details": details})

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, newest first."""
        return sorted(self.path.glob("checkpoint-*.pt"), reverse=True)

    def checkpoint_path(self, epoch: int) -> Path:
        return self.path / f"checkpoint-{epoch:05d}.pt"

    def picture_path(self, step: int) -> Path:
        return self.path / "pictures" / f"reconstruction-{step:08d}.png"

    def pictures(self) -> dict[int, Path]:
        """Pictures by step."""
        found = sorted(self.path.glob("pictures/reconstruction-*.png"))
        return {int(path.stem.split("-")[1]): path for path in found}

    def drop_old_checkpoints(self) -> None:
        for old in self.checkpoints()[CHECKPOINTS_KEPT:]:
            old.unlink(missing_ok=True)

    def _read(self, name: str) -> dict | None:
        try:
            return json.loads((self.path / name).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None


@dataclass(frozen=True, slots=True)
class Store:
    """All phases under one folder."""

    root: Path

    def phase(self, phase: str, name: str, identity: str) -> PhaseFolder:
        """The folder of a phase, found by its identity; the readable part is for people only."""
        parent = self.root / phase
        known = next(parent.glob(f"*-{identity}"), None)
        return PhaseFolder(known or parent / f"{name}-{identity}")

    def results(self, phase: str) -> list[dict]:
        """Results of every finished phase of one kind."""
        folders = [PhaseFolder(path) for path in sorted(self.root.glob(f"{phase}/*"))]
        return [result for folder in folders if (result := folder.result())]

    def require_writable(self) -> None:
        """Raises OSError if nothing can be written here; leaves nothing behind."""
        existing = self.root
        while not existing.exists():
            existing = existing.parent
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is not a folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(f"{existing} is not writable")
