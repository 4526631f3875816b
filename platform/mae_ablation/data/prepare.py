"""Prepares a data set once, for every study after it: tar shards and an index (shards.py).

Images are packed in the order they are stored, each one decoded, since a training that meets one
that cannot be read stops. A shard is put in place whole, and behind it a note of what is in it:
after a kill the same command goes on behind the last note. The same source and settings give the
same bytes, however often it was interrupted.
"""

import hashlib
import io
import json
import re
import shutil
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from mae_ablation.data.originals import Original, open_original
from mae_ablation.data.ranges import sizes_of
from mae_ablation.data.shards import (
    INDEX,
    UNFINISHED,
    Prepared,
    forget_prepared,
    make_index,
    open_prepared,
    read_index,
    to_line,
)
from mae_ablation.errors import UserError
from mae_ablation.store.files import Files, files_at
from mae_ablation.store.paths import is_remote
from mae_ablation.study.flags import Count, DataPlace, flag

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
SHARD_BYTES = 512 * 2**20
QUALITY = 95
"""goes into the JPEG files that `side` makes"""
READ_AHEAD = 64
"""images that are read before they are packed, and so in memory"""
SAID_EVERY_S = 10.0


def read_bytes(text: str) -> int:
    """Read a number of bytes, such as 512M.

    Raises:
        ValueError: it is none, or too small for a shard.
    """
    match = re.fullmatch(r"(\d+)([KMG]?)", text.upper().removesuffix("B"))
    if not match or not (size := int(match[1]) * UNITS[match[2]]):
        raise ValueError(f"{text!r} is no size: write 512M, say, or 1G")
    return size


ShardBytes = Annotated[int, flag(read_bytes, "SIZE")]


def prepare_images(
    source: DataPlace,
    dest: DataPlace,
    *,
    side: Count | None = None,
    shard: ShardBytes = SHARD_BYTES,
    workers: Count = 2,
) -> None:
    """Pack images into shards and an index, which a plan and a training read.

    The same command goes on after whatever has stopped it.

    Args:
        source: folder with train/CLASS/ and val/CLASS/, with a Hugging Face data set (parquet, or
            arrow as save_to_disk writes it), or with a WebDataset (tar)
        dest: where shards and index go: a folder, or s3://...
        side: make the short side of larger images so many pixels (default: keep files as they are)
        shard: bytes of a shard, about: 512M, 1G (default: 512M)
        workers: images that are read and decoded at a time (default: 2)
    """
    # both ends are looked at before anything is read or written
    original, packing = open_original(source), Packing(side=side, shard=shard)
    try:
        files = files_at(dest)
        files.require_answer()
    except (OSError, ValueError) as error:  # ValueError: an unknown scheme
        raise UserError(f"cannot be reached: {error}", dest) from None
    if not is_remote(dest) and Path(dest, "train").is_dir():
        raise UserError("holds images or tables already: choose another folder", dest)

    # what there is to do, in numbers, and what of it is done
    total = len(original.names)
    print(f"{source}: {total:,} images of {len(original.classes)} classes", flush=True)
    for part in original.left_out:
        print(f"not taken: {part}")
    stamp = packing.stamp(original, 0, total)
    if found := find_finished(dest, stamp):
        print(f"is prepared already: {describe_prepared(found)}")
        return
    parts = find_parts(files, original, packing)
    first = sum(len(part["names"]) for part in parts)
    if first:
        print(f"goes on behind {first:,} images in {len(parts)} shards", flush=True)
    if not side:
        require_room(dest, original.size * (total - first) // total)

    # the work, shard by shard, then the index, which makes a set of them
    try:
        for part in pack_shards(original, packing, files, len(parts), first, workers):
            parts.append(part)
        files.write_now(INDEX, index_of(original, packing, parts, stamp))
        files.refresh()
        # shards of an earlier run with smaller ones may lie there: they belong to no index
        last = {part["shard"] for part in parts}
        for name in files.names(""):
            if re.fullmatch(r"shard-\d+\.tar", name) and name not in last:  # of other settings
                files.remove(name)
        files.remove(UNFINISHED)
    except OSError as error:
        raise UserError(
            f"cannot write: {error.strerror or error}; the same command goes on from there", dest
        ) from error
    forget_prepared()
    print(describe_prepared(open_prepared(dest)))
    print(f"a study names it: `data: {{name: image_folder, folder: {dest}}}`")


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """Settings that decide on the bytes of shards, beside the images."""

    side: int | None
    shard: int
    quality: int = QUALITY

    def stamp(self, original: Original, first: int, end: int) -> str:
        """Hash what tells these images of a source, packed like this, from any others."""
        images = [original.names[first:end], list(original.sizes[first:end])]
        text = to_line([asdict(self), original.classes, images])
        return hashlib.sha256(text).hexdigest()


def find_finished(dest: str, stamp: str) -> Prepared | None:
    """Find the set that lies there whole; None: there is none, or it has lost a shard.

    Raises:
        UserError: another one lies there.
    """
    try:
        # the third line says what it was made from (shards.py)
        packing = json.loads(read_index(dest)[0][2])
    except UserError:  # no index, or one that is damaged
        return None
    if packing["source"] != stamp:
        raise UserError(
            "holds what was prepared from other images or with other settings: choose another "
            "place, or remove it",
            dest,
        )
    try:
        forget_prepared()
        return open_prepared(dest)
    except UserError:
        return None


def find_parts(files: Files, original: Original, packing: Packing) -> list[dict[str, Any]]:
    """Find what was packed before, as far as it is what would be packed now."""
    # the first shard that differs ends what can be kept: all behind it begin elsewhere
    parts, first = [], 0
    while note := files.read_now(note_of(name := shard_name(len(parts)))):
        part = json.loads(note)
        end = first + len(part["names"])
        (size,) = sizes_of(files.root, [name])
        if part["stamp"] != packing.stamp(original, first, end) or size != part["bytes"]:
            break
        parts.append(part)
        first = end
    return parts


def require_room(dest: str, size: int) -> None:
    """Raises UserError where a disk has too little room for files that are kept as they are."""
    if is_remote(dest):
        return
    # the disk of the nearest folder that is there
    folder = Path(dest).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"{size / 1e9:,.1f} GB of images do not fit into {free / 1e9:,.1f} GB of free disk: "
            "make room, or take --side 256",
            dest,
        )


class Packed(NamedTuple):
    """An image that was read and decoded."""

    data: bytes
    """goes into a shard like this"""
    reason: str = ""
    """why it cannot be read; "" if it can"""


@dataclass(slots=True)
class OpenShard:
    """A tar file that is being filled, in memory: it is put in place whole."""

    data: bytearray = field(default_factory=bytearray)
    names: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)

    def add(self, name: str, image: bytes) -> None:
        """Append an image as a tar file's member, without owner and time."""
        # without owner and time the same images give the same bytes
        member = tarfile.TarInfo(name)
        member.size = len(image)
        self.data += member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        self.names.append(name)
        self.offsets.append(len(self.data))
        self.sizes.append(len(image))
        self.sha256.append(hashlib.sha256(image).hexdigest())
        self.data += image + bytes(-len(image) % tarfile.BLOCKSIZE)


def pack_shards(
    original: Original, packing: Packing, files: Files, number: int, first: int, workers: int
) -> Iterator[dict[str, Any]]:
    """Make shards from an image on; yields a note of each that is in place.

    Args:
        number: of the next shard.
        first: the image it begins with.

    Raises:
        UserError: images cannot be read. All of them are named; no shard follows the first one.
        OSError: a shard cannot be written.
    """
    broken, shard, progress = 0, OpenShard(), PackProgress(first, len(original.names))
    for done, packed in enumerate(read_images(original, packing, first, workers), first):
        name = original.names[done]
        if packed.reason:
            print(f"{original.root}/{name}: cannot be read as an image: {packed.reason}")
            broken += 1
        progress.count(len(packed.data))
        if broken:  # what follows is looked at, so that all that is broken is known at once
            continue
        shard.add(name, packed.data)
        if len(shard.data) >= packing.shard or done == len(original.names) - 1:
            begun = done + 1 - len(shard.names)
            yield put_shard(shard, number, packing.stamp(original, begun, done + 1), files)
            number, shard = number + 1, OpenShard()
    if broken:
        raise UserError(
            f"{broken} of {len(original.names):,} images cannot be read: replace or remove them, "
            "then run the same command again",
            original.root,
        )


def put_shard(shard: OpenShard, number: int, stamp: str, files: Files) -> dict[str, Any]:
    """Write a shard, then the note that says so, which is returned."""
    # shard first, note second: a note without its shard would be believed
    shard.data += bytes(2 * tarfile.BLOCKSIZE)  # ends a tar file
    name, digest = shard_name(number), hashlib.sha256(shard.data).hexdigest()
    files.write_now(name, shard.data)
    note = {"stamp": stamp, "shard": name, "bytes": len(shard.data), "digest": digest}
    note |= {key: getattr(shard, key) for key in ("names", "offsets", "sizes", "sha256")}
    files.write_now(note_of(name), to_line(note))
    return note


def read_images(original: Original, packing: Packing, first: int, workers: int) -> Iterator[Packed]:
    """Read images from one on, in order, some of them at a time."""
    look = partial(read_one, original, packing)
    with ThreadPoolExecutor(workers) as pool:
        for begun in range(first, len(original.names), READ_AHEAD):
            yield from pool.map(look, range(begun, min(begun + READ_AHEAD, len(original.names))))


def read_one(original: Original, packing: Packing, number: int) -> Packed:
    """Read and decode an image; a larger one than `side` is made smaller."""
    from PIL import Image

    from mae_ablation.data.decode import CannotDecode, decode_read, short_side

    data = b""

    def read() -> bytes:
        nonlocal data
        data = original.read(number)
        return data

    try:
        # what is stored is what was read: only images that are too large are encoded anew
        image = decode_read(read)
    except CannotDecode as error:
        return Packed(data, str(error))
    if packing.side is None or min(image.shape[1:]) <= packing.side:
        return Packed(data)
    small, out = short_side(image, packing.side).permute(1, 2, 0).numpy(), io.BytesIO()
    Image.fromarray(small).save(out, "JPEG", quality=packing.quality)
    return Packed(out.getvalue())


def index_of(
    original: Original, packing: Packing, parts: list[dict[str, Any]], stamp: str
) -> bytes:
    """Make the index of all shards: training images first, each class's beside each other."""
    # rows sort by split, class and name, the order of a folder's listing
    place = {name: number for number, name in enumerate(original.classes)}
    rows = []
    for number, part in enumerate(parts):
        columns = (part["names"], part["offsets"], part["sizes"], part["sha256"])
        for name, offset, size, sha256 in zip(*columns, strict=True):
            split, label, _ = name.split("/", 2)
            rows.append((split != "train", place[label], name, number, offset, size, sha256))
    rows.sort()

    # images of each class, from which labels follow
    counts = {"train": [0] * len(place), "val": [0] * len(place)}
    for held_out, label, *_ in rows:
        counts["val" if held_out else "train"][label] += 1
    _, _, names, shards, offsets, sizes, digests = zip(*rows, strict=True)
    return make_index(
        {"classes": original.classes, **counts},
        {"names": names, "sizes": sizes, "sha256": digests},
        {
            "side": packing.side,
            "source": stamp,
            "shards": [[part["shard"], part["bytes"], part["digest"]] for part in parts],
        },
        {"shard": shards, "offset": offsets},
    )


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.tar"


def note_of(shard: str) -> str:
    return f"{UNFINISHED}/{shard}.json"


def describe_prepared(found: Prepared) -> str:
    """Describe a finished set in a line."""
    train, val, shards = sum(found.train.counts), sum(found.val.counts), len(found.shards)
    size = sum(shard.size for shard in found.shards)
    return (
        f"{found.root}: {train:,} training and {val:,} validation images of "
        f"{len(found.classes)} classes in {shards} shard{'s' * (shards != 1)}, "
        f"{size / 1e9:,.2f} GB, "
        f"fingerprint {found.fingerprint[:12]}"
    )


class PackProgress:
    """Says every ten seconds how far it is.

    Args:
        done, total: images.
    """

    def __init__(self, done: int, total: int) -> None:
        self.first, self.done, self.total, self.size = done, done, total, 0
        self.began = self.said = 0.0  # by the first image: torch is imported before it

    def count(self, size: int) -> None:
        """Count an image of so many bytes."""
        self.done += 1
        self.size += size
        now = time.monotonic()
        if not self.began:
            self.began = self.said = now
        if now - self.said < SAID_EVERY_S:
            return
        self.said, speed = now, (self.done - self.first) / max(now - self.began, 1e-3)
        print(
            f"{self.done:,} of {self.total:,} images, {self.size / 1e9:,.2f} GB, "
            f"{speed:,.0f} images/s, {(self.total - self.done) / speed / 60:,.0f} min left",
            flush=True,
        )
