"""Archives: the small files of phases in one zip file, so that results travel without checkpoints.

MANIFEST.json names every other member with its SHA-256. Packing the same phases twice gives the
same bytes. Reading checks everything before anything is handed out, so a damaged or hostile archive
leaves a store as it was.
"""

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mae_ablation.store import atomic
from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.folder import PhaseFolder, Store

MANIFEST = "MANIFEST.json"
FORMAT = 1  # raised when an older reader would misunderstand a newer file
FILES = (
    *("phase.json", "journal.jsonl", "failure.json", "stopped.json"),
    *("predictions.npz", "result.json"),
)
"""in the order they are put in place: a result stands for all the others, so it comes last"""
MEMBER = re.compile(
    r"(?P<folder>(?P<kind>[a-z_]+)/(?P<name>[\w.=+-]+)-(?P<identity>[0-9a-f]{12}))/"
    rf"(?P<file>{'|'.join(map(re.escape, FILES))}|pictures/reconstruction-\d+\.png)"
)
EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's first moment: the same content gives the same bytes
LARGEST_MEMBER_BYTES = 64 * 2**20  # far above any journal; a bomb is refused before it is unpacked


class BadArchive(Damaged):
    """An archive is damaged, climbs out of its folder, or is no archive of results."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedPhase:
    """The files of one phase, read from an archive and checked against their checksums."""

    kind: str
    name: str
    """readable part of the folder's name"""
    identity: str
    files: dict[str, bytes]
    """contents by their name within the phase's folder"""

    @property
    def document(self) -> dict:
        """Return what was hashed into the identity."""
        try:
            value = json.loads(self.files["phase.json"])
        except (KeyError, ValueError):
            value = None
        if not isinstance(value, dict):
            phase = f"{self.kind}/{self.name}-{self.identity}"
            raise BadArchive(f"phase.json of {phase} is missing or damaged")
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """Everything an archive holds, after every check that needs no other file."""

    phases: tuple[PackedPhase, ...]
    notes: dict[str, bytes]
    """members that belong to no phase, such as declarations, by name"""


def pack(
    path: Path,
    folders: Iterable[PhaseFolder],
    notes: Mapping[str, bytes],
    *,
    pictures: bool = False,
) -> int:
    """Write the small files of phases and some notes into a zip file; return its size in bytes.

    Args:
        pictures: also the reconstructions along pre-trainings, which are most of the bytes.
    """
    members = dict(notes)
    for folder in folders:
        shown = folder.pictures() if pictures else ()
        drawn = [f"pictures/reconstruction-{step:08d}.png" for step in shown]
        for name in (f"{folder.name}/{file}" for file in (*FILES, *drawn)):
            if (data := folder.files.read(name)) is not None:
                members[name] = data

    # the same phases give the same bytes
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(members.items())}
    manifest = atomic.to_json({"format": FORMAT, "sha256": sums})
    with atomic.replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, data in {MANIFEST: manifest, **dict(sorted(members.items()))}.items():
            member = zipfile.ZipInfo(name, EPOCH)
            archive.writestr(member, data, zipfile.ZIP_DEFLATED, compresslevel=9)
    return path.stat().st_size


def read(path: Path) -> Archive:
    """Read an archive whole and check it.

    Raises:
        BadArchive: it is no zip file of results, a member is missing, added, too large, has another
            checksum than the manifest, or has a name that is none of a phase's.
        OSError: the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # a size is said before anything is unpacked: a bomb is refused
            members = {}
            for info in archive.infolist():
                if info.file_size > LARGEST_MEMBER_BYTES:
                    size = f"{info.filename} has {info.file_size} bytes"
                    raise BadArchive(f"{size}: too large for a result")
                members[info.filename] = archive.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadArchive(f"not a zip file that can be read: {error}") from None

    # the manifest first: what it does not name, or names otherwise, is refused
    sums = _checksums(members.pop(MANIFEST, None))
    if extra := sorted(members.keys() ^ sums.keys()):
        raise BadArchive(f"{extra[0]} is not both in the archive and in its {MANIFEST}")
    for name, data in members.items():
        if hashlib.sha256(data).hexdigest() != sums[name]:
            raise BadArchive(f"{name} has another checksum than {MANIFEST} says")

    # files of phases by phase, the rest by name
    phases: dict[str, PackedPhase] = {}
    notes = {}
    for name, data in members.items():
        match = MEMBER.fullmatch(name)
        if match is None:
            notes[_safe(name)] = data
            continue
        parts = {part: match[part] for part in ("kind", "name", "identity")}
        phase = phases.setdefault(match["folder"], PackedPhase(**parts, files={}))
        phase.files[match["file"]] = data
    return Archive(phases=tuple(phases.values()), notes=notes)


def _checksums(manifest: bytes | None) -> dict[str, str]:
    try:
        said = json.loads(manifest or b"")
        sums = dict(said["sha256"])
        known = said["format"] == FORMAT
    except (ValueError, TypeError, KeyError):
        raise BadArchive(f"no readable {MANIFEST} in it: not an export of results") from None
    if not known:
        raise BadArchive(f"its format is {said['format']}, this version reads {FORMAT}")
    return sums


def _safe(name: str) -> str:
    """Return the name, if it stays within a folder."""
    parts = name.split("/")  # none may be empty or climb
    if not re.fullmatch(r"[\w.=+/-]+", name) or not all(parts) or {".", ".."} & set(parts):
        raise BadArchive(f"{name!r} is no name of a result's file")
    return name


def put_phase(phase: PackedPhase, store: Store, owner: str) -> bool:
    """Put a phase's files into a store; return whether they were put there."""
    # What is there stays if it is finished or at work, or could go on from checkpoints. A finished
    # phase takes the place of another, interrupted training with its checkpoints.
    folder = store.phase(phase.kind, phase.name, phase.identity)
    unfinished = "result.json" not in phase.files
    if folder.result() is not None or (unfinished and folder.checkpoints()):
        return False
    claim = folder.claim(owner)
    if claim is None:
        return False

    # the result last: whoever is killed in between has left an unfinished phase
    try:
        folder.files.remove(folder.name)
        for name in sorted(phase.files, key=lambda name: name == "result.json"):
            folder.files.write(f"{folder.name}/{name}", phase.files[name])
        return True
    finally:
        claim.release()
