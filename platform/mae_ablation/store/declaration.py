"""Declarations: what studies said of their tests before their first result, kept and never changed.

store/declarations/mask_ratio-3f2a9c0d1e4b-0.json    of the rows 3f2a9c0d1e4b, the first one

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

FOLDER = "declarations"
NAME = re.compile(r".*-(?P<rows>[0-9a-f]{12})-(?P<number>\d+)\.json")
ODD = re.compile(r"[^\w.=+-]+")  # what an archive refuses in names
MOST_BYTES = 120  # of the study's part of a file's name
PATIENCE_S = 30.0  # for another process that declares the same rows
RETRY_S = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """What was declared of a study's rows, by whom, when, and after how many results."""

    study: str
    rows: str
    """hash of what is compared with what: every row's training without its seeds, the baseline,
    the evaluations"""
    labels: tuple[str, ...]
    """of the rows"""
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
    """of `rows` and of all that the tests depend on"""
    number: int = 0
    """how many declarations of these rows came before"""
    results: int = 0
    """results of the rows that were there when it was declared"""
    who: str = ""
    when: str = ""

    @property
    def before(self) -> bool:
        """Tell whether it was declared before the first result."""
        return self.results == 0


def declarations(files: Files, rows: str) -> list[Declaration]:
    """Return all declarations of some rows, the first one first. `rows`: their hash.

    Raises:
        Damaged: one cannot be read.
        OSError: the store cannot be read.
    """
    found = []
    for name in files.names(FOLDER):
        if _rows_of(name) == rows:
            found.append(_parse(name, files.read(f"{FOLDER}/{name}") or b""))
    return sorted(found, key=lambda each: each.number)


def in_force(known: list[Declaration], asked: Declaration) -> Declaration | None:
    """Return the declaration that a study goes by; None: it has to be declared anew.

    One that was made before any result and stands, or any after results that says the same.
    """
    after = [each for each in known if not each.before]
    return next((each for each in (*that_stand(known), *after) if each.hash == asked.hash), None)


def that_stand(known: list[Declaration]) -> list[Declaration]:
    """Return those made before any result; of several that share seeds the last one alone.

    Which of them was kept is decided before anything is seen. Other seeds, as a pilot has them,
    are another experiment and replace nothing.
    """
    found: list[Declaration] = []
    for each in reversed(known):
        if each.before and all({*each.seeds}.isdisjoint(later.seeds) for later in found):
            found.insert(0, each)
    return found


def declare(files: Files, asked: Declaration) -> Declaration:
    """Declare, if it is not declared yet; returns the declaration in force.

    Args:
        asked: with the number of results that there are now.

    Raises:
        Damaged: an earlier declaration cannot be read.
        OSError: the store cannot be written, or another process keeps declaring.
    """
    until = time.monotonic() + PATIENCE_S
    while (mine := claim.take(files, asked.rows, socket.gethostname())) is None:
        if time.monotonic() > until:
            raise OSError(f"another process keeps {FOLDER} of {asked.study}")
        time.sleep(RETRY_S)
    try:
        known = declarations(files, asked.rows)
        if found := in_force(known, asked):
            return found
        new = _signed(asked, len(known))
        _write(files, new)
        return new
    finally:
        mine.release()


def packed(files: Files, rows: Iterable[str]) -> dict[str, bytes]:
    """Return the files of all declarations of some rows, by name. `rows`: their hashes."""
    wanted = set(rows)
    names = [f"{FOLDER}/{n}" for n in files.names(FOLDER) if _rows_of(n) in wanted]
    return {name: data for name in names if (data := files.read(name)) is not None}


def packed_in(notes: Mapping[str, bytes]) -> list[Declaration]:
    """Return the declarations among an archive's notes, in the order they were made.

    Raises:
        Damaged: one cannot be read, or is of other rows than its name says.
    """
    found = []
    for name, data in notes.items():
        folder, _, file = name.rpartition("/")
        if folder == FOLDER and (rows := _rows_of(file)):
            each = _parse(name, data)
            if each.rows != rows:
                raise Damaged(f"{name} is of the rows {each.rows}")
            found.append(each)
    return sorted(found, key=lambda each: (each.rows, each.number))


def contradictions(theirs: Iterable[Declaration], files: Files) -> list[str]:
    """In what an archive's declarations differ from those that a store goes by, a line each.

    Of the same rows and seeds a store goes by one declaration that was made before any result.
    Another one beside it would make its tables say what was not declared here.

    Raises:
        Damaged: one of the store's cannot be read.
        OSError: the store cannot be read.
    """
    lines, by_rows = [], {}
    for each in theirs:
        by_rows.setdefault(each.rows, []).append(each)
    for rows, packed_ones in by_rows.items():
        for mine, other in product(that_stand(declarations(files, rows)), that_stand(packed_ones)):
            if mine.hash != other.hash and not {*mine.seeds}.isdisjoint(other.seeds):
                here, there = tests_line(mine), tests_line(other)
                lines.append(f"{other.study} was declared with {there} there, here with {here}")
    return lines


def tests_line(found: Declaration) -> str:
    """Looks, error and margin that were declared, in words."""
    looks = ", ".join(map(str, found.looks))
    margin = "no margin" if found.margin is None else f"margin {found.margin:g}"
    how = f", {found.spending}" if found.spending else ""
    first = f" from {found.seeds[0]}" if found.seeds[0] else ""
    return f"looks at {looks} seeds{first}, alpha {found.alpha:g}{how}, {margin}"


def put(theirs: Iterable[Declaration], files: Files) -> None:
    """Put an archive's declarations behind those of a store; what is declared there already is
    left out, and nothing is replaced."""
    for each in theirs:
        known = declarations(files, each.rows)
        if any(mine.hash == each.hash and mine.before >= each.before for mine in known):
            continue
        _write(files, replace(each, number=len(known)))


def _write(files: Files, new: Declaration) -> None:
    # The study's name is for people alone: rows and number tell declarations apart.
    readable = ODD.sub("-", new.study).encode()[:MOST_BYTES].decode(errors="ignore")
    name = f"{FOLDER}/{readable}-{new.rows}-{new.number}.json"
    files.write(name, atomic.to_json(asdict(new)))


def _rows_of(file: str) -> str | None:
    """Return the hash of rows in the name of a declaration's file; None for another file."""
    match = NAME.fullmatch(file)
    return match["rows"] if match else None


def _signed(asked: Declaration, number: int) -> Declaration:
    """Return the declaration with its number, who declares it, and when."""
    try:
        who = f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container's user may have no name
        who = socket.gethostname()
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return from_json({**asdict(asked), "number": number, "who": who, "when": when})


def from_json(data: Mapping[str, Any]) -> Declaration:
    """Raises TypeError or KeyError for what is no declaration."""
    given = {field.name: data[field.name] for field in fields(Declaration)}
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return Declaration(**{**given, **lists})


def _parse(name: str, data: bytes) -> Declaration:
    try:
        return from_json(json.loads(data))
    except (ValueError, TypeError, KeyError):
        raise Damaged(f"{name} is damaged: put it back from a copy") from None
