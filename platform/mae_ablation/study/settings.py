"""Settings, each with its place, and the checked recipe that they make.

A recipe file, `--set`, a study's baseline and a level of a factor all say the same kind of thing:
"this field has this value". A later setting wins; an error names the place of the setting that
caused it.
"""

import types
from collections.abc import Container, Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mae_ablation import registry
from mae_ablation.errors import UserError, unknown
from mae_ablation.recipe import presets
from mae_ablation.recipe.checks import Invalid
from mae_ablation.recipe.recipe import Data, Model, Pretrain, Recipe
from mae_ablation.study.document import Document, Text, read_list, text_at
from mae_ablation.study.values import (
    Unreadable,
    format_given,
    format_value,
    is_null,
    to_number,
    to_truth,
    to_whole,
)

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
READ = {int: to_whole, float: to_number, bool: to_truth}


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a recipe, such as "pretrain.epochs", its value, and where it was said."""

    field: str
    value: Any
    """in the field's type, or the text as written"""
    place: str


def read_setting(field: str, value: Any, place: str) -> Setting:
    """Return a setting whose value, as a file has it, is taken as the field's type."""
    value = _typed(value, recipe_fields()[field], Setting(field, value, place))
    return Setting(field, value, place)


def read_change(text: str) -> Setting:
    """Return the setting of an argument `field=value` (`--set`).

    A text field takes all behind the sign as it is, "/d/exp #2" too; `null` leaves an optional one
    unset. A list stands in brackets, as in epochs_tried=[3, 6].
    """
    place = f"--set {text}"
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise UserError("expected field=value, such as pretrain.epochs=20", place)
    field = field_name(name.strip(), place)
    is_list = get_origin(recipe_fields()[field]) is tuple
    return read_setting(field, read_list(value, place) if is_list else Text(value), place)


def recipe_sections() -> dict[str, type]:
    """Return the class of every section of a recipe, by name."""
    return {"data": Data, "model": Model, "pretrain": Pretrain, **registry.sections()}


@registry.forgets
@lru_cache(maxsize=1)
def recipe_fields() -> dict[str, Any]:
    """Return the type of all that can be set, by dotted name: every field, and the presets."""
    found = {}
    for section, cls in recipe_sections().items():
        hints = get_type_hints(cls)
        for field in fields(cls):
            if field.metadata.get("inside"):
                continue
            kind = field.metadata.get("component")
            named = Literal[registry.component_names(kind)] if kind else hints[field.name]
            found[f"{section}.{field.name}"] = named
    return {**found, **_preset_fields()}


def _preset_fields() -> dict[str, Any]:
    """Return the type of each `preset`, which is set like a field, and none."""
    # so two ways to the same values are one recipe
    return {
        f"{section}.preset": Literal[cls.presets]
        for section, cls in registry.sections().items()
        if getattr(cls, "presets", ())
    }


def field_name(name: object, place: str, what: str = "key") -> str:
    """Return the dotted name of a field, given by it or, if that is clear, by its last part."""
    known = recipe_fields()
    if name in known:
        return name
    # a last part that several sections have could mean any of them
    matches = short_names().get(name, [])
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UserError(f'"{name}" could be any of {", ".join(matches)}: write one of these', place)
    short = [field.split(".")[1] for field in known] if "." not in str(name) else list(known)
    raise UserError(unknown(what, name, set(short)), place)


@registry.forgets
@lru_cache(maxsize=1)
def short_names() -> dict[str, list[str]]:
    """Return fields by their last part; a user's component takes no name from one of ours."""
    # else a plug-in would make a study's `epochs` ambiguous that was clear before
    ours: dict[str, list[str]] = {}
    theirs: dict[str, list[str]] = {}
    for field in recipe_fields():
        section, name = field.split(".")
        cls = recipe_sections()[section]
        component = getattr(cls, "component", None)
        (theirs if component and component.plugin else ours).setdefault(name, []).append(field)
    return {**theirs, **ours}


def settings_in(document: Document, *key: str | int) -> list[Setting]:
    """Return the settings of a mapping in a document, such as `{mask_ratio: 0.5}`."""
    values = document.data
    for part in key:
        values = values[part]
    if not isinstance(values, dict):
        raise UserError("expected `field: value` lines", document.place(*key))
    out: dict[str, Setting] = {}
    for name, value in values.items():
        place = document.place(*key, name)
        field = field_name(name, place)
        require_once(field, name, out, place)
        out[field] = read_setting(field, value, place)
    return list(out.values())


def require_once(field: str, name: str, known: Container[str], place: str) -> None:
    """Raise a UserError for a field that is there already, perhaps by its other name."""
    if field in known:
        spelling = "" if name == field else f', here as "{name}"'
        raise UserError(f"{field} is given twice{spelling}", place)


def section_settings(document: Document, section: str) -> list[Setting]:
    """Return the settings of one section of a recipe file."""
    sections = list(recipe_sections())
    values, place = document.data[section], document.place(section)
    if section not in sections:
        raise UserError(unknown("section", section, sections), place)
    if not isinstance(values, dict):
        raise UserError(f'section "{section}" must hold `key: value` lines', place)
    # short names are for studies: a recipe says each field in its section
    known = [f.split(".")[1] for f in recipe_fields() if f.startswith(f"{section}.")]
    out = []
    for name, value in values.items():
        place = document.place(section, name)
        if name not in known:
            raise UserError(unknown(f"{section} key", name, known), place)
        out.append(read_setting(f"{section}.{name}", value, place))
    return out


def resolve(settings: Iterable[Setting]) -> Recipe:
    """Return the recipe of these settings over the defaults.

    Raises:
        UserError: a value of the wrong type or outside its range, at its place.
    """
    latest: dict[str, Setting] = {}
    for setting in settings:
        latest.pop(setting.field, None)  # the last word also stands last
        latest[setting.field] = setting
    latest = _with_presets(latest)

    # section by section, each with the settings that an error of its own may be about
    fields_of, classes = recipe_fields(), recipe_sections()
    by_section: dict[str, dict[str, Setting]] = {}
    for setting in latest.values():
        section, name = setting.field.split(".")
        by_section.setdefault(section, {})[name] = setting
    built = {}
    for section, said in by_section.items():
        values = {name: _typed(s.value, fields_of[s.field], s) for name, s in said.items()}
        built[section] = _build(classes[section], values, said)
    return _build(Recipe, built, latest)


def _with_presets(latest: dict[str, Setting]) -> dict[str, Setting]:
    """Replace presets by their settings, beneath all others."""
    # a preset's values depend on the model's size, by which the paper's tables are made
    beneath: dict[str, Setting] = {}
    hints = _preset_fields()
    defaults = Model.__dataclass_fields__
    width, depth = (
        latest[full].value if (full := f"model.{name}") in latest else defaults[name].default
        for name in ("encoder_width", "encoder_depth")
    )
    size = presets.model_size(width, depth)
    for field, hint in hints.items():
        if field in latest:
            setting = latest[field]
            section = field.split(".")[0]
            for key, value in presets.PRESETS[_typed(setting.value, hint, setting)][size].items():
                if f"{section}.{key}" in recipe_fields():
                    full = f"{section}.{key}"
                    beneath[full] = Setting(full, value, setting.place)

    # what is said of a field itself stands, before or after the preset
    rest = {field: s for field, s in latest.items() if field not in hints}
    return {field: s for field, s in beneath.items() if field not in rest} | rest


def _build(cls: type, values: dict[str, Any], settings: dict[str, Setting]) -> Any:
    try:
        return cls(**values)
    except Invalid as error:
        # of the fields that do not go together the one that was said last is to blame
        said = [s.place for name, s in settings.items() if name in error.fields]
        raise UserError(str(error), said[-1] if said else "recipe defaults") from None


def _typed(value: Any, hint: Any, setting: Setting) -> Any:
    """Return a value as the field's type, from text as written or from Python's own values."""
    # an optional field, one of some words, a list, text
    if isinstance(hint, types.UnionType):
        kinds = [h for h in get_args(hint) if h is not types.NoneType]
        if is_null(value, text=kinds[0] is str):
            return None
        if kinds == [int, float]:  # 2000 and 2000.0 are one whole number
            number = _typed(value, float, setting)
            return int(number) if number.is_integer() else number
        hint = kinds[0]
    name, place = setting.field, setting.place
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value not in choices:
            said = value if isinstance(value, str) else format_value(value)
            ours = {each.name for each in registry.list_components()}
            say = registry.unknown_component if ours & set(choices) else unknown
            raise UserError(say(name, said, choices), place)
        return str(value)
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{name} must be a list, not {format_given(value)}", place)
        return tuple(_typed(item, get_args(hint)[0], setting) for item in value)
    if hint is str:
        return text_at(value, name, place)

    # a number or a truth value; a whole number is a number, too
    remedy = ""
    if isinstance(value, str):
        try:
            return READ[hint](value)
        except Unreadable as error:
            remedy = f": {error}" if str(error) else ""
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise UserError(f"{name} must be {KINDS[hint]}, not {format_given(value)}{remedy}", place)
    if hint is float and not abs(value) < float("inf"):
        raise UserError(f"{name} must be finite, not {value}", place)
    return value
