"""Journal of a phase: a JSON line per point, `{"t": ms since 1970, "s": step, "m": {name: value}}`.

Appended and flushed by the training process, tailed by whoever shows it. A torn last line (the
writer was killed) is not read, and is cut off when the phase resumes.
"""

import json
import time
from pathlib import Path

from mae_ablation.store import atomic


def append(path: Path, step: int, metrics: dict[str, float]) -> None:
    line = json.dumps({"t": int(time.time() * 1000), "s": step, "m": metrics})
    with open(path, "a") as file:
        file.write(line + "\n")


def read(path: Path) -> list[dict]:
    """All whole lines, in order; none if there is no journal yet."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is torn
    return [json.loads(line) for line in lines]


def cut(path: Path, after_step: int) -> None:
    """Forget the points after `after_step`: the phase resumes there and writes them again."""
    if path.exists():
        kept = [json.dumps(row) + "\n" for row in read(path) if row["s"] <= after_step]
        atomic.write_text(path, "".join(kept))
