"""Factors of a study: what is varied, its levels, and which combinations of levels are trained.

    (no design)      one factor at a time: each level changes one factor of the baseline
    design: grid     every level of a factor with every level of the others
    design: zip      the factors' first levels together, then their second ones, and so on
    exclude:         combinations that a grid or a zip leaves out; one that names some of the
      - {mask_ratio: 0.9, decoder_depth: 8}      # factors stands for all that match it

A grid or a zip is one factor, whose levels are the combinations: "mask_ratio x decoder_depth" with
"mask_ratio=0.5, decoder_depth=2".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from math import prod
from typing import Any

from mae_ablation import registry
from mae_ablation.errors import UserError, unknown
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.study.document import Document, Text
from mae_ablation.study.names import require_name
from mae_ablation.study.recipe_file import RecipeFile
from mae_ablation.study.settings import (
    Setting,
    field_name,
    read_setting,
    recipe_fields,
    require_once,
    resolve,
    settings_in,
    short_names,
)
from mae_ablation.study.values import format_given, format_value

ONE_FACTOR = "one_factor"
DESIGNS = (ONE_FACTOR, "grid", "zip")
Combination = tuple["FileLevel", ...]
"""a level of each factor"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One value of a factor, and the baseline changed to it."""

    value: Any
    """in its field's type, or a level's name as it is written"""
    recipe: Recipe
    here: str = ""
    """the value at the recipe's scale, where that is another one"""
    coordinates: tuple[tuple[str, Any], ...] = ()
    """name and level of each factor, if the level combines several"""

    @property
    def name(self) -> str:
        """The study's word for it, and whether it stands in for what the paper used."""
        said = format_value(self.value)
        return f"{said} (stand-in, in-domain)" if self.recipe.target.stand_in else said

    @property
    def label(self) -> str:
        notes = [f"here {self.here}"] if self.here else []
        notes += ["stand-in, in-domain"] if self.recipe.target.stand_in else []
        said = format_value(self.value)
        return f"{said} ({'; '.join(notes)})" if notes else said


@dataclass(frozen=True, kw_only=True, slots=True)
class Factor:
    """Something that a study varies, and its levels."""

    field: str | None
    """recipe field, "pretrain.mask_ratio"; None: levels are named sets of fields"""
    name: str
    """name in tables: the last part of the field where only one section has it"""
    levels: tuple[Level, ...]
    left_out: tuple[str, ...] = ()
    """levels of the paper that have no counterpart at the recipe's scale"""


# as the file has them -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class FileLevel:
    """A level as a study's file has it."""

    value: Any
    """in its field's type, or a level's name"""
    settings: tuple[Setting, ...] | None
    """at the recipe's scale; None: it has no counterpart there"""
    here: str = ""
    """the value at the recipe's scale, where that is another one"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFactor:
    """A factor as a study's file has it."""

    key: str
    """its word in the file"""
    field: str | None
    name: str
    levels: tuple[FileLevel, ...]

    @property
    def there(self) -> list[FileLevel]:
        """Levels that have a counterpart at the recipe's scale."""
        return [level for level in self.levels if level.settings is not None]

    @property
    def fields(self) -> set[str]:
        """Recipe fields that its levels set."""
        return {setting.field for level in self.there for setting in level.settings}

    @property
    def left_out(self) -> tuple[str, ...]:
        return tuple(format_value(each.value) for each in self.levels if each.settings is None)


def read_factors(document: Document, file: RecipeFile | None) -> list[FileFactor]:
    """Return the factors as the file has them.

    Args:
        file: the recipe whose scale applies; None: levels are meant as they stand.
    """
    # two words may be one field: "mask_ratio" and "pretrain.mask_ratio"
    given = document.data.get("factors")
    if not isinstance(given, dict) or not given:
        message = "factors needs a recipe field and its levels, such as `mask_ratio: [0.5, 0.75]`"
        raise UserError(message, document.place("factors"))
    factors = [_read_factor(document, name, file) for name in given]
    for i, each in enumerate(factors):
        if each.name in [other.name for other in factors[:i]]:
            place = document.place("factors", each.key)
            raise UserError(f"factor {each.name} is given twice", place)
    return factors


def _read_factor(document: Document, name: str, file: RecipeFile | None) -> FileFactor:
    place = document.place("factors", name)
    require_name(name, "a factor", place)
    values = document.data["factors"][name]
    named = isinstance(values, dict) and bool(values)
    field = None if named else field_name(name, place, "factor")
    if not isinstance(values, dict | list) or not values:
        raise UserError(f"{name} needs a list of levels, such as [1, 2]", place)
    levels: dict[Any, FileLevel] = {}
    shown: dict[Any, Any] = {}
    for i, given in enumerate(values):
        # a level is a name for some settings, or one setting
        key = ("factors", name, given if named else i)
        place = document.place(*key)
        if named:
            require_name(given, f"a level of {name}", place)
        settings = settings_in(document, *key) if named else [read_setting(field, given, place)]
        value = given if named else settings[0].value

        # each once, however it is spelled, and each looking different in a table
        if value in levels:
            said = format_value(value)
            spelling = "" if str(given) == said else f", here as {format_given(given)}"
            raise UserError(f"level {said} of {name} is given twice{spelling}", place)
        if (other := shown.setdefault(as_shown(value), value)) != value:
            message = f'levels "{other}" and "{value}" of {name} look alike: rename one of them'
            raise UserError(message, place)

        # what the recipe's scale makes of it
        scaled = [file.here(setting) if file else setting for setting in settings]
        if None in scaled:
            levels[value] = FileLevel(value=value, settings=None)
            continue
        here = "; ".join(
            (f"{short(a.field)} {format_value(a.value)} is " if named else "")
            + format_value(b.value)
            for a, b in zip(settings, scaled, strict=True)
            if a.value != b.value
        )
        levels[value] = FileLevel(value=value, settings=tuple(scaled), here=here)
    label = name if named else short(field)
    return FileFactor(key=name, field=field, name=label, levels=tuple(levels.values()))


def as_shown(value: Any) -> Any:
    """Return what a table shows of a level: texts that differ in blanks alone look the same."""
    return " ".join(value.split()) if isinstance(value, str) else value


def alone(factor: FileFactor, settings: list[Setting]) -> Factor:
    """Return a factor whose levels change it alone, over the baseline's settings."""
    return Factor(
        field=factor.field,
        name=factor.name,
        levels=tuple(
            Level(value=each.value, recipe=resolve([*settings, *each.settings]), here=each.here)
            for each in factor.there
        ),
        left_out=factor.left_out,
    )


# combined -----------------------------------------------------------------------------------------


def crossed(
    factors: Sequence[FileFactor], kept: Sequence[Combination], settings: list[Setting]
) -> Factor:
    """Return the factor whose levels are combinations of several factors' levels."""
    names = [each.name for each in factors]
    levels = []
    for levels_of in kept:
        # a level that the recipe's scale does not have takes its combinations with it
        if any(each.settings is None for each in levels_of):
            continue
        pairs = list(zip(names, levels_of, strict=True))
        levels.append(
            Level(
                value=", ".join(f"{name}={format_value(each.value)}" for name, each in pairs),
                recipe=resolve([*settings, *(s for each in levels_of for s in each.settings)]),
                here="; ".join(f"{name} {each.here}" for name, each in pairs if each.here),
                coordinates=tuple((name, each.value) for name, each in pairs),
            )
        )
    left_out = tuple(f"{each.name} {value}" for each in factors for value in each.left_out)
    return Factor(field=None, name=" x ".join(names), levels=tuple(levels), left_out=left_out)


def combine(document: Document, design: str, factors: Sequence[FileFactor]) -> list[Combination]:
    """Return the levels of a grid or a zip, one of each factor, in the order of the file."""
    # two factors or more, none of which sets a field of another
    if len(factors) < 2:
        raise UserError(f"design {design} needs two factors or more", document.place("design"))
    for one, other in combinations(factors, 2):
        if both := sorted(one.fields & other.fields):
            message = f"{one.key} and {other.key} both set {', '.join(both)}: crossed, one undoes"
            raise UserError(f"{message} the other", document.place("factors", other.key))

    # every combination, those without a counterpart too: an exclude may name them
    columns = [factor.levels for factor in factors]
    if design == "grid":
        every = list(product(*columns))
    elif len(set(map(len, columns))) == 1:
        every = list(zip(*columns, strict=True))
    else:
        said = ", ".join(f"{factor.key} has {len(factor.levels)}" for factor in factors)
        message = f"design zip needs as many levels of each factor: {said}"
        raise UserError(message, document.place("factors"))

    # what is left out, each pattern of some combination at least
    patterns = document.data.get("exclude", [])
    if not isinstance(patterns, list):
        message = "exclude needs a list, such as [{mask_ratio: 0.9, decoder_depth: 8}]"
        raise UserError(message, document.place("exclude"))
    left_out: set[int] = set()
    for i, pattern in enumerate(patterns):
        wanted = _read_pattern(document, factors, i, pattern).items()
        matching = {n for n, each in enumerate(every) if all(each[p].value == v for p, v in wanted)}
        if not matching:
            said = ", ".join(f"{name}={format_value(value)}" for name, value in pattern.items())
            message = f"exclude {said} leaves nothing out: no combination matches it"
            raise UserError(message, document.place("exclude", i))
        left_out |= matching
    kept = [combination for n, combination in enumerate(every) if n not in left_out]
    if not kept:
        raise UserError("every combination is left out", document.place("exclude"))
    return kept


def _read_pattern(
    document: Document, factors: Sequence[FileFactor], i: int, pattern: Any
) -> dict[int, Any]:
    """Return the levels of a pattern to exclude, by the place of their factor."""
    if not isinstance(pattern, dict) or not pattern:
        message = "expected levels to leave out, such as {mask_ratio: 0.9}"
        raise UserError(message, document.place("exclude", i))
    # a factor goes by its word in the file, its field or its name in tables
    places = {name: n for n, f in enumerate(factors) for name in (f.key, f.field, f.name) if name}
    wanted: dict[int, Any] = {}
    for name, value in pattern.items():
        place = document.place("exclude", i, name)
        if name not in places:
            raise UserError(unknown("factor", name, [f.key for f in factors]), place)
        factor = factors[places[name]]
        require_once(factor.key, name, [factors[n].key for n in wanted], place)
        # 0.50 excludes the level 0.5
        if factor.field:
            value = read_setting(factor.field, value, place).value
        known = [level.value for level in factor.levels]
        if value not in known:
            what = f"level of {name}"
            raise UserError(unknown(what, format_value(value), map(format_value, known)), place)
        wanted[places[name]] = value
    return wanted


def describe_design(design: str, factors: Sequence[FileFactor], levels: int) -> str:
    """Say how many levels each factor has and how they are combined; "" for a single factor."""
    counts = [len(factor.there) for factor in factors]
    if len(counts) < 2:
        return ""
    if design == ONE_FACTOR:
        return f"one factor at a time, {' + '.join(map(str, counts))} levels"
    sign, every = (" x ", prod(counts)) if design == "grid" else (" with ", min(counts))
    excluded = f" - {every - levels} excluded" if every > levels else ""
    return f"{design}, {sign.join(map(str, counts))}{excluded} = {levels} levels"


# names --------------------------------------------------------------------------------------------


def canonical(factor: str, level: str) -> str:
    """Return a level's label in the one spelling of its field's type: 1e-3 is 0.001. Names stay.

    Args:
        factor: name as tables show it, of crossed ones too.
        level: label without its scale; an earlier report has it as its study wrote it.
    """
    # crossed factors, part by part: "mask_ratio=0.5, decoder_depth=2"
    names, parts = factor.split(" x "), level.split(", ")
    if len(names) == len(parts) > 1:
        both = zip(names, parts, strict=True)
        pairs = [(name, part.removeprefix(f"{name}=")) for name, part in both]
        return ", ".join(f"{name}={canonical(name, part)}" for name, part in pairs)

    # named levels, and fields of components that are not loaded, stay as they are
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
    """Return the recipe fields by their names in tables."""
    return {short(field): field for field in recipe_fields()}


def short(field: str) -> str:
    """Return a field's name as tables show it: its last part, where only one section has that."""
    section, last = field.split(".")
    return last if short_names()[last] == [field] else f"{section}_{last}"
