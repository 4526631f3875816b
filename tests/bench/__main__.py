"""Measure what we claim about speed, and write reports/performance.md.

python -m tests.bench               everything, half an hour, nothing beside it
python -m tests.bench steps probe   some parts; the page keeps the others
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from mae_ablation import __version__
from mae_ablation.store.commit import code_commit
from mae_ablation.study import machine

from .compare import ROOT, Row
from .probe import probe
from .startup import startup
from .steps import steps
from .study import study
from .training import augmentation, lanes

PARTS = {part.__name__: part for part in (study, startup, steps, lanes, augmentation, probe)}
OPENING = """\
# Performance

Measured by `python -m tests.bench`, both sides in turn, round by round: medians, and the ratio's
median with its smallest and largest round. Each part says of which version and where it was
measured; figures of another commit than yours are history.

| what | against | ours | theirs | times better (least, most) |
|---|---|---:|---:|---:|
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5, help="of each pair (default: 5)")
    parser.add_argument("--reports", type=Path, default=ROOT / "reports", help="where to write")
    asked = parser.parse_args()
    if wrong := [name for name in asked.parts if name not in PARTS]:
        parser.error(f'unknown part "{wrong[0]}", must be one of {", ".join(PARTS)}')
    for name in asked.parts or PARTS:
        print(f"{name} ...", flush=True)
        if rows := PARTS[name](asked.rounds):
            keep(asked.reports, name, rows)
    print(asked.reports / "performance.md")
    return 0


def keep(folder: Path, part: str, rows: list[Row]) -> None:
    """Puts a part's figures in the place of older ones, and writes the page again."""
    file = folder / "performance.json"
    parts = json.loads(file.read_text()) if file.exists() else {}
    parts[part] = {
        "machine": machine.processor(),
        "version": __version__,
        "commit": code_commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "rows": [asdict(row) for row in rows],
    }
    file.write_text(json.dumps(parts, indent=1, sort_keys=True) + "\n")
    (folder / "performance.md").write_text(page(parts))


def page(parts: dict) -> str:
    """Formats the whole page: one table, then how each part was measured."""
    lines, notes = [], []
    for name in (name for name in PARTS if name in parts):
        part = parts[name]
        notes.append(
            f"**{name}**: version {part['version']}, commit {part['commit']}, {part['date']}; "
            f"{part['machine']}.\n"
        )
        for row in (Row(**row) for row in part["rows"]):
            lines.append(str(row))
            notes.append(f"- {row.what}: {row.note}")
        notes.append("")
    return OPENING + "\n".join(lines) + "\n\n## How\n\n" + "\n".join(notes)


if __name__ == "__main__":
    sys.exit(main())
