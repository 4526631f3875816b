"""Study: one question. A recipe as the baseline, factors with levels, seeds, phases.

    title: Masking ratio
    paper: figure_5                # paper_numbers.yaml; optional
    recipe: laptop                 # recipes/laptop.yaml beside the study
    factors:
      mask_ratio: [0.10, 0.50, 0.75, 0.90]
    seeds: 3                       # 0, 1, 2; or a list
    phases: [pretrain, linear_probe]

Each level changes one factor of the baseline; the others keep the baseline's value.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mae_ablation.study.document import Document, read
from mae_ablation.study.errors import UserError, unknown
from mae_ablation.study.paper import paper_tables
from mae_ablation.study.recipe import Recipe
from mae_ablation.study.settings import (
    Setting,
    field_name,
    recipe_fields,
    resolve,
    settings_of,
)

KEYS = ("title", "paper", "recipe", "factors", "seeds", "phases")
PHASES = ("pretrain", "linear_probe")


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One value of a factor, and the baseline changed to it."""

    value: Any
    recipe: Recipe

    @property
    def label(self) -> str:
        return str(self.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Factor:
    """What is varied: a recipe field ("pretrain.mask_ratio") and its levels."""

    field: str
    levels: tuple[Level, ...]

    @property
    def name(self) -> str:
        """As tables show it: the last part of the field where only one section has it."""
        section, last = self.field.split(".")
        alone = sum(field.endswith(f".{last}") for field in recipe_fields()) == 1
        return last if alone else f"{section}_{last}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A study, checked: every level is a valid recipe."""

    name: str
    """file name without .yaml; names the MLflow experiment and the report"""
    path: Path
    title: str
    paper: str | None
    """table or figure of the paper it reproduces, a key of paper_numbers.yaml"""
    recipe_name: str
    changed: tuple[str, ...]
    """`--set` arguments, in their own words: they belong into every table"""
    experiment: str
    """MLflow experiment and folder of the report: the name, with the recipe if it is not the file's
    and the changes"""
    baseline: Recipe
    factors: tuple[Factor, ...]
    seeds: tuple[int, ...]
    phases: tuple[str, ...]


def load(
    path: Path,
    *,
    recipe: str | None = None,
    changes: Sequence[str] = (),
    seeds: int | None = None,
) -> Study:
    """Read a study file.

    Args:
        recipe: another recipe than the file's (`--recipe`).
        changes: `field=value` over the recipe (`--set`).
        seeds: number of seeds instead of the file's (`--seeds`).

    Raises:
        UserError: with file and line of what cannot be.
    """
    document = read(path)
    for key in document.data:
        if key not in KEYS:
            raise UserError(unknown("key", key, KEYS), document.place(key))
    name = recipe or _text(document, "recipe", None)
    place = "--recipe" if recipe else document.place("recipe")
    if name is None:
        raise UserError("which recipe? Add `recipe: NAME`", document.place())
    settings = [*recipe_settings(name, path.parent / "recipes", place), *map(_change, changes)]
    return Study(
        name=path.stem,
        path=path,
        title=_text(document, "title", None) or path.stem,
        paper=_paper(document),
        recipe_name=name,
        changed=tuple(changes),
        experiment=_experiment(path.stem, name, document.data.get("recipe"), changes),
        baseline=resolve(settings),
        factors=_factors(document, settings),
        seeds=_seeds(document.data.get("seeds", 1), document.place("seeds"))
        if seeds is None
        else _seeds(seeds, "--seeds"),
        phases=_phases(document),
    )


def _experiment(study: str, recipe: str, usual_recipe: str | None, changes: Sequence[str]) -> str:
    """The study's name; a run at another scale is another experiment, not more points in this."""
    other = [recipe] if recipe != usual_recipe else []
    return re.sub(r"[^\w.=+-]+", "-", "-".join([study, *other, *changes]))


def recipe_settings(name: str, folder: Path, place: str) -> list[Setting]:
    """Settings of `folder`/NAME.yaml, or of the file NAME if it ends in .yaml."""
    file = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not file.is_file():
        known = [path.stem for path in folder.glob("*.yaml")]
        message = unknown("recipe", name, known) if known else f"there are no recipes in {folder}"
        raise UserError(message, place)
    return settings_of(read(file))


def _change(text: str) -> Setting:
    place = f"--set {text}"
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise UserError("expected field=value, such as pretrain.epochs=20", place)
    try:
        return Setting(field_name(name.strip(), place), yaml.safe_load(value), place)
    except (yaml.YAMLError, ValueError):
        raise UserError(f'cannot read the value "{value}"', place) from None


def _text(document: Document, key: str, default: str | None) -> str | None:
    value = document.data.get(key, default)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{key} must be text, not {value!r}", document.place(key))
    return value


def _paper(document: Document) -> str | None:
    name = _text(document, "paper", None)
    if name is not None and name not in paper_tables():
        raise UserError(unknown("paper table", name, paper_tables()), document.place("paper"))
    return name


def _factors(document: Document, settings: list[Setting]) -> tuple[Factor, ...]:
    given = document.data.get("factors")
    if not isinstance(given, dict) or not given:
        message = "factors needs a recipe field and its levels, such as `mask_ratio: [0.5, 0.75]`"
        raise UserError(message, document.place("factors"))
    return tuple(_factor(document, name, settings) for name in given)


def _factor(document: Document, name: str, settings: list[Setting]) -> Factor:
    place = document.place("factors", name)
    field = field_name(name, place, "factor")
    values = document.data["factors"][name]
    if not isinstance(values, list) or not values:
        raise UserError(f"{name} needs a list of levels, such as [1, 2]", place)
    levels: list[Level] = []
    for i, value in enumerate(values):
        place = document.place("factors", name, i)
        if any(level.value == value for level in levels):
            raise UserError(f"level {value} of {name} is given twice", place)
        recipe = resolve([*settings, Setting(field, value, place)])
        levels.append(Level(value=value, recipe=recipe))
    return Factor(field=field, levels=tuple(levels))


def _seeds(value: Any, place: str) -> tuple[int, ...]:
    if type(value) is int and value >= 1:
        return tuple(range(value))
    whole = isinstance(value, list) and value and all(type(s) is int and s >= 0 for s in value)
    if not whole:
        raise UserError(f"seeds must be a number from 1 or a list of numbers, not {value!r}", place)
    if len(set(value)) < len(value):
        raise UserError(f"a seed is given twice: {value}", place)
    return tuple(value)


def _phases(document: Document) -> tuple[str, ...]:
    value = document.data.get("phases", list(PHASES))
    place = document.place("phases")
    if not isinstance(value, list) or not value:
        raise UserError(f"phases must be a list out of {', '.join(PHASES)}", place)
    for i, name in enumerate(value):
        if name not in PHASES:
            raise UserError(unknown("phase", name, PHASES), document.place("phases", i))
    return tuple(name for name in PHASES if name in value or name == "pretrain")
