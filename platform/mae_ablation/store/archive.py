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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mae_ablation.store import atomic
from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.folder import PhaseFolder, Store

MANIFEST = "MANIFEST.json"
FORMAT = 1
"""of the archive's layout; raised when an older reader would misunderstand a newer file"""
FILES = (
    "phase.json",
    "journal.jsonl",
    "failure.json",
    "stopped.json",
    "predictions.npz",
    "result.json",
)
"""in the order they are put in place: a result stands for all the others, so it comes last"""
MEMBER = re.compile(
    r"(?P<folder>(?P<kind>[a-z_]+)/(?P<name>[\w.=+-]+)-(?P<identity>[0-9a-f]{12}))/"
    r"(?P<file>phase\.json|journal\.jsonl|failure\.json|stopped\.json|predictions\.npz|result\.json"
    r"|pictures/reconstruction-\d+\.png)"
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
    """by their name within the phase's folder"""

    @property
    def document(self) -> dict:
        """Return what was hashed into the identity."""
        return self._json("phase.json")

    @property
    def result(self) -> dict | None:
        """The finished phase's result; None where the archive has none."""
        return self._json("result.json") if "result.json" in self.files else None

    def _json(self, name: str) -> dict:
        try:
            value = json.loads(self.files[name])
        except (KeyError, ValueError):
            value = None
        if not isinstance(value, dict):
            raise BadArchive(
                f"{name} of {self.kind}/{self.name}-{self.identity} is missing or damaged"
            )
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
    """Write the small files of phases and some notes into a zip file; returns its size in bytes.

    Args:
        notes: further members by name.
        pictures: also the reconstructions along pre-trainings, which are most of the bytes.
    """
    members = dict(notes)
    for folder in folders:
        members |= {f"{folder.name}/{name}": data for name, data in _files_of(folder, pictures)}
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(members.items())}
    manifest = atomic.to_json({"format": FORMAT, "sha256": sums})
    with atomic.replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, data in {MANIFEST: manifest, **dict(sorted(members.items()))}.items():
            member = zipfile.ZipInfo(name, EPOCH)
            archive.writestr(member, data, zipfile.ZIP_DEFLATED, compresslevel=9)
    return path.stat().st_size


def _files_of(folder: PhaseFolder, pictures: bool) -> Iterator[tuple[str, bytes]]:
    names = list(FILES)
    if pictures:
        names += [f"pictures/reconstruction-{step:08d}.png" for step in folder.pictures()]
    for name in names:
        data = folder.files.read(f"{folder.name}/{name}")
        if data is not None:
            yield name, data


def read(path: Path) -> Archive:
    """Read an archive whole and check it.

    Raises:
        BadArchive: it is no zip file of results, a member is missing, added, too large, has another
            checksum than the manifest, or has a name that is none of a phase's.
        OSError: the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: _member(archive, info) for info in archive.infolist()}
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
        phase = phases.setdefault(
            match["folder"],
            PackedPhase(
                kind=match["kind"], name=match["name"], identity=match["identity"], files={}
            ),
        )
        phase.files[match["file"]] = data
    return Archive(phases=tuple(phases.values()), notes=notes)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > LARGEST_MEMBER_BYTES:
        raise BadArchive(f"{info.filename} has {info.file_size} bytes: too large for a result")
    return archive.read(info)


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
    parts = name.split("/")
    if not re.fullmatch(r"[\w.=+/-]+", name) or not all(parts) or {".", ".."} & set(parts):
        raise BadArchive(f"{name!r} is no name of a result's file")
    return name


def put(phase: PackedPhase, store: Store, owner: str) -> bool:
    """Put a phase's files into a store; returns whether they were put there.

    A phase that is finished there is left alone, and so is one that is at work there or has
    checkpoints there while the archive's is not finished. A finished one takes the place of an
    unfinished one: its checkpoints are of another, interrupted training.
    """
    folder = store.phase(phase.kind, phase.name, phase.identity)
    unfinished = "result.json" not in phase.files
    if folder.result() is not None or (unfinished and folder.checkpoints()):
        return False
    claim = folder.claim(owner)
    if claim is None:
        return False
    try:
        folder.files.remove(folder.name)
        order = {name: place for place, name in enumerate(FILES)}
        for name in sorted(phase.files, key=lambda name: order.get(name, 0)):
            folder.files.write(f"{folder.name}/{name}", phase.files[name])
        return True
    finally:
        claim.release()
