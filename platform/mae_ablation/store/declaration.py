"""Declarations: what studies said of their tests before their first result, kept and never changed.

store/declarations/mask_ratio-3f2a9c0d1e4b-0.json    the first one of the rows 3f2a9c0d1e4b

Error rates hold only for what was declared before anything was seen. A declaration of the same rows
that comes later, or a first one that finds results, says after how many: its tables are
descriptive.
"""

import getpass
import json
import re
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

from mae_ablation.store import atomic, claim
from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.files import Files

DECLARATIONS = "declarations"
FILE_NAME = re.compile(r".*-(?P<rows>[0-9a-f]{12})-(?P<number>\d+)\.json")
ODD = re.compile(r"[^\w.=+-]+")  # what an archive refuses in names
MOST_BYTES = 120  # of the study's part of a file's name
PATIENCE_S = 30.0  # for another process that declares the same rows
RETRY_S = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """The tests that a study declared for its rows, by whom, when, and after how many results."""

    study: str
    rows: str
    """hash of what is compared with what: every row's training without its seeds, the baseline,
    the evaluations"""
    labels: tuple[str, ...]
    """labels of the rows"""
    baseline: str
    columns: tuple[str, ...]
    """evaluations, each a table"""
    seeds: tuple[int, ...]
    """in the order they are taken"""
    looks: tuple[int, ...]
    """seeds at each look"""
    alpha: float
    spending: str
    margin: float | None
    """points"""
    hash: str
    """hash of `rows` and of all that the tests depend on"""
    number: int = 0
    """number of earlier declarations of these rows"""
    results: int = 0
    """results of the rows that were there when it was declared"""
    who: str = ""
    when: str = ""

    @property
    def before(self) -> bool:
        """Tell whether it was declared before the first result."""
        return self.results == 0

    @property
    def words(self) -> str:
        """Looks, error and margin that were declared."""
        looks = ", ".join(map(str, self.looks))
        margin = "no margin" if self.margin is None else f"margin {self.margin:g}"
        how = f", {self.spending}" if self.spending else ""
        first = f" from {self.seeds[0]}" if self.seeds[0] else ""
        return f"looks at {looks} seeds{first}, alpha {self.alpha:g}{how}, {margin}"


def declarations(files: Files, rows: str) -> list[Declaration]:
    """Return all declarations of some rows, known by their hash, the first one first.

    Raises:
        Damaged, OSError: one, or the store, cannot be read.
    """
    names = [f"{DECLARATIONS}/{n}" for n in files.names(DECLARATIONS) if _rows_of(n) == rows]
    found = [_parse(name, files.read(name) or b"") for name in names]
    return sorted(found, key=lambda each: each.number)


def in_force(known: list[Declaration], asked: Declaration) -> Declaration | None:
    """Return the declaration that a study goes by; None: it has to be declared anew."""
    # one made before any result that stands, or any after results, if it says the same
    after = [each for each in known if not each.before]
    return next((each for each in (*that_stand(known), *after) if each.hash == asked.hash), None)


def that_stand(known: list[Declaration]) -> list[Declaration]:
    """Return those made before any result; of several that share seeds the last one alone."""
    # which was kept is decided before anything is seen; other seeds, a pilot's, replace nothing
    found: list[Declaration] = []
    for each in reversed(known):
        if each.before and all({*each.seeds}.isdisjoint(later.seeds) for later in found):
            found.insert(0, each)
    return found


def declare(files: Files, asked: Declaration) -> Declaration:
    """Declare, after as many results as `asked` says, or return what is declared already.

    Raises:
        Damaged: an earlier declaration cannot be read.
        OSError: the store cannot be written, or another process keeps declaring.
    """
    # several drivers may begin the same study at once: one declares, the others find it
    until, host = time.monotonic() + PATIENCE_S, socket.gethostname()
    while (mine := claim.take(files, asked.rows, host)) is None:
        if time.monotonic() > until:
            raise OSError(f"another process keeps {DECLARATIONS} of {asked.study}")
        time.sleep(RETRY_S)
    try:
        known = declarations(files, asked.rows)
        if found := in_force(known, asked):
            return found

        # new: signed, numbered, and never changed again
        try:
            who = f"{getpass.getuser()}@{host}"
        except (KeyError, OSError):  # a container's user may have no name
            who = host
        when = datetime.now(UTC).isoformat(timespec="seconds")
        new = replace(asked, number=len(known), who=who, when=when)
        _write(files, new)
        return new
    finally:
        mine.release()


def _write(files: Files, new: Declaration) -> None:
    # the study's name is for people alone: rows and number tell declarations apart
    readable = ODD.sub("-", new.study).encode()[:MOST_BYTES].decode(errors="ignore")
    name = f"{DECLARATIONS}/{readable}-{new.rows}-{new.number}.json"
    files.write(name, atomic.to_json(asdict(new)))


def _parse(name: str, data: bytes) -> Declaration:
    try:
        return from_json(json.loads(data))
    except (ValueError, TypeError, KeyError):
        raise Damaged(f"{name} is damaged: put it back from a copy") from None


def from_json(data: Mapping[str, Any]) -> Declaration:
    """Return the declaration that JSON holds. Raises TypeError or KeyError for what is none."""
    given = {field.name: data[field.name] for field in fields(Declaration)}
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return Declaration(**{**given, **lists})


def _rows_of(file: str) -> str | None:
    """Return the hash of rows in the name of a declaration's file; None for another file."""
    match = FILE_NAME.fullmatch(file)
    return match["rows"] if match else None


# in archives --------------------------------------------------------------------------------------


def packed(files: Files, rows: Iterable[str]) -> dict[str, bytes]:
    """Return the files of all declarations of some rows, by name. `rows`: their hashes."""
    wanted = set(rows)
    names = [f"{DECLARATIONS}/{n}" for n in files.names(DECLARATIONS) if _rows_of(n) in wanted]
    return {name: data for name in names if (data := files.read(name)) is not None}


def packed_in(notes: Mapping[str, bytes]) -> list[Declaration]:
    """Return the declarations among an archive's notes; Damaged if one is not what it says."""
    found = []
    for name, data in notes.items():
        folder, _, file = name.rpartition("/")
        if folder == DECLARATIONS and (rows := _rows_of(file)):
            each = _parse(name, data)
            if each.rows != rows:
                raise Damaged(f"{name} is of the rows {each.rows}")
            found.append(each)
    return sorted(found, key=lambda each: (each.rows, each.number))


def contradictions(theirs: Iterable[Declaration], files: Files) -> list[str]:
    """Say in what an archive's declarations differ from those that a store goes by, line by line.

    Raises:
        Damaged, OSError: one of the store's, or the store, cannot be read.
    """
    # Only declarations before any result bind, and pilots with other seeds contradict nothing. A
    # second one of the same rows and seeds would have tables say what was not declared here.
    lines, by_rows = [], {}
    for each in theirs:
        by_rows.setdefault(each.rows, []).append(each)
    for rows, packed_ones in by_rows.items():
        for mine, other in product(that_stand(declarations(files, rows)), that_stand(packed_ones)):
            if mine.hash != other.hash and not {*mine.seeds}.isdisjoint(other.seeds):
                there = f"{other.study} was declared with {other.words} there"
                lines.append(f"{there}, here with {mine.words}")
    return lines


def add_declarations(theirs: Iterable[Declaration], files: Files) -> None:
    """Put an archive's declarations behind those of a store, which replace nothing there.

    One that is declared there already is left out.
    """
    for each in theirs:
        known = declarations(files, each.rows)
        if not any(mine.hash == each.hash and mine.before >= each.before for mine in known):
            _write(files, replace(each, number=len(known)))
