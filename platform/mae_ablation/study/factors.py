"""Factors of a study: what is varied, and its levels, each a changed baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mae_ablation import registry
from mae_ablation.errors import UserError
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.study.design import Combination, Said, Varied
from mae_ablation.study.document import Document, Text
from mae_ablation.study.names import require_name
from mae_ablation.study.recipe_file import RecipeFile
from mae_ablation.study.settings import (
    Setting,
    field_name,
    read_setting,
    recipe_fields,
    resolve,
    settings_in,
    short_names,
)
from mae_ablation.study.values import format_given, format_value


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One value of a factor, and the baseline changed to it."""

    value: Any
    """in its field's type, or a level's name as it is written"""
    recipe: Recipe
    here: str = ""
    """what the recipe's scale made of it, where that is another value"""
    coordinates: tuple[tuple[str, Any], ...] = ()
    """of a level that combines several factors: each one's name and level"""

    @property
    def name(self) -> str:
        """The study's word for it, and whether it stands in for what the paper used."""
        said = format_value(self.value)
        return f"{said} (stand-in, in-domain)" if self.recipe.stand_in else said

    @property
    def label(self) -> str:
        notes = [f"here {self.here}"] if self.here else []
        notes += ["stand-in, in-domain"] if self.recipe.stand_in else []
        said = format_value(self.value)
        return f"{said} ({'; '.join(notes)})" if notes else said


@dataclass(frozen=True, kw_only=True, slots=True)
class Factor:
    """What is varied, and its levels."""

    field: str | None
    """recipe field, "pretrain.mask_ratio"; None: levels are named sets of fields"""
    name: str
    """as tables show it: the last part of the field where only one section has it"""
    levels: tuple[Level, ...]
    left_out: tuple[str, ...] = ()
    """levels of the paper that have no counterpart at the recipe's scale"""


def read_factors(document: Document, file: RecipeFile | None) -> list[Varied]:
    """Return the factors as the file says them. `file`: the recipe whose scale applies; None:
    levels are meant as they stand."""
    given = document.data.get("factors")
    if not isinstance(given, dict) or not given:
        message = "factors needs a recipe field and its levels, such as `mask_ratio: [0.5, 0.75]`"
        raise UserError(message, document.place("factors"))
    varied = [_one_varied(document, name, file) for name in given]
    for i, each in enumerate(varied):
        if each.name in [other.name for other in varied[:i]]:
            place = document.place("factors", each.key)
            raise UserError(f"factor {each.name} is given twice", place)
    return varied


def _one_varied(document: Document, name: str, file: RecipeFile | None) -> Varied:
    place = document.place("factors", name)
    require_name(name, "a factor", place)
    values = document.data["factors"][name]
    named = isinstance(values, dict) and bool(values)
    field = None if named else field_name(name, place, "factor")
    if not isinstance(values, dict | list) or not values:
        raise UserError(f"{name} needs a list of levels, such as [1, 2]", place)
    levels: dict[Any, Said] = {}
    seen: dict[Any, Any] = {}
    for i, given in enumerate(values):
        key = ("factors", name, given if named else i)
        place = document.place(*key)
        if named:
            require_name(given, f"a level of {name}", place)
        said = settings_in(document, *key) if named else [read_setting(field, given, place)]
        value = given if named else said[0].value
        if value in levels:
            raise UserError(_twice(value, given, name), place)
        if (other := seen.setdefault(as_shown(value), value)) != value:
            message = f'levels "{other}" and "{value}" of {name} look alike: rename one of them'
            raise UserError(message, place)
        levels[value] = _at_scale(value, said, file, named)
    return Varied(
        key=name,
        field=field,
        name=name if named else short(field),
        levels=tuple(levels.values()),
    )


def _twice(value: Any, given: object, name: str) -> str:
    """Return what to say of a level that is there already, perhaps in another spelling."""
    spelling = "" if str(given) == format_value(value) else f", here as {format_given(given)}"
    return f"level {format_value(value)} of {name} is given twice{spelling}"


def as_shown(value: Any) -> Any:
    """Return what a table shows of a level: texts that differ in blanks alone look the same."""
    return " ".join(value.split()) if isinstance(value, str) else value


def _at_scale(value: Any, said: list[Setting], file: RecipeFile | None, named: bool) -> Said:
    """Return a level with what the recipe's scale makes of its settings."""
    here = [file.here(setting) if file else setting for setting in said]
    if None in here:
        return Said(value=value, settings=None)
    changed = "; ".join(
        f"{short(a.field)} {format_value(a.value)} is {format_value(b.value)}"
        if named
        else format_value(b.value)
        for a, b in zip(said, here, strict=True)
        if a.value != b.value
    )
    return Said(value=value, settings=tuple(here), here=changed)


def alone(varied: Varied, settings: list[Setting]) -> Factor:
    """Return a factor whose levels change it alone."""
    return Factor(
        field=varied.field,
        name=varied.name,
        levels=tuple(
            Level(value=said.value, recipe=resolve([*settings, *said.settings]), here=said.here)
            for said in varied.levels
            if said.settings is not None
        ),
        left_out=varied.left_out,
    )


def crossed(
    varied: Sequence[Varied], kept: Sequence[Combination], settings: list[Setting]
) -> Factor:
    """Return the factor whose levels are combinations of several factors' levels."""
    names = [each.name for each in varied]
    return Factor(
        field=None,
        name=" x ".join(names),
        levels=tuple(
            _combined(names, combination, settings)
            for combination in kept
            if all(said.settings is not None for said in combination)
        ),
        left_out=tuple(f"{each.name} {value}" for each in varied for value in each.left_out),
    )


def _combined(names: list[str], combination: Combination, settings: list[Setting]) -> Level:
    coordinates = tuple((name, said.value) for name, said in zip(names, combination, strict=True))
    scaled = zip(names, combination, strict=True)
    return Level(
        value=", ".join(f"{name}={format_value(value)}" for name, value in coordinates),
        recipe=resolve([*settings, *(s for said in combination for s in said.settings)]),
        here="; ".join(f"{name} {said.here}" for name, said in scaled if said.here),
        coordinates=coordinates,
    )


def canonical(factor: str, level: str) -> str:
    """Return a level's label in the one spelling of its field's type: 1e-3 is 0.001. Names stay.

    Args:
        factor: name as tables show it, of crossed ones too.
        level: label without its scale; an earlier report has it as its study wrote it.
    """
    names, parts = factor.split(" x "), level.split(", ")
    if len(names) == len(parts) > 1:
        both = zip(names, parts, strict=True)
        pairs = [(name, part.removeprefix(f"{name}=")) for name, part in both]
        return ", ".join(f"{name}={canonical(name, part)}" for name, part in pairs)
    field = _fields_by_name().get(factor)
    if field is None:
        return level
    try:
        return format_value(read_setting(field, Text(level), "").value)
    except UserError:
        return level


@registry.forgets
@lru_cache(maxsize=1)
def _fields_by_name() -> dict[str, str]:
    """Recipe fields by their names in tables."""
    return {short(field): field for field in recipe_fields()}


def short(field: str) -> str:
    """Return a field's name as tables show it: its last part, where only one section has that."""
    section, last = field.split(".")
    return last if short_names()[last] == [field] else f"{section}_{last}"
