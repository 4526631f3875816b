"""Study: one question. A recipe as the baseline, factors with levels, seeds, phases.

    title: Mask sampling
    paper: table_1f                # paper_numbers.yaml; optional
    recipe: laptop                 # recipes/laptop.yaml beside the study
    baseline: {mask_ratio: 0.75}   # over the recipe; optional
    factors:
      mask_ratio: [0.50, 0.75]     # a recipe field and its levels, or
      mask_sampling:               # named levels, each a set of fields
        random_75: {}
        block_50: {mask_sampling: block, mask_ratio: 0.5}
    budget: epochs                 # or flops: every level trains for the baseline's FLOPs
    measure: accuracy              # or hours, of pre-training
    seeds: 3                       # 0, 1, 2; or a list
    phases: [pretrain, linear_probe]

Each level changes one factor of the baseline; the others keep the baseline's value. In a study of a
table of the paper, levels are the paper's, and the recipe says what they are at its scale.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from mae_ablation.study.document import Document, read
from mae_ablation.study.errors import UserError, unknown
from mae_ablation.study.paper import paper_tables
from mae_ablation.study.recipe import Recipe
from mae_ablation.study.recipe_file import EVALUATIONS, PHASES, RecipeFile, names_of, read_recipe
from mae_ablation.study.settings import (
    Setting,
    field_name,
    recipe_fields,
    resolve,
    settings_in,
)

KEYS = (
    "title",
    "paper",
    "recipe",
    "baseline",
    "factors",
    "budget",
    "measure",
    "seeds",
    "phases",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One value of a factor, and the baseline changed to it."""

    value: Any
    """as the study says it: a field's value, or a level's name"""
    recipe: Recipe
    here: str = ""
    """what the recipe's scale made of it, where that is another value"""

    @property
    def name(self) -> str:
        """The study's word for it, and whether it stands in for what the paper used."""
        return f"{self.value} (stand-in, in-domain)" if self.recipe.stand_in else str(self.value)

    @property
    def label(self) -> str:
        notes = [f"here {self.here}"] if self.here else []
        notes += ["stand-in, in-domain"] if self.recipe.stand_in else []
        return f"{self.value} ({'; '.join(notes)})" if notes else str(self.value)


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
    and what the command line changed"""
    baseline: Recipe
    factors: tuple[Factor, ...]
    budget: Literal["epochs", "flops"]
    measure: Literal["accuracy", "hours"]
    seeds: tuple[int, ...]
    phases: tuple[str, ...]
    skipped: tuple[str, ...]
    """evaluations of the study that the recipe leaves out"""
    asked_phases: tuple[str, ...] = ()
    """`--phases`, if it was given: it belongs into every table, too"""

    @property
    def columns(self) -> tuple[str, ...]:
        """Evaluations a table shows: training from scratch is a row under fine-tuning."""
        asked = ["finetune" if name == "scratch" else name for name in self.phases[1:]]
        return tuple(name for name in EVALUATIONS if name in asked)

    def with_recipes(self, change: Callable[[Recipe], Recipe]) -> "Study":
        """The study with every recipe, the baseline's and the levels', changed alike."""
        factors = tuple(
            replace(f, levels=tuple(replace(v, recipe=change(v.recipe)) for v in f.levels))
            for f in self.factors
        )
        return replace(self, baseline=change(self.baseline), factors=factors)


def load(
    path: Path,
    *,
    recipe: str | None = None,
    changes: Sequence[str] = (),
    seeds: int | Sequence[int] | None = None,
    phases: Sequence[str] = (),
) -> Study:
    """Read a study file.

    Args:
        recipe: another recipe than the file's (`--recipe`).
        changes: `field=value` over the recipe and the study's baseline (`--set`).
        seeds: number of seeds, or the seeds, instead of the file's (`--seeds`).
        phases: instead of the file's (`--phases`); nothing of them is skipped.

    Raises:
        UserError: with file and line of what cannot be.
    """
    document = read(path)
    for key in document.data:
        if key not in KEYS:
            raise UserError(unknown("key", key, KEYS), document.place(key))
    name = recipe or text_of(document, "recipe")
    place = "--recipe" if recipe else document.place("recipe")
    if name is None:
        raise UserError("which recipe? Add `recipe: NAME`", document.place())
    file = read_recipe(name, path.parent / "recipes", place)
    paper = _paper(document)
    settings = [*file.settings, *_baseline(document, file, paper), *map(_change, changes)]
    wanted = _phases(document)
    kept = tuple(phases) or tuple(phase for phase in wanted if phase not in file.skip)
    return Study(
        name=path.stem,
        path=path,
        title=text_of(document, "title") or path.stem,
        paper=paper,
        recipe_name=name,
        changed=tuple(changes),
        experiment=_experiment(path.stem, name, document.data.get("recipe"), changes, phases),
        baseline=resolve(settings),
        factors=_factors(document, settings, file if paper else None),
        budget=_choice(document, "budget", ("epochs", "flops")),
        measure=_choice(document, "measure", ("accuracy", "hours")),
        seeds=seeds_of(document.data.get("seeds", 1), document.place("seeds"))
        if seeds is None
        else seeds_of(seeds if isinstance(seeds, int) else list(seeds), "--seeds"),
        phases=tuple(p for p in PHASES if p in kept or p == "pretrain"),
        skipped=tuple(phase for phase in wanted if phase not in kept),
        asked_phases=tuple(phases),
    )


def _experiment(
    study: str,
    recipe: str,
    usual_recipe: str | None,
    changes: Sequence[str],
    phases: Sequence[str],
) -> str:
    """The study's name; a run at another scale is another experiment, not more points in this."""
    other = [recipe] if recipe != usual_recipe else []
    other += [f"phases={'+'.join(phases)}"] if phases else []
    return re.sub(r"[^\w.=+-]+", "-", "-".join([study, *other, *changes]))


def _change(text: str) -> Setting:
    place = f"--set {text}"
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise UserError("expected field=value, such as pretrain.epochs=20", place)
    try:
        return Setting(field_name(name.strip(), place), yaml.safe_load(value), place)
    except (yaml.YAMLError, ValueError):
        raise UserError(f'cannot read the value "{value}"', place) from None


def text_of(document: Document, key: str) -> str | None:
    value = document.data.get(key)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{key} must be text, not {value!r}", document.place(key))
    return value


def _choice(document: Document, key: str, known: tuple[str, ...]) -> str:
    value = document.data.get(key, known[0])
    if value not in known:
        raise UserError(unknown(key, value, known), document.place(key))
    return value


def _paper(document: Document) -> str | None:
    name = text_of(document, "paper")
    if name is not None and name not in paper_tables():
        raise UserError(unknown("paper table", name, paper_tables()), document.place("paper"))
    return name


def _baseline(document: Document, file: RecipeFile, paper: str | None) -> list[Setting]:
    if "baseline" not in document.data:
        return []
    given = settings_in(document, "baseline")
    here = [file.here(setting) if paper else setting for setting in given]
    for setting, scaled in zip(given, here, strict=True):
        if scaled is None:
            message = f"{setting.field} {setting.value} has no counterpart in this recipe"
            raise UserError(message, setting.place)
    return here


def _factors(
    document: Document, settings: list[Setting], file: RecipeFile | None
) -> tuple[Factor, ...]:
    given = document.data.get("factors")
    if not isinstance(given, dict) or not given:
        message = "factors needs a recipe field and its levels, such as `mask_ratio: [0.5, 0.75]`"
        raise UserError(message, document.place("factors"))
    return tuple(_factor(document, name, settings, file) for name in given)


def _factor(
    document: Document, name: str, settings: list[Setting], file: RecipeFile | None
) -> Factor:
    """`file`: the recipe whose scale applies; None: levels are meant as they stand."""
    place = document.place("factors", name)
    values = document.data["factors"][name]
    named = isinstance(values, dict) and bool(values)
    field = None if named else field_name(name, place, "factor")
    if not isinstance(values, dict | list) or not values:
        raise UserError(f"{name} needs a list of levels, such as [1, 2]", place)
    levels: list[Level] = []
    left_out: list[str] = []
    for i, value in enumerate(values):
        key = ("factors", name, value if named else i)
        place = document.place(*key)
        if value in list(values)[:i]:
            raise UserError(f"level {value} of {name} is given twice", place)
        said = settings_in(document, *key) if named else [Setting(field, value, place)]
        here = [file.here(setting) if file else setting for setting in said]
        if None in here:
            left_out.append(str(value))
            continue
        changed = "; ".join(
            f"{_short(a.field)} {a.value} is {b.value}" if named else str(b.value)
            for a, b in zip(said, here, strict=True)
            if a.value != b.value
        )
        levels.append(Level(value=value, recipe=resolve([*settings, *here]), here=changed))
    return Factor(
        field=field,
        name=str(name) if named else _short(field),
        levels=tuple(levels),
        left_out=tuple(left_out),
    )


def _short(field: str) -> str:
    section, last = field.split(".")
    alone = sum(other.endswith(f".{last}") for other in recipe_fields()) == 1
    return last if alone else f"{section}_{last}"


def seeds_of(value: Any, place: str) -> tuple[int, ...]:
    """Seeds 0 to n - 1 of a number, or those of a list."""
    if type(value) is int and value >= 1:
        return tuple(range(value))
    whole = isinstance(value, list) and value and all(type(s) is int and s >= 0 for s in value)
    if not whole:
        raise UserError(f"seeds must be a number from 1 or a list of numbers, not {value!r}", place)
    if len(set(value)) < len(value):
        raise UserError(f"a seed is given twice: {value}", place)
    return tuple(value)


def _phases(document: Document) -> tuple[str, ...]:
    if document.data.get("phases", True) in ([], None):
        raise UserError(
            f"phases must be a list out of {', '.join(PHASES)}", document.place("phases")
        )
    return names_of(document, "phases", PHASES, ("pretrain", "linear_probe"))
