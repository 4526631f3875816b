"""YAML files whose every value knows its line."""

import difflib
from dataclasses import dataclass
from pathlib import Path

import yaml

from mae_ablation.study.errors import UserError

Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data of a YAML file, and the line of each key, counted from 1."""

    path: Path
    data: dict
    lines: dict[Key, int]

    def place(self, *key: str | int) -> str:
        """`file:line` of a key, or of the nearest one above it."""
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.path}:{self.lines.get(key, 1)}"


def read(path: Path) -> Document:
    """Raises UserError for a file that cannot be read, is not YAML, or is not a mapping."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise UserError(f"cannot read it: {_not_there(path)}", str(path)) from None
    except IsADirectoryError:
        raise UserError("cannot read it: a folder, not a file: name its .yaml", str(path)) from None
    except OSError as error:
        raise UserError(f"cannot read it: {error.strerror}", str(path)) from None
    except UnicodeDecodeError:
        raise UserError("cannot read it: not a text file in UTF-8", str(path)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        remedy = ": indent with spaces" if "\\t" in str(error.problem) else ""
        raise UserError(f"not valid YAML: {error.problem}{remedy}", f"{path}:{line}") from None
    except yaml.YAMLError:
        raise UserError("not valid YAML: forbidden characters", str(path)) from None
    if not isinstance(node, yaml.MappingNode):
        empty = "nothing in it; " if node is None else ""
        raise UserError(f"{empty}expected keys and values, `key: value`", f"{path}:1")
    lines: dict[Key, int] = {}
    try:
        return Document(path, _plain(node, (), path, lines), lines)
    except RecursionError:
        raise UserError("an alias that contains itself", str(path)) from None


def _not_there(path: Path) -> str:
    """What to say of a missing file: the one that was meant, beside it or in studies/."""
    beside = [p for folder in (path.parent, Path("studies")) for p in sorted(folder.glob("*.yaml"))]
    files = {each.stem: each for each in reversed(beside)}
    near = difflib.get_close_matches(path.stem, files, n=1)
    hint = f' (did you mean "{files[near[0]]}"?)' if near else ""
    return f"No such file or directory{hint}"


def _plain(node: yaml.Node, key: Key, path: Path, lines: dict[Key, int]):
    lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*key, i), path, lines) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, key, path, lines)
    try:
        return _scalar(node)
    except (yaml.YAMLError, ValueError):
        place = f"{path}:{node.start_mark.line + 1}"
        raise UserError(f'cannot read the value "{node.value}"', place) from None


def _mapping(node: yaml.MappingNode, key: Key, path: Path, lines: dict[Key, int]) -> dict:
    out = {}
    for name_node, value_node in node.value:
        place = f"{path}:{name_node.start_mark.line + 1}"
        if not isinstance(name_node, yaml.ScalarNode):
            raise UserError("a key must be a plain word", place)
        try:
            name = _scalar(name_node)
        except (yaml.YAMLError, ValueError):
            raise UserError(f'cannot read the key "{name_node.value}"', place) from None
        if name in out:
            raise UserError(f'key "{name}" is given twice', place)
        lines[(*key, name)] = name_node.start_mark.line + 1
        out[name] = _plain(value_node, (*key, name), path, lines)
    return out


def _scalar(node: yaml.ScalarNode):
    constructor = yaml.SafeLoader("")
    try:
        return constructor.construct_object(node)
    finally:
        constructor.dispose()
