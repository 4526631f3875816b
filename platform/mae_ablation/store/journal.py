"""Journal of a phase: a JSON line per point, `{"t": ms since 1970, "s": step, "m": {name: value}}`.

Appended by the training process, tailed by whoever shows it. A torn last line (the writer was
killed) is not read, and is cut off when the phase resumes.
"""

import json
import sys
import time
from dataclasses import dataclass

from mae_ablation.store.files import Files


@dataclass(frozen=True, slots=True)
class Journal:
    """One phase's curve."""

    files: Files
    name: str

    def append(self, step: int, metrics: dict[str, float]) -> None:
        line = json.dumps({"t": int(time.time() * 1000), "s": step, "m": metrics})
        self.files.append(self.name, line.encode() + b"\n")

    def read(self) -> list[dict]:
        """Return all sound lines, in order; none if there is no journal yet."""
        return [row for row in self.rows() if row is not None]

    def rows(self) -> list[dict | None]:
        """Return every whole line; None for one that is damaged."""
        lines = (self.files.read(self.name) or b"").split(b"\n")[:-1]  # the rest is torn
        return [sound(line) for line in lines]

    def cut(self, after_step: int) -> None:
        """Forget the points after `after_step`: the phase resumes there and writes them again."""
        if self.files.read(self.name):
            kept = [json.dumps(row) + "\n" for row in self.read() if row["s"] <= after_step]
            self.files.write(self.name, "".join(kept).encode())

    def mend(self) -> None:
        """Drop the damaged lines."""
        self.cut(after_step=sys.maxsize)


def sound(line: bytes) -> dict | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"t", "s", "m"} <= row.keys() else None
