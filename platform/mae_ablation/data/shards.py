"""Prepared images: tar shards beside one index, read by offset, in a folder or at an address.

`data prepare` makes them (prepare.py). A shard is an ordinary tar file of images under
the names that they have in a folder (train/CLASS/FILE): `tar -xf` gives the folder back. The index
is five lines of JSON:

    {"format": 1, "classes": [...], "train": [...], "val": [...]}  images of each class, by split
    {"names": [...], "sizes": [...], "sha256": [...]}              train, then val, sorted by class
    {"side": ..., "source": ..., "shards": [[name, bytes, sha256], ...]}
    {"shard": [...], "offset": [...]}                              where each image's bytes begin
    {"sha256": ...}                                                of the four lines before

Labels are the places of the classes, which lie one after the other, as in a folder's listing. The
sha256 of the first two lines is the fingerprint: it says which images these are, and nothing of how
they are packed. A plan reads this one file and parses the short lines of it.
"""

import errno
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mae_ablation.data.folder import FolderImages, Listing, check_layout, listing
from mae_ablation.data.ranges import open_file, read_range, remote_system, sizes_of
from mae_ablation.data.shard_cache import ShardCache
from mae_ablation.errors import UserError
from mae_ablation.store.files import files_at
from mae_ablation.store.paths import expanded, is_remote

if TYPE_CHECKING:
    import numpy as np

    from mae_ablation.recipe.recipe import Data

INDEX = "index.jsonl"
UNFINISHED = "unfinished"
"""folder with what `prepare` has to remember until the index is written"""
PACKED = (".parquet", ".arrow", ".tar")
"""files that `data prepare` takes images from"""
INDEX_FORMAT = 1
COPY_AGAIN = "copy it again, or prepare the set again"


@dataclass(frozen=True, slots=True)
class Shard:
    """A tar file of images."""

    name: str
    size: int
    """bytes"""
    sha256: str


@dataclass(frozen=True, slots=True)
class Counts:
    """One split of a prepared set: how many images each class has."""

    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Says of a prepared set what a Listing says of a folder."""

    root: str
    classes: tuple[str, ...]
    train: Counts
    val: Counts
    fingerprint: str
    shards: tuple[Shard, ...]
    source: str
    """tells the source and the settings that it was prepared from, from any others"""
    left_out = ()
    """`prepare` has said what it did not take"""

    def images(self, split: str, cache: ShardCache | None = None) -> "ShardImages":
        """Return the images of "train" or "val" by number, in the index's order.

        Five seconds for ImageNet's training images.

        Raises:
            UserError: the index cannot be read, or is another one by now.
        """
        import numpy as np

        # read again, so that a process keeps only the columns of the splits that it reads
        lines, fingerprint = read_index(self.root)
        if fingerprint != self.fingerprint:
            raise UserError(f"{INDEX} has been changed while it was in use", self.root)
        known, where = json.loads(lines[1]), json.loads(lines[3])
        training = sum(self.train.counts)
        rows = slice(training) if split == "train" else slice(training, None)
        columns = (where["shard"][rows], where["offset"][rows], known["sizes"][rows])
        digests = bytes.fromhex("".join(known["sha256"][rows]))
        return ShardImages(
            root=self.root,
            names=tuple(known["names"][rows]),
            shards=self.shards,
            where=np.array(columns, np.int64).T.reshape(-1, 3),
            sha256=np.frombuffer(digests, np.uint8).reshape(-1, 32),
            cache=cache,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShardImages:
    """Images in shards by number, as a training reads them; 150 bytes each, in every worker."""

    root: str
    names: tuple[str, ...]
    shards: tuple[Shard, ...]
    where: "np.ndarray"
    """(n, 3) int64: number of the shard, offset in it and size, in bytes"""
    sha256: "np.ndarray"
    """(n, 32) uint8"""
    cache: ShardCache | None = None
    """takes the shards to this node; None: they are read at `root`"""
    remedy = "copy that shard again, or remove it and prepare the set again"
    """ends the line on an image that cannot be decoded"""

    def __len__(self) -> int:
        return len(self.names)

    def part(self, index: Sequence[int]) -> "ShardImages":
        """Return the images at these positions."""
        import numpy as np

        # arrays are cut, not copied image by image: a split may have a million
        rows = np.asarray(index, np.int64)
        names = tuple(self.names[i] for i in index)
        return replace(self, names=names, where=self.where[rows], sha256=self.sha256[rows])

    def read(self, number: int) -> bytes:
        """Return an image's bytes, compared with the index: a tenth of a millisecond.

        Raises:
            OSError: the shard cannot be read, or has other bytes there.
        """
        # from the node's own disk if it is there and sound, else from where the set lies
        shard_number, offset, size = self.where[number].tolist()
        shard, sha256 = self.shards[shard_number], self.sha256[number].tobytes()
        try:
            kept = self.cache.fetch(self.root, shard) if self.cache else None
            if kept:
                with suppress(OSError):  # it may have gone since, or be damaged: then as without it
                    data = read_range(kept, shard.name, offset, size)
                    if hashlib.sha256(data).digest() == sha256:
                        return data
            data = read_range(self.root, shard.name, offset, size)
            if hashlib.sha256(data).digest() == sha256:
                return data
        except OSError as error:
            raise OSError(errno.EIO, f"{shard.name}: {error.strerror or error}") from error
        raise OSError(errno.EIO, f"{shard.name} has other bytes there than {INDEX} says")


def list_images(
    place: Path | str, classes: int | None = None, blamed: str = ""
) -> Listing | Prepared:
    """List what lies in a folder of images or in a prepared one, read once per process.

    Args:
        classes: how many there have to be; None: any number.
        blamed: begins the text of an error.

    Raises:
        UserError: a layout that is wrong, an index or a shard that is missing or damaged.
    """
    if not is_prepared(place):
        if has_packed_files(Path(place)):
            command = f"`mae-ablation data prepare {place} DEST`"
            raise UserError(
                f"{place} holds a Hugging Face data set or a WebDataset: {command} makes what a "
                "study can name of it",
                blamed,
            )
        check_layout(Path(place), classes, blamed)
        return listing(Path(place))
    try:
        found = open_prepared(str(place))
    except UserError as error:
        raise UserError(str(error), blamed) from None
    if classes is not None and len(found.classes) != classes:
        raise UserError(f"{place} has {len(found.classes)} classes, expected {classes}", blamed)
    return found


def has_packed_files(folder: Path) -> bool:
    """Tell whether a folder holds files of many images each, and no folders of classes."""
    if any(each.is_dir() for each in folder.glob("train/*")):
        return False
    return any(each.suffix in PACKED for each in (*folder.glob("*"), *folder.glob("*/*")))


def images_of(
    found: Listing | Prepared, split: str, data: "Data | None" = None
) -> FolderImages | ShardImages:
    """Return the images of "train" or "val" by number; shards come to this node if asked."""
    if isinstance(found, Listing) or data is None or data.cache_dir is None:
        return found.images(split)
    folder = str(expanded(data.cache_dir))
    return found.images(split, ShardCache(folder, found.fingerprint, int(data.cache_gb * 1e9)))


def is_prepared(place: Path | str) -> bool:
    """Tell whether images are read from shards there: always at an address.

    Raises:
        UserError: it was being prepared, and is not finished.
    """
    if is_remote(place):
        return True
    if (Path(place) / INDEX).exists():
        return True
    if (Path(place) / UNFINISHED).is_dir():
        command = f"`mae-ablation data prepare SOURCE {place}`"
        raise UserError(f"is not prepared to its end: {command} goes on with it", str(place))
    return False


@lru_cache(maxsize=8)
def open_prepared(root: str) -> Prepared:
    """Read an index and look for its shards, whose sizes have to be right.

    Raises:
        UserError: one cannot be read, is missing, or has another size.
    """
    lines, fingerprint = read_index(root)
    head, packing = json.loads(lines[0]), json.loads(lines[2])
    found = Prepared(
        root=root,
        classes=tuple(head["classes"]),
        train=Counts(tuple(head["train"])),
        val=Counts(tuple(head["val"])),
        fingerprint=fingerprint,
        shards=tuple(Shard(*each) for each in packing["shards"]),
        source=packing["source"],
    )
    try:
        # names and sizes alone: reading every shard would take as long as a training's epoch
        sizes = sizes_of(root, [shard.name for shard in found.shards])
    except OSError as error:
        raise UserError(f"cannot look for the shards: {error}", root) from None
    for shard, size in zip(found.shards, sizes, strict=True):
        if size is None:
            raise UserError(f"{shard.name} is missing: {COPY_AGAIN}", root)
        if size != shard.size:
            raise UserError(
                f"{shard.name} has {size:,} bytes, {INDEX} says {shard.size:,}: {COPY_AGAIN}", root
            )
    return found


def forget_prepared() -> None:
    """Read prepared sets again from here on."""
    open_prepared.cache_clear()
    open_file.cache_clear()
    remote_system.cache_clear()


# the index as a file ------------------------------------------------------------------------------


def read_index(root: str) -> tuple[list[bytes], str]:
    """Return the lines of an index, and the fingerprint of its images.

    About a second and 170 MB for ImageNet.

    Raises:
        UserError: it cannot be read, or is damaged.
    """
    try:
        files = files_at(root)
        files.require_answer()
        data = files.read_now(INDEX)
    except (OSError, ValueError) as error:  # ValueError: an unknown scheme
        raise UserError(f"cannot read {INDEX}: {error}", root) from None
    if data is None:
        line = f"there is no {INDEX}: make it with `mae-ablation data prepare SOURCE {root}`"
        raise UserError(line, root)

    # one pass gives both: the sum of the first two lines, and of all that the last line vouches for
    lines, digest, digests = data.splitlines(keepends=True), hashlib.sha256(), [""]
    for line in lines[:-1]:
        digest.update(line)
        digests.append(digest.hexdigest())
    if len(lines) != 5 or lines[4] != to_line({"sha256": digests[4]}):
        raise UserError(f"{INDEX} is cut short or damaged: {COPY_AGAIN}", root)
    if (found := json.loads(lines[0])["format"]) != INDEX_FORMAT:
        raise UserError(f"{INDEX} is of format {found}, this version reads {INDEX_FORMAT}", root)
    return lines, digests[2]


def make_index(head: dict, known: dict, packing: dict, where: dict) -> bytes:
    """Make an index of these four lines."""
    values = ({"format": INDEX_FORMAT, **head}, known, packing, where)
    lines = b"".join(map(to_line, values))
    return lines + to_line({"sha256": hashlib.sha256(lines).hexdigest()})


def to_line(value: Any) -> bytes:
    """Format a line of JSON, equal for equal values; names that are no UTF-8 survive it."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
