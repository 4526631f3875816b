"""The store: one folder per phase, named readably and by identity. It is the truth.

store/pretrain/fashion_mnist-30px-keep9of36-s0-3f2a9c0d1e4b/
    phase.json            what was hashed into the identity
    journal.jsonl         the curve
    checkpoint-*.pt       the last two, with their checksums in their names
    pictures/             reconstructions along a pre-training, by step
    predictions.npz       an evaluation's answer to every test image
    result.json           written once, when the phase is finished
    failure.json          why it is not, if it failed
    stopped.json          why it is not, if a search stopped it early
    out_of_memory.json    the micro-batch to go on with, after a GPU's memory ran out

Beside them lie declarations/, what was declared of studies before their first result.

It may be a folder of this machine, of a file server, or a URI such as s3://bucket/store.
"""

import json
import os
import re
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from mae_ablation.store import atomic, claim, declaration
from mae_ablation.store.checkpoint import CHECKPOINT, Checkpoint, Damaged, checkpoint_name
from mae_ablation.store.files import Files, files_at
from mae_ablation.store.paths import expanded_place

CHECKPOINTS_KEPT = 2
PICTURE = re.compile(r"reconstruction-(\d+)\.png")
IDENTITY = re.compile(r".*-([0-9a-f]{12})")


@dataclass(frozen=True, slots=True)
class Journal:
    """One phase's curve, a line per point: {"t": ms since 1970, "s": step, "m": {name: value}}."""

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
        lines = (self.files.read(self.name) or b"").split(b"\n")[:-1]
        return [_sound(line) for line in lines]  # a torn last one is of a killed writer

    def cut(self, after_step: int) -> None:
        """Forget the points after `after_step`: the phase resumes there and writes them again."""
        # a step may have been written that no checkpoint holds any more
        if self.files.read(self.name):
            kept = [json.dumps(row) + "\n" for row in self.read() if row["s"] <= after_step]
            self.files.write(self.name, "".join(kept).encode())

    def mend(self) -> None:
        """Drop the damaged lines."""
        self.cut(after_step=sys.maxsize)


def _sound(line: bytes) -> dict | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"t", "s", "m"} <= row.keys() else None


@dataclass(frozen=True, slots=True)
class PhaseFolder:
    """One phase's files."""

    files: Files
    name: str
    """within the store: "pretrain/<readable>-<identity>" """

    @staticmethod
    def at(path: Path) -> "PhaseFolder":
        """Return the folder of this path, in a store or not."""
        return PhaseFolder(files_at(path.parent), path.name)

    @property
    def identity(self) -> str:
        return self.name.rsplit("-", 1)[-1]

    @property
    def journal(self) -> Journal:
        return Journal(self.files, f"{self.name}/journal.jsonl")

    def exists(self) -> bool:
        return self.files.exists(self.name)

    def finished(self) -> bool:
        """Tell whether there is a result; cheaper than to read it."""
        return self.files.exists(f"{self.name}/result.json")

    def result(self) -> dict | None:
        """Return the finished phase's result; None while there is none."""
        return self._read("result.json")

    def failure(self) -> dict | None:
        """Return why the phase failed when it was last tried; None if it did not."""
        return self._read("failure.json")

    def stopped(self) -> dict | None:
        """Return what a search said when it stopped the phase early; None if none did."""
        return self._read("stopped.json")

    def stop(self, document: dict, why: dict) -> None:
        """Note the `search`, `epoch` and `reason` of a stop; checkpoints stay for other studies."""
        if self.document() is None:
            self.files.write(f"{self.name}/phase.json", atomic.to_json(document))
        self.files.write(f"{self.name}/stopped.json", atomic.to_json(why))

    def document(self) -> dict | None:
        """Return what was hashed into the identity; None where this is no phase's folder."""
        return self._read("phase.json")

    def claim(self, owner: str) -> claim.Claim | None:
        """Claim the phase; None while another process works on it. See claim.take."""
        return claim.take(self.files, self.identity, owner)

    def begin(self, document: dict) -> None:
        """Make the folder of a claimed phase, state what it is, forget an earlier failure."""
        if self.document() is None:
            self.files.write(f"{self.name}/phase.json", atomic.to_json(document))
        # files that a killed process left half-written are nobody's
        for name in self.files.names(self.name):
            if name == "failure.json" or name.endswith(atomic.PART):
                self.files.remove(f"{self.name}/{name}")

    def finish(self, result: dict) -> None:
        self.files.write(f"{self.name}/result.json", atomic.to_json(result))

    def fail(self, reason: str, details: str) -> None:
        why = {"reason": reason, "details": details}
        self.files.write(f"{self.name}/failure.json", atomic.to_json(why))

    def shortage(self) -> dict | None:
        """Return `micro_batch` and `times`, after a GPU's memory ran out; None if it never did."""
        return self._read("out_of_memory.json")

    def note_shortage(self, micro_batch: int) -> None:
        """Note that a GPU's memory ran out, and how many images to go on with at a time."""
        times = 1 + (self.shortage() or {"times": 0})["times"]
        note = {"micro_batch": micro_batch, "times": times}
        self.files.write(f"{self.name}/out_of_memory.json", atomic.to_json(note))

    def checkpoints(self) -> list[Checkpoint]:
        """Return the checkpoints, newest first."""
        names = [name for name in self.files.names(self.name) if CHECKPOINT.fullmatch(name)]
        found = [Checkpoint(self.files, self.name, name) for name in names]
        return sorted(found, key=lambda checkpoint: checkpoint.step, reverse=True)

    def save_checkpoint(self, step: int, data: bytes | memoryview) -> None:
        """Write the checkpoint of a step; the last two are kept."""
        # the new one first: at no moment is there none
        self.files.write(f"{self.name}/{checkpoint_name(step, data)}", data)
        for old in self.checkpoints()[CHECKPOINTS_KEPT:]:
            self.files.remove(old.name)

    def sound_checkpoint(self) -> tuple[Checkpoint, bytes] | None:
        """Return the newest sound checkpoint and its bytes, or None; warns of damaged ones."""
        for checkpoint in self.checkpoints():
            try:
                return checkpoint, checkpoint.read()
            except Damaged as error:
                warnings.warn(f"{error}; an older one is used", stacklevel=2)
        return None

    def final_checkpoint(self) -> bytes:
        """Return a finished phase's last checkpoint; Damaged if it is not what was written."""
        # an older one would be another model than the result speaks of
        remedy = f"`mae-ablation store verify --mend {self.identity}` has it trained again"
        newest = next(iter(self.checkpoints()), None)
        if newest is None:
            raise Damaged(f"{self.name} has no checkpoint in this store: {remedy}")
        try:
            return newest.read()
        except Damaged as error:
            raise Damaged(f"{error}: {remedy}") from None

    def pictures(self) -> list[int]:
        """Return the steps of the pictures."""
        found = map(PICTURE.fullmatch, self.files.names(f"{self.name}/pictures"))
        return [int(match[1]) for match in found if match]

    def picture(self, step: int) -> bytes:
        """Return a picture's PNG file. Raises FileNotFoundError."""
        data = self.files.read(self._picture(step))
        if data is None:
            raise FileNotFoundError(self._picture(step))
        return data

    def save_picture(self, step: int, png: bytes) -> None:
        self.files.write(self._picture(step), png)

    def _picture(self, step: int) -> str:
        return f"{self.name}/pictures/reconstruction-{step:08d}.png"

    def _read(self, name: str) -> dict | None:
        data = self.files.read(f"{self.name}/{name}")
        try:
            return None if data is None else json.loads(data)
        except ValueError:
            remedy = "`mae-ablation store verify --mend` has the phase finished again"
            raise Damaged(f"{self.name}/{name} is damaged: {remedy}") from None


_indices: dict[tuple[str, str], tuple[object, dict[str, str]]] = {}
"""folder names by identity, for each store and kind, with the stamp of their listing"""


def _index(files: Files, kind: str) -> dict[str, str]:
    # listed again only when a folder has come or gone
    key, stamp = (files.root, kind), files.stamp(kind)
    if key not in _indices or _indices[key][0] != stamp:
        found = [(IDENTITY.fullmatch(name), name) for name in files.names(kind)]
        _indices[key] = (stamp, {match[1]: name for match, name in found if match})
    return _indices[key][1]


@dataclass(frozen=True, slots=True, init=False)
class Store:
    """All phases under one folder or URI."""

    root: str

    def __init__(self, root: str | os.PathLike) -> None:
        object.__setattr__(self, "root", expanded_place(root))

    @property
    def files(self) -> Files:
        return files_at(self.root)

    def phase(self, kind: str, name: str, identity: str) -> PhaseFolder:
        """Return the folder of a phase, found by its identity: names are for people only."""
        # older versions may have named it otherwise: then a listing finds it
        files = self.files
        expected = f"{kind}/{name}-{identity}"
        if files.exists(expected):
            return PhaseFolder(files, expected)
        known = _index(files, kind).get(identity)
        return PhaseFolder(files, f"{kind}/{known}" if known else expected)

    def folders(self, kind: str | None = None) -> list[PhaseFolder]:
        """Return every phase's folder, of one kind or of all, sorted by name."""
        # beside the kinds lie claims, the marker and declarations
        others = (".", declaration.DECLARATIONS)
        kinds = [kind] if kind else [k for k in self.files.names("") if not k.startswith(others)]
        return [
            PhaseFolder(self.files, f"{k}/{name}") for k in kinds for name in self.files.names(k)
        ]
