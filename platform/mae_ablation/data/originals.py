"""Opens what a data set is prepared from: images with classes, in the order they are stored in.

A folder of images; a Hugging Face data set on disk (parquet, or arrow as `save_to_disk` writes it);
a WebDataset (tar). Which split a file of the last two is of, its name says: train, and validation
or else test.
"""

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from mae_ablation.data.folder import EXTENSIONS, FolderImages, check_layout, listing
from mae_ablation.data.ranges import read_range
from mae_ablation.errors import UserError
from mae_ablation.store.paths import is_remote

if TYPE_CHECKING:
    from pyarrow import ChunkedArray, Schema

TABLES, TARS = (".parquet", ".arrow"), (".tar",)
SPLITS = {"train": ("train", "training"), "val": ("validation", "valid", "val", "dev", "test")}
"""words in the path of a file, the first that there is"""
LABEL_NAMES = ("label", "labels", "class", "cls", "fine_label", "target", "y")
"""columns of a table that does not say which one holds the classes, and keys of a sample's JSON"""
WHAT = (
    "train/CLASS/*.jpg and val/CLASS/*.jpg, parquet or arrow files of a Hugging Face data set, or "
    "tar files of a WebDataset, with train and val, validation or test in their names"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """Images by number, whatever they lie in."""

    root: str
    classes: tuple[str, ...]
    """in the order of their labels"""
    names: tuple[str, ...]
    """SPLIT/CLASS/FILE of each image, SPLIT is "train" or "val" """
    sizes: Sequence[int]
    """bytes of each image, or of the file it is in: they tell whether it has changed"""
    size: int
    """bytes of all images, about"""
    left_out: tuple[str, ...]
    """names what else lies there and is not taken"""
    read: Callable[[int], bytes]
    """bytes of an image, in any thread; raises OSError"""


def open_original(place: str) -> Original:
    """Open whatever lies in a folder.

    Raises:
        UserError: nothing that can be prepared.
    """
    if is_remote(place):
        raise UserError("is an address: images are prepared from a folder of this machine", place)
    folder = Path(os.path.abspath(place))
    if not folder.is_dir():
        raise UserError(f"no folder there: expected {WHAT}", place)
    inside = folder / "train"
    if inside.is_dir() and any(entry.is_dir() for entry in os.scandir(inside)):
        return _open_folder(folder)
    for suffixes, opened in ((TABLES, _open_tables), (TARS, _open_tars)):
        found = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix in suffixes
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )
        if found:
            return opened(folder, *_split_files(folder, found))
    raise UserError(f"nothing to prepare: expected {WHAT}", place)


def _open_folder(folder: Path) -> Original:
    check_layout(folder)
    found = listing(folder)
    images = FolderImages(str(folder), found.train.names + found.val.names)
    return Original(
        root=str(folder),
        classes=found.classes,
        names=images.names,
        sizes=found.train.sizes + found.val.sizes,
        size=sum(found.train.sizes + found.val.sizes),
        left_out=tuple(map(str, found.left_out)),
        read=images.read,
    )


def _split_files(
    folder: Path, files: Iterable[Path]
) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Sort files by split; returns what of them is not taken, too."""
    by_word: dict[str, list[Path]] = {}
    for path in files:
        words = re.split(r"[^a-z]+", str(path.relative_to(folder)).lower())
        word = next((w for known in SPLITS.values() for w in known if w in words), "")
        by_word.setdefault(word, []).append(path)

    # validation wins over test: its labels are public more often
    found = {}
    for split, known in SPLITS.items():
        if not (word := next((word for word in known if word in by_word), None)):
            raise UserError(f"no files of {' or '.join(known)}: expected {WHAT}", str(folder))
        found[split] = by_word.pop(word)
    left = sum(map(len, by_word.values()))
    example = next((p.relative_to(folder) for paths in by_word.values() for p in paths), "")
    lines = (f"{left} file{'s' * (left != 1)} of other splits ({example})",) if left else ()
    return found, lines


def _name_images(
    folder: Path, splits: Sequence[str], labels: Sequence[Any], names: Sequence[str], known: Any
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the classes, and each image after its split and class.

    Args:
        labels: a number or text for each image.
        names: last part of each image's name.
        known: texts of the classes, in the order of their numbers; None: the labels themselves.

    Raises:
        UserError: an image has no label, or a class no training images.
    """
    missing = [i for i, label in enumerate(labels) if label is None or label == -1]
    if missing:
        line = f"{splits[missing[0]]} has images without a label: {names[missing[0]]}, say"
        raise UserError(line, str(folder))
    if len({type(label) for label in labels}) > 1:  # numbers and texts have no order
        labels = list(map(str, labels))

    # labels that no image has are no classes: 0, 1, ... are those that there are, in order
    found = sorted(set(labels))
    texts = [str(known[label] if known else label).replace("/", "_") for label in found]
    if len(set(texts)) < len(texts):
        raise UserError("two classes have one name", str(folder))
    place = dict(zip(found, texts, strict=True))
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    if absent := [place[label] for label in found if label not in trained]:
        raise UserError(f"class {absent[0]} has no training images", str(folder))
    rows = zip(splits, labels, names, strict=True)
    return tuple(texts), tuple(f"{split}/{place[label]}/{name}" for split, label, name in rows)


# Hugging Face data sets ---------------------------------------------------------------------------


def _open_tables(folder: Path, found: dict[str, list[Path]], left_out: tuple[str, ...]) -> Original:
    """Open parquet and arrow files: an image column (bytes and path) and one of labels."""
    where, splits, labels, names, sizes, known = [], [], [], [], [], None
    for split, path in ((split, path) for split, paths in found.items() for path in paths):
        try:
            table = Table(path)
            image, label, known = find_columns(table.schema)
            texts = table.read_texts(image)
            labels += table.read(label)
        except (OSError, ValueError, LookupError) as error:  # pyarrow's are of these kinds
            raise UserError(f"cannot read {path.name}: {error}", str(folder)) from None
        # names are numbers: what a table has as paths may repeat itself
        suffixes = (os.path.splitext(text or "")[1].lower() for text in texts)
        names += [
            f"{len(names) + row:08d}{suffix if suffix in EXTENSIONS else '.jpg'}"
            for row, suffix in enumerate(suffixes)
        ]
        where += [(str(path), image, row) for row in range(len(texts))]
        splits += [split] * len(texts)
        sizes += [path.stat().st_size] * len(texts)
    classes, names = _name_images(folder, splits, labels, names, known)

    def read(number: int) -> bytes:
        path, image, row = where[number]
        with _one_at_a_time:
            table = _table(path)
            part, begun = table.part_of(row)
            value = _part(path, image, part)[row - begun].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise OSError("the table holds a path and not the image")
        return data

    return Original(
        root=str(folder),
        classes=classes,
        names=names,
        sizes=sizes,
        size=sum(path.stat().st_size for paths in found.values() for path in paths),
        left_out=left_out,
        read=read,
    )


def find_columns(schema: "Schema") -> tuple[str, str, list[str] | None]:
    """Find the columns with images and with labels, and the classes' names where a table has them.

    Raises:
        LookupError: there is no such column.
    """
    from pyarrow import types

    # Hugging Face's library leaves its types in the file; a struct with bytes is its Image
    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = about.get("info", {}).get("features", {})
    typed = {name: each.get("_type") for name, each in features.items() if isinstance(each, dict)}
    images = [name for name in schema.names if typed.get(name) == "Image"]
    images += [
        field.name
        for field in schema
        if types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    labels = [name for name in schema.names if typed.get(name) == "ClassLabel"]
    labels += [name for name in LABEL_NAMES if name in schema.names]
    for kind, names in (("images", images), ("labels", labels)):
        if not names:
            raise LookupError(f"no column of {kind} among {', '.join(schema.names)}")
    return images[0], labels[0], features.get(labels[0], {}).get("names")


class Table:
    """A parquet file, read by its row groups, or an arrow file, mapped into memory."""

    def __init__(self, path: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        self.parquet = self.mapped = None
        if path.suffix == ".parquet":
            self.parquet = parquet.ParquetFile(path)
            self.schema = self.parquet.schema_arrow
            about = self.parquet.metadata
            self.counts = [about.row_group(i).num_rows for i in range(about.num_row_groups)]
        else:
            self.mapped = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
            self.schema, self.counts = self.mapped.schema, [self.mapped.num_rows]

    def read(self, column: str) -> list[Any]:
        """A small column as a whole."""
        table = self.parquet.read([column]) if self.parquet else self.mapped
        return table.column(column).to_pylist()

    def read_texts(self, image: str) -> list[str | None]:
        """Paths that a table has beside its images, which are not read."""
        index = self.schema.field(image).type
        if not hasattr(index, "get_field_index") or index.get_field_index("path") < 0:
            return [None] * sum(self.counts)
        from pyarrow import compute

        if self.parquet:
            column = self.parquet.read([f"{image}.path"]).column(image)
        else:
            column = self.mapped.column(image)
        return compute.struct_field(column, "path").to_pylist()

    def part_of(self, row: int) -> tuple[int, int]:
        """Number of the row group that has a row, and its first row."""
        begun = 0
        for part, count in enumerate(self.counts):
            if row < begun + count:
                return part, begun
            begun += count
        raise IndexError(row)

    def images(self, column: str, part: int) -> "ChunkedArray":
        """The images of a row group."""
        table = self.parquet.read_row_group(part, [column]) if self.parquet else self.mapped
        return table.column(column)


_one_at_a_time = Lock()


@lru_cache(maxsize=2)
def _table(path: str) -> Table:
    return Table(Path(path))


@lru_cache(maxsize=2)  # rows are asked for one after the other, by a few threads
def _part(path: str, image: str, part: int) -> "ChunkedArray":
    return _table(path).images(image, part)


# WebDatasets --------------------------------------------------------------------------------------


def _open_tars(folder: Path, found: dict[str, list[Path]], left_out: tuple[str, ...]) -> Original:
    """Open samples of tar files: KEY.jpg with KEY.cls, KEY.json or a folder of its class's name."""
    # samples of a file are those members that share a key
    where, splits, labels, names, sizes, others = [], [], [], [], [], 0
    for split, path in ((split, path) for split, paths in found.items() for path in paths):
        samples: dict[str, dict[str, tuple[int, int]]] = {}
        try:
            with tarfile.open(path, "r:") as file:
                for member in file:  # headers alone are read: an image's bytes are left for later
                    if member.isfile():
                        parent, _, last = member.name.rpartition("/")
                        key, _, kind = last.partition(".")
                        place = (member.offset_data, member.size)
                        samples.setdefault(f"{parent}/{key}", {})[kind.lower()] = place
        except (OSError, tarfile.TarError) as error:
            raise UserError(f"cannot read {path.name}: {error}", str(folder)) from None
        for key, parts in samples.items():
            # KEY.jpg before KEY.mask.png, of which a sample may have several
            suffixes = {kind: f".{kind.rpartition('.')[2]}" for kind in parts}
            images = [kind for kind, suffix in suffixes.items() if suffix in EXTENSIONS]
            if not images:
                others += 1
                continue
            kind = min(images, key=lambda each: each.count("."))
            where.append((str(path.parent), path.name, *parts[kind]))
            splits.append(split)
            labels.append(_label(path, key, parts))
            names.append(f"{len(names):08d}{suffixes[kind]}")
            sizes.append(parts[kind][1])
    if others:
        left_out += (f"{others} sample{'s' * (others != 1)} without an image",)
    classes, names = _name_images(folder, splits, labels, names, None)
    return Original(
        root=str(folder),
        classes=classes,
        names=names,
        sizes=sizes,
        size=sum(sizes),
        left_out=left_out,
        read=lambda number: read_range(*where[number]),
    )


def _label(path: Path, key: str, parts: dict[str, tuple[int, int]]) -> Any:
    """Read the class of a sample: a number where there is one, else a text; None: none."""
    kind = next((each for each in ("cls", "json") if each in parts), None)
    if kind is None:
        return key.rpartition("/")[0].rpartition("/")[2] or None
    text = read_range(str(path.parent), path.name, *parts[kind]).decode("utf-8", "replace").strip()
    if kind == "json":
        try:
            about = json.loads(text)
            return next((about[name] for name in LABEL_NAMES if name in about), None)
        except (ValueError, TypeError):  # no JSON, or no object
            return None
    return int(text) if re.fullmatch(r"-?\d+", text) else text or None
