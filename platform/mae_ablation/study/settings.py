"""From settings, each with its place, to a checked recipe.

A recipe file, `--set` and a level of a factor all say the same kind of thing: "this field has this
value". A later setting wins; an error names the place of the setting that caused it.
"""

import types
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mae_ablation.study.document import Document
from mae_ablation.study.errors import UserError, unknown
from mae_ablation.study.recipe import Invalid, Recipe


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a recipe, such as "pretrain.epochs", its value, and where it was said."""

    field: str
    value: Any
    place: str


@lru_cache(maxsize=1)
def recipe_fields() -> dict[str, Any]:
    """Type of every field, by dotted name."""
    sections = get_type_hints(Recipe)
    return {
        f"{section}.{name}": hint
        for section, cls in sections.items()
        for name, hint in get_type_hints(cls).items()
    }


def field_name(name: object, place: str, what: str = "key") -> str:
    """Dotted name of a field given by it or, where only one section has it, by its last part.

    Raises:
        UserError: no such field (with the nearest one), or several.
    """
    known = recipe_fields()
    if name in known:
        return name
    matches = [field for field in known if field.split(".")[1] == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UserError(f'"{name}" could be any of {", ".join(matches)}: write one of these', place)
    short = [field.split(".")[1] for field in known] if "." not in str(name) else list(known)
    raise UserError(unknown(what, name, set(short)), place)


def settings_of(document: Document) -> list[Setting]:
    """Settings of a recipe file: sections of fields."""
    sections = {field.name: field.type for field in fields(Recipe)}
    out = []
    for section, values in document.data.items():
        place = document.place(section)
        if section not in sections:
            raise UserError(unknown("section", section, sections), place)
        if not isinstance(values, dict):
            raise UserError(f'section "{section}" must hold `key: value` lines', place)
        known = [f.split(".")[1] for f in recipe_fields() if f.startswith(f"{section}.")]
        for name, value in values.items():
            place = document.place(section, name)
            if name not in known:
                raise UserError(unknown(f"{section} key", name, known), place)
            out.append(Setting(f"{section}.{name}", value, place))
    return out


def resolve(settings: Iterable[Setting]) -> Recipe:
    """The recipe of these settings over the defaults.

    Raises:
        UserError: a value of the wrong type or outside its range, at its place.
    """
    latest: dict[str, Setting] = {}
    for setting in settings:
        latest.pop(setting.field, None)  # the last word also stands last
        latest[setting.field] = setting
    sections: dict[str, dict[str, Any]] = {}
    for setting in latest.values():
        section, name = setting.field.split(".")
        value = typed(setting.value, recipe_fields()[setting.field], setting)
        sections.setdefault(section, {})[name] = value
    classes = get_type_hints(Recipe)
    built = {}
    for section, values in sections.items():
        said = {
            s.field.split(".")[1]: s for s in latest.values() if s.field.split(".")[0] == section
        }
        built[section] = _build(classes[section], values, said)
    return _build(Recipe, built, latest)


def _build(cls: type, values: dict[str, Any], settings: dict[str, Setting]) -> Any:
    try:
        return cls(**values)
    except Invalid as error:
        said = [s.place for name, s in settings.items() if name in error.fields]
        raise UserError(str(error), said[-1] if said else "recipe defaults") from None


def typed(value: Any, hint: Any, setting: Setting) -> Any:
    """`value` as the field's type; numbers like 2e-3, which YAML reads as text, are taken too.

    Raises:
        UserError: it is of another type.
    """
    name = setting.field
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value not in choices:
            raise UserError(unknown(name, value, choices), setting.place)
        return value
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(h for h in get_args(hint) if h is not types.NoneType)
    if hint is float and isinstance(value, str):
        value = _number(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = _number(str(value))
    if type(value) is not hint:
        kind = {int: "a whole number", float: "a number"}[hint]
        raise UserError(f"{name} must be {kind}, not {value!r}", setting.place)
    if hint is float and not abs(value) < float("inf"):
        raise UserError(f"{name} must be finite, not {value}", setting.place)
    return value


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
