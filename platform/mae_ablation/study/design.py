"""Design: which combinations of the factors' levels a study trains.

    (no key)         one factor at a time: each level changes one factor of the baseline
    design: grid     every level of a factor with every level of the others
    design: zip      the factors' first levels together, then their second ones, and so on
    exclude:         combinations that a grid or a zip leaves out; one that names some of the
      - {mask_ratio: 0.9, decoder_depth: 8}      # factors stands for all that match it

A grid or a zip is one factor, whose levels are the combinations: "mask_ratio x decoder_depth" with
"mask_ratio=0.5, decoder_depth=2".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations as pairs_of
from itertools import product
from math import prod
from typing import Any

from mae_ablation.errors import UserError, unknown
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.study.document import Document
from mae_ablation.study.settings import Setting, read_setting, require_once, resolve
from mae_ablation.study.values import format_value

ONE_FACTOR = "one_factor"
DESIGNS = (ONE_FACTOR, "grid", "zip")
Combination = tuple["Said", ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A level as a study's file says it."""

    value: Any
    """in its field's type, or a level's name"""
    settings: tuple[Setting, ...] | None
    """what it is at the recipe's scale; None: it has no counterpart there"""
    here: str = ""
    """what the scale made of it, where that is another value"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Varied:
    """A factor as a study's file says it."""

    key: str
    """its word in the file"""
    field: str | None
    name: str
    levels: tuple[Said, ...]

    @property
    def fields(self) -> set[str]:
        """That its levels set."""
        return {s.field for level in self.levels for s in level.settings or ()}

    @property
    def left_out(self) -> tuple[str, ...]:
        left = [level.value for level in self.levels if level.settings is None]
        return tuple(map(format_value, left))


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How many levels a design has, and how many one factor at a time would have."""

    of_factors: tuple[int, ...]
    excluded: int
    apart: int
    """1: no combination is the baseline, which is a row of its own"""
    levels: int
    """combinations that are left, or levels of all factors, and the baseline, each once"""
    one_factor: int
    grid: int


def combinations(document: Document, design: str, factors: Sequence[Varied]) -> list[Combination]:
    """Return the levels of a grid or a zip, one of each factor, in the order of the file.

    Raises:
        UserError: a design of one factor, two factors of one field, lists of unequal length, an
            unknown level to exclude, or nothing left.
    """
    if len(factors) < 2:
        raise UserError(f"design {design} needs two factors or more", document.place("design"))
    for one, other in pairs_of(factors, 2):
        if both := sorted(one.fields & other.fields):
            message = f"{one.key} and {other.key} both set {', '.join(both)}: crossed, one undoes"
            raise UserError(f"{message} the other", document.place("factors", other.key))
    columns = [factor.levels for factor in factors]
    if design == "zip":
        counts = {factor.key: len(factor.levels) for factor in factors}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{name} has {count}" for name, count in counts.items())
            message = f"design zip needs as many levels of each factor: {said}"
            raise UserError(message, document.place("factors"))
    every = list(zip(*columns, strict=True)) if design == "zip" else list(product(*columns))
    left_out = _excluded(document, factors, every)
    kept = [combination for i, combination in enumerate(every) if i not in left_out]
    if not kept:
        raise UserError("every combination is left out", document.place("exclude"))
    return kept


def _excluded(
    document: Document, factors: Sequence[Varied], every: Sequence[Combination]
) -> set[int]:
    """Places of the combinations that `exclude` leaves out."""
    given = document.data.get("exclude", [])
    if not isinstance(given, list):
        message = "exclude needs a list, such as [{mask_ratio: 0.9, decoder_depth: 8}]"
        raise UserError(message, document.place("exclude"))
    out: set[int] = set()
    for i, pattern in enumerate(given):
        wanted = _pattern(document, factors, i, pattern)
        matching = {
            n
            for n, combination in enumerate(every)
            if all(combination[place].value == value for place, value in wanted.items())
        }
        if not matching:
            message = f"exclude {_words(pattern)} leaves nothing out: no combination matches it"
            raise UserError(message, document.place("exclude", i))
        out |= matching
    return out


def _pattern(document: Document, factors: Sequence[Varied], i: int, pattern: Any) -> dict[int, Any]:
    """Level by place of its factor."""
    if not isinstance(pattern, dict) or not pattern:
        message = "expected levels to leave out, such as {mask_ratio: 0.9}"
        raise UserError(message, document.place("exclude", i))
    places = {name: n for n, f in enumerate(factors) for name in (f.key, f.field, f.name) if name}
    wanted = {}
    for name, value in pattern.items():
        place = document.place("exclude", i, name)
        if name not in places:
            raise UserError(unknown("factor", name, [f.key for f in factors]), place)
        factor = factors[places[name]]
        require_once(factor.key, name, [factors[n].key for n in wanted], place)
        if factor.field:
            value = read_setting(factor.field, value, place).value
        known = [level.value for level in factor.levels]
        if value not in known:
            what = f"level of {name}"
            raise UserError(unknown(what, format_value(value), map(format_value, known)), place)
        wanted[places[name]] = value
    return wanted


def _words(pattern: dict) -> str:
    return ", ".join(f"{name}={format_value(value)}" for name, value in pattern.items())


def size_of(
    design: str,
    factors: Sequence[Varied],
    kept: Sequence[Combination],
    settings: Sequence[Setting],
    baseline: Recipe,
) -> Size:
    """Sizes of a design and of the other ones. Levels without a counterpart do not count.

    `kept`: combinations of a crossed design, those without a counterpart among them.
    """
    there = [[level for level in factor.levels if level.settings is not None] for factor in factors]
    changed = [
        sum(not _is(baseline, [*settings, *level.settings]) for level in levels) for levels in there
    ]
    one_factor = 1 + sum(changed)
    grid = prod(map(len, there))
    every = {ONE_FACTOR: one_factor, "grid": grid, "zip": min(map(len, there))}[design]
    real = sum(all(said.settings is not None for said in combination) for combination in kept)
    levels, apart = one_factor, 0
    if design != ONE_FACTOR:
        with_baseline = any(
            _is(baseline, [*settings, *(s for said in each for s in said.settings or ())])
            for each in kept
        )
        apart = 0 if with_baseline else 1
        levels = real + apart
    return Size(
        of_factors=tuple(map(len, there)),
        excluded=max(0, every - (levels - apart)),
        apart=apart,
        levels=levels,
        one_factor=one_factor,
        grid=grid,
    )


def _is(baseline: Recipe, settings: Sequence[Setting]) -> bool:
    """Tell whether these settings are the baseline; what a level cannot be alone is not."""
    try:
        return resolve(settings) == baseline
    except UserError:
        return False


def design_line(design: str, size: Size | None, seeds: int, tries: int = 1) -> list[str]:
    """Return what the design of a study costs, and what the other one would; none for a single
    factor.

    `tries`: combinations of tuned values that every level is trained with.
    """
    if size is None or len(size.of_factors) < 2:
        return []
    each = f"x {seeds} seed{'s' * (seeds > 1)}" + (f" x {tries} tries" if tries > 1 else "")
    trials = size.levels * seeds * tries
    if design == ONE_FACTOR:
        parts = " + ".join(map(str, size.of_factors))
        other = f"(grid: {size.grid} levels, {size.grid * seeds * tries} trials)"
        name = "one factor at a time"
        left = f", baseline shared = {size.levels} levels"
    else:
        by = " x " if design == "grid" else " with "
        parts = by.join(map(str, size.of_factors))
        cost = size.one_factor * seeds * tries
        other = f"(one factor at a time: {size.one_factor} levels, {cost} trials)"
        name = design
        left = f" - {size.excluded} excluded" if size.excluded else ""
        left += " + baseline" if size.apart else ""
        left += f" = {size.levels} levels"
    return [f"design: {name}, {parts}{left} {each} = {trials} trials {other}"]
