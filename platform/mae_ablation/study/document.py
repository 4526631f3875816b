"""YAML files whose every value is the text as written, and knows its line.

YAML would guess a type from a word's looks: a number of 1:30, a date, a boolean of `no`. Here a
scalar stays its own text, and the type of its field decides what it means (values.py).
"""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mae_ablation.errors import UserError
from mae_ablation.study.shipped import shipped_studies

Key = tuple[str | int, ...]
"""names and numbers on the way to a value"""
TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))
COMMENT = re.compile(r"[ \t]+#[^\s#][^\n]*")
"""right behind a word, without a space after its sign: perhaps it was meant as text"""
MOST_VALUES = 100_000  # of a file, aliases expanded


class Text(str):
    """A scalar as it is written."""

    quoted: bool
    cut: str
    """words behind it that look like text, but are a comment to YAML: "#2" """

    def __new__(cls, text: str, *, quoted: bool = False, cut: str = "") -> "Text":
        self = super().__new__(cls, text)
        self.quoted, self.cut = quoted, cut
        return self


@dataclass(frozen=True, slots=True)
class Document:
    """Data of a YAML file, every scalar a Text, and the line of each key, counted from 1."""

    path: Path
    data: dict
    lines: dict[Key, int]

    def place(self, *key: str | int) -> str:
        """Return `file:line` of a key, or of the nearest one above it."""
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.path}:{self.lines.get(key, 1)}"


def read_yaml(path: Path) -> Document:
    """Read a YAML file; UserError if that cannot be, is not YAML, or is not a mapping."""
    try:
        node = _compose(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        # perhaps one beside it was meant, or one in studies/, or one that ships, by its name alone
        folders = (path.parent, Path("studies"))
        beside = [p for folder in folders for p in sorted(folder.glob("*.yaml"))]
        shipped = shipped_studies().glob("*.yaml") if not path.suffix else ()
        beside += [Path(p.stem) for p in sorted(shipped)]
        files = {each.stem: each for each in reversed(beside)}
        near = difflib.get_close_matches(path.stem, files, n=1)
        hint = f' (did you mean "{files[near[0]]}"?)' if near else ""
        message = f"cannot read it: No such file or directory{hint}"
        raise UserError(message, str(path)) from None
    except IsADirectoryError:
        raise UserError("cannot read it: a folder, not a file: name its .yaml", str(path)) from None
    except OSError as error:
        raise UserError(f"cannot read it: {error.strerror}", str(path)) from None
    except UnicodeDecodeError:
        raise UserError("cannot read it: not a text file in UTF-8", str(path)) from None
    # a study or a recipe is a mapping; aliases of YAML's may make it endless
    if not isinstance(node, yaml.MappingNode):
        empty = "nothing in it; " if node is None else ""
        raise UserError(f"{empty}expected keys and values, `key: value`", f"{path}:1")
    lines: dict[Key, int] = {}
    try:
        return Document(path, _plain(node, (), str(path), lines), lines)
    except RecursionError:
        raise UserError("an alias that contains itself", str(path)) from None


def read_list(text: str, place: str) -> list | Text:
    """Return a list of words from an argument such as "[3, 6]"; any other text as it is."""
    inside = text.strip()
    if not inside.startswith("["):
        return Text(text)
    if not inside.endswith("]"):
        raise UserError('a list ends with "]", as in [3, 6]', place)
    return [Text(word.strip()) for word in inside[1:-1].split(",")]


def text_at(value: object, what: str, place: str) -> str:
    """Return a value as the text that is meant."""
    if not isinstance(value, str):
        kind = "a list" if isinstance(value, list) else "a mapping"
        raise UserError(f"{what} must be text, not {kind}", place)
    if cut := getattr(value, "cut", ""):
        message = f'{what} is "{value}" without "{cut}", a comment to YAML'
        remedy = f'write "{value} {cut}" in quotes, or a space behind the #'
        raise UserError(f"{message}: {remedy}", place)
    return str(value)


def _compose(text: str, where: str) -> yaml.Node | None:
    """Return the nodes of a YAML text, none of them resolved to a type."""
    try:
        return yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        raise invalid(error, where) from None
    except yaml.YAMLError:
        raise UserError("not valid YAML: forbidden characters", where) from None
    except RecursionError:
        raise UserError("not valid YAML: nested too deeply", where) from None


def invalid(error: yaml.MarkedYAMLError, file: str) -> UserError:
    """Return the error to raise for a file that YAML refuses."""
    mark = error.problem_mark or error.context_mark
    place = f"{file}:{mark.line + 1 if mark else 1}"
    remedy = ": indent with spaces" if "\\t" in str(error.problem) else ""
    return UserError(f"not valid YAML: {error.problem}{remedy}", place)


def _plain(node: yaml.Node, key: Key, where: str, lines: dict[Key, int]) -> Any:
    """Return a node's lists, mappings and texts, and note the line of each in `lines`."""
    place = f"{where}:{node.start_mark.line + 1}"
    # a few aliases of aliases would make a file of a hundred bytes fill the memory
    if len(lines) >= MOST_VALUES:
        raise UserError(f"more than {MOST_VALUES:,} values", place)
    if node.tag not in TAGS:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        message = f"tag {tag} is not read, the field says what a value is: remove the tag"
        raise UserError(message, place)
    lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*key, i), where, lines) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, key, where, lines)
    # a scalar, and what a person may have meant to be part of it
    if node.style is not None:
        return Text(node.value, quoted=True)
    behind = COMMENT.match(node.end_mark.buffer or "", node.end_mark.pointer)
    return Text(node.value, cut=behind.group().strip() if behind else "")


def _mapping(node: yaml.MappingNode, key: Key, where: str, lines: dict[Key, int]) -> dict:
    out = {}
    for name_node, value_node in node.value:
        place = f"{where}:{name_node.start_mark.line + 1}"
        if not isinstance(name_node, yaml.ScalarNode) or not name_node.value:
            raise UserError("a key must be a plain word", place)
        # what a merge key brings would have no line of its own
        if name_node.value == "<<" and name_node.style is None:
            message = 'merge key "<<" is not read: write the lines out that it stands for'
            raise UserError(message, place)
        name = str(_plain(name_node, (*key, name_node.value), where, lines))
        if name in out:
            raise UserError(f'key "{name}" is given twice', place)
        lines[(*key, name)] = name_node.start_mark.line + 1
        out[name] = _plain(value_node, (*key, name), where, lines)
    return out
