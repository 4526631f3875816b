"""JSON Schema of study and recipe files, for editors: completion, help and marks under slips.

    # yaml-language-server: $schema=study.schema.json

It is made from the classes that read these files, a user's components included, so it knows what
they know of names, types and choices. What needs arithmetic or files is left to `plan`.
"""

import ast
import inspect
import textwrap
import types
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

from mae_ablation.registry import component_names
from mae_ablation.study.factors import DESIGNS
from mae_ablation.study.paper import independent_tables, paper_tables
from mae_ablation.study.recipe_file import phases
from mae_ablation.study.settings import recipe_fields, recipe_sections, short_names
from mae_ablation.study.tune import SCHEDULERS

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
# A folder may be called 2024 and a level `no`: where text is meant, every scalar is text.
TYPES = {int: "integer", float: "number", bool: "boolean", str: ["string", "number", "boolean"]}
SETTINGS, NAMED = {"$ref": "#/$defs/settings"}, {"$ref": "#/$defs/named_levels"}


def study_schema() -> Schema:
    """Return the schema of a study's file, or of a suite's, which is one that names studies."""
    # what studies and suites have in common
    title = {"type": ["string", "number"], "description": "in one line; heads the report"}
    seeds = {
        "description": "a number n (0 to n-1), a list, or {first, most}: until decided",
        "anyOf": [
            {"type": "integer", "minimum": 1},
            _list({"type": "integer", "minimum": 0}),
            _object(
                first={"type": "integer", "minimum": 2},
                most={"type": "integer", "minimum": 2},
            ),
        ],
    }
    recipe = {"type": "string", "description": "a recipe's name, or a file"}
    study = _object(
        title=title,
        paper={"enum": list(paper_tables()), "description": "whose numbers stand beside ours"},
        recipe=recipe,
        baseline=SETTINGS | {"description": "settings over the recipe"},
        factors=_factors(),
        design={"enum": list(DESIGNS), "description": "default: one factor at a time"},
        exclude=_list({"type": "object"}) | {"description": "combinations to leave out"},
        tune=_tune(),
        budget={"enum": ["epochs", "flops"], "description": "what levels have in common"},
        measure={"enum": ["accuracy", "hours"], "description": "what the table shows"},
        seeds=seeds,
        margin={
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "points; a smaller difference counts as none",
        },
        alpha={"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        spending={"enum": ["pocock", "obrien_fleming"]},
        phases=_list({"enum": list(phases())}),
        reference=_references(),
    ) | {"required": ["factors"]}

    # a suite is a file that names studies: an editor marks what only the other kind has
    studies = _list({"type": "string"}) | {"description": "names of studies beside this file"}
    suite = _object(title=title, studies=studies, recipe=recipe, seeds=seeds)
    return {
        "$schema": DIALECT,
        "title": "A study of mae-ablation, or a suite of studies",
        "type": "object",
        "if": {"required": ["studies"]},
        "then": suite,
        "else": study,
        "$defs": {
            **_definitions(),
            "settings": _object(**_settings()),
            "named_levels": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": SETTINGS,
            },
        },
    }


def recipe_schema() -> Schema:
    """Return the schema of a recipe's file."""
    # each field by its last part, in its section alone
    sections = {}
    for section, cls in recipe_sections().items():
        inside = {
            name.partition(".")[2]: {"$ref": f"#/$defs/{name}"}
            for name in recipe_fields()
            if name.startswith(f"{section}.")
        }
        sections[section] = _object(**inside) | _described(inspect.getdoc(cls))
    levels = {name: {"type": "object"} for name in _settings()}
    return {
        "$schema": DIALECT,
        "title": "A recipe of mae-ablation",
        **_object(
            **sections,
            levels=_object(**levels) | {"description": "the paper's level: the level here"},
            skip=_list({"enum": list(component_names("evaluation"))}),
            more={"type": "string", "description": "the recipe whose results decide more"},
        ),
        "$defs": _definitions(),
    }


def _factors() -> Schema:
    """Return the schema of `factors`: a field with its levels, or any name with named levels."""
    by_field = {name: {"anyOf": [_list(field), NAMED]} for name, field in _settings().items()}
    return {
        "description": "what is varied: a field and its levels, or named sets of fields",
        "type": "object",
        "minProperties": 1,
        "properties": by_field,
        "additionalProperties": NAMED,
    }


def _references() -> Schema:
    """Return the schema of references: tables that ship, by name, and numbers of one's own."""
    own = _object(
        source={"type": "string", "description": "who published it, and where"},
        levels={"type": "object", "additionalProperties": {"type": "number"}},
        evaluation={"enum": list(component_names("evaluation"))},
        factor={"type": "string"},
        n={"type": "integer", "minimum": 1, "description": "seeds behind each number"},
    )
    shipped = {"enum": [*paper_tables(), *independent_tables()]}
    each = {"anyOf": [shipped, own | {"required": ["source", "levels"]}]}
    about = {"description": "published numbers beside the paper's, each with its verdict"}
    return {"anyOf": [each, {"type": "array", "items": each}]} | about


def _tune() -> Schema:
    values = {name: _list(field) for name, field in _settings().items()}
    return _object(
        **values,
        scheduler={"enum": list(SCHEDULERS)},
    ) | {"description": "values that every level searches, chosen on the validation split"}


def _settings() -> dict[str, Schema]:
    """Return every field that can be set, by its whole name and by its short one."""
    short = {name: fields[0] for name, fields in short_names().items() if len(fields) == 1}
    known = {name: name for name in recipe_fields()} | short
    return {name: {"$ref": f"#/$defs/{field}"} for name, field in known.items()}


def _definitions() -> dict[str, Schema]:
    """Return the schema of each field, by its whole name."""
    found = {}
    for name, hint in recipe_fields().items():
        section, _, last = name.partition(".")
        text = field_descriptions(recipe_sections()[section]).get(last)
        found[name] = _type(hint) | _described(text)
    return found


def _type(hint: Any) -> Schema:
    """Return the schema of a field's type."""
    # an optional field, one of some words, a list, a scalar
    if isinstance(hint, types.UnionType):
        # of whole and other numbers the last kind is the wider one
        kept = [each for each in get_args(hint) if each is not types.NoneType]
        return {"anyOf": [_type(kept[-1]), {"type": "null"}]}
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is tuple:
        return _list(_type(get_args(hint)[0]))
    return {"type": TYPES[hint]}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


def _described(text: str | None) -> Schema:
    return {"description": " ".join(text.split())} if text else {}


@lru_cache(maxsize=256)
def field_descriptions(cls: type) -> dict[str, str]:
    """Return the string under each field of a class, as its source has it; {} without source."""
    # Python keeps no text under a field: only the source has it, of the bases first
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__[:-1]):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        except (OSError, TypeError, SyntaxError):
            continue
        for line, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr):
                found[line.target.id] = str(ast.literal_eval(below.value))
    return found
