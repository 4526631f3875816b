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
    design: grid                   # or zip, of factors that set different fields; default: one
                                   # factor at a time (design.py)
    exclude: [{mask_ratio: 0.5, decoder_depth: 8}]   # of a grid or a zip
    tune:                          # every level gets to search these values (tune.py)
      linear_probe.base_lr: [0.05, 0.1, 0.2]
    budget: epochs                 # or flops: every level trains for the baseline's FLOPs
    measure: accuracy              # or hours, of pre-training
    seeds: 3                       # 0, 1, 2; or a list, or {first: 3, most: 20}: until decided
    margin: 0.5                    # points: a difference within it counts as none; optional
    phases: [pretrain, linear_probe]
    reference: table_1a_multi_mae  # other published numbers (reference.py); optional

Without `design` each level changes one factor of the baseline; the others keep the baseline's
value. In a study of a table of the paper, levels are the paper's, and the recipe says what they are
at its scale.

A value is what its field's type says (values.py): 1e-3, .001 and 0.0010 are one level, a folder may
be called 2024 and a level `no`, and `null` leaves an optional field unset.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mae_ablation.errors import UserError, unknown
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.registry import column_of, component_names, find_component
from mae_ablation.study.document import Document, read_yaml
from mae_ablation.study.factors import (
    DESIGNS,
    ONE_FACTOR,
    Factor,
    alone,
    combine,
    crossed,
    describe_design,
    read_factors,
)
from mae_ablation.study.names import file_name, require_name, tracking_keys
from mae_ablation.study.paper import paper_tables
from mae_ablation.study.recipe_file import COMMAND_LINE, find_recipe, names_of, read_recipe, text_of
from mae_ablation.study.recipe_file import phases as all_phases
from mae_ablation.study.reference import Reference, read_references
from mae_ablation.study.seeds import SeedChoice, Sequential, choose_seeds, is_counted, read_declared
from mae_ablation.study.settings import read_change, resolve, settings_in
from mae_ablation.study.shipped import recipe_folders
from mae_ablation.study.tune import Tune, applied, read_tune
from mae_ablation.study.values import format_given, format_value

STUDY_KEYS = (
    *("title", "paper", "recipe", "baseline", "factors", "design", "exclude", "tune", "budget"),
    *("measure", "seeds", "margin", "alpha", "spending", "phases", "reference"),
)


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
    recipe_path: Path
    changed: tuple[str, ...]
    """`--set` arguments, in their own words: they belong into every table"""
    experiment: str
    """MLflow experiment and folder of the report: the name, with the recipe if it is not the file's
    and what the command line changed; safe as a file's name, see names.py"""
    variant: str
    """in words, what `experiment` has behind the study's name; "" for the study as it is written"""
    baseline: Recipe
    factors: tuple[Factor, ...]
    budget: Literal["epochs", "flops"]
    measure: Literal["accuracy", "hours"]
    seeds: tuple[int, ...]
    """in the order they are taken; of a study until decided the most there may be"""
    declared: Sequential
    """when it is looked at, and what it calls decided"""
    seed_flags: tuple[str, ...]
    """flags that ask for these seeds; empty: the study's file does"""
    phases: tuple[str, ...]
    design: Literal["one_factor", "grid", "zip"]
    design_words: str
    """levels of each factor and how they are combined; "" for a single factor"""
    tune: Tune | None
    """values that every level gets to search; None: none"""
    skipped: tuple[str, ...]
    """evaluations of the study that are not run"""
    skipped_by: str
    """"--phases", or the recipe that leaves them out"""
    asked_phases: tuple[str, ...] = ()
    """`--phases`, if it was given: it belongs into every table, too"""
    references: tuple[Reference, ...] = ()
    """published numbers beside the paper's"""
    more: str = ""
    """recipe that decides more than this one; "": none is named"""

    @property
    def tries(self) -> int:
        """Combinations of tuned values that every level is trained with."""
        return len(self.tune.combinations) if self.tune else 1

    @property
    def grows(self) -> bool:
        """Tell whether it takes seeds until rows are decided."""
        return len(self.declared.looks) > 1

    @property
    def may_grow(self) -> bool:
        """Tell whether `--until-decided` may be asked of it."""
        judged = bool(self.columns) and self.measure == "accuracy"
        return judged and not self.tune and is_counted(self.seeds)

    @property
    def columns(self) -> tuple[str, ...]:
        """Evaluations a table shows: training from scratch is a row under fine-tuning."""
        asked = {column_of(name) for name in self.phases[1:]}
        return tuple(name for name in component_names("evaluation") if name in asked)

    @property
    def tracking_keys(self) -> dict[str, str]:
        """Each factor's key in MLflow, by its name."""
        # a run also has a seed, a recipe and what is tuned
        tried = self.tune.combinations[0] if self.tune else ()
        taken = ["seed", "recipe", *(self.tune.name_of(setting.field) for setting in tried)]
        return tracking_keys([factor.name for factor in self.factors], taken)

    def with_recipes(self, change: Callable[[Recipe], Recipe]) -> "Study":
        """Return the study with every recipe, the baseline's and the levels', changed alike."""
        factors = tuple(
            replace(f, levels=tuple(replace(v, recipe=change(v.recipe)) for v in f.levels))
            for f in self.factors
        )
        return replace(self, baseline=change(self.baseline), factors=factors)


def load_study(
    path: Path,
    *,
    recipe: str | None = None,
    recipe_place: str = COMMAND_LINE,
    changes: Sequence[str] = (),
    seeds: SeedChoice = None,
    phases: Sequence[str] = (),
    until_decided: bool = False,
    most: int | None = None,
    read: Callable[[Path], Document] = read_yaml,
) -> Study:
    """Read a study file.

    Args:
        recipe: another recipe than the file's (`--recipe`).
        recipe_place: the place of that name, for errors.
        changes: `field=value` over the recipe and the study's baseline (`--set`).
        seeds: number of seeds, or the seeds, instead of the file's (`--seeds`).
        phases: instead of the file's (`--phases`); nothing of them is skipped.
        until_decided: take seeds until rows are decided (`--until-decided`).
        most: seeds that it may take then (`--most`).
        read: reads a document, of the study and of its recipe.
    """
    # what is asked for is refused before the file, whose words may all be right
    for phase in phases:
        if phase not in all_phases():
            raise UserError(unknown("phase", phase, all_phases()), "--phases")
    document = read(path)
    require_name(path.stem, "the study's file", str(path))
    require_keys(document, STUDY_KEYS)

    # the recipe, and what the paper's levels are at its scale
    name = recipe or text_of(document, "recipe")
    place = recipe_place if recipe else document.place("recipe")
    if name is None:
        raise UserError("which recipe? Add `recipe: NAME`", document.place())
    file = read_recipe(find_recipe(name, path.parent, place), read, recipe_folders(path.parent))
    paper = text_of(document, "paper")
    if paper is not None and paper not in paper_tables():
        raise UserError(unknown("paper table", paper, paper_tables()), document.place("paper"))
    scaled = [
        (setting, file.here(setting) if paper else setting)
        for setting in (settings_in(document, "baseline") if "baseline" in document.data else ())
    ]
    for setting, here in scaled:
        if here is None:
            message = f"{setting.field} {format_value(setting.value)} has no counterpart"
            raise UserError(f"{message} in this recipe", setting.place)
    settings = [*file.settings, *(here for _, here in scaled), *map(read_change, changes)]

    # the phases, those left out for their price too
    wanted = names_of(document, "phases", all_phases(), all_phases()[:2])
    kept = tuple(phases) or tuple(phase for phase in wanted if phase not in file.skip)
    kept = tuple(phase for phase in all_phases() if phase in kept or phase == "pretrain")
    kept = _without_lone_rows(document, kept, wanted, phases)
    skipped_by = "--phases" if phases else f"recipe {name}"

    # the baseline, the factors, and what each level searches
    baseline = resolve(settings)
    varied = read_factors(document, file if paper else None)
    design = _choice(document, "design", DESIGNS)
    if design != ONE_FACTOR:
        factors = (crossed(varied, combine(document, design, varied), settings),)
    elif "exclude" in document.data:
        message = "exclude leaves combinations out of `design: grid` or `design: zip`"
        raise UserError(message, document.place("exclude"))
    else:
        factors = tuple(alone(each, settings) for each in varied)
    tune = read_tune(document, settings, varied, kept, wanted, skipped_by)
    for recipe_of in [baseline, *(level.recipe for f in factors for level in f.levels)]:
        for values in tune.combinations if tune else ():
            applied(recipe_of, values)  # raises for a value that a level cannot have

    # a run that the command line has changed is another experiment, not more points in this
    parts = [name] if name != document.data.get("recipe") else []
    parts += [f"phases={'+'.join(phases)}"] if phases else []
    variant = "-".join([*parts, *changes])
    taken = choose_seeds(document, seeds, until_decided, most)

    # all that anybody asks of a study later, so that its file is read once
    study = Study(
        name=path.stem,
        path=path,
        title=title_of(document),
        paper=paper,
        recipe_name=name,
        recipe_path=file.path,
        changed=tuple(changes),
        experiment=experiment_name(path.stem, variant),
        variant=variant,
        baseline=baseline,
        factors=factors,
        design=design,
        design_words=describe_design(design, varied, len(factors[0].levels)),
        tune=tune,
        budget=_choice(document, "budget", ("epochs", "flops")),
        measure=_choice(document, "measure", ("accuracy", "hours")),
        seeds=taken.seeds,
        declared=read_declared(document, taken),
        seed_flags=taken.flags if seeds is not None or until_decided else (),
        phases=kept,
        skipped=tuple(phase for phase in wanted if phase not in kept),
        skipped_by=skipped_by,
        asked_phases=tuple(phases),
        more=file.more,
    )
    _require_decidable(study, document)
    return replace(study, references=read_references(document, study))


def require_keys(document: Document, known: Sequence[str]) -> None:
    """Raise a UserError for a key of a file that means nothing there."""
    for key in document.data:
        if key not in known:
            raise UserError(unknown("key", key, known), document.place(key))


def _require_decidable(study: Study, document: Document) -> None:
    """Refuse looks and a margin without an accuracy to decide by, and looks beside a search."""
    # looks are said in the file, or asked for by the command
    place = document.place("seeds") if isinstance(document.data.get("seeds"), dict) else ""
    if (study.grows or study.declared.margin) and (study.measure == "hours" or not study.columns):
        what = "seeds until decided" if study.grows else "a margin"
        place = (place or "--until-decided") if study.grows else document.place("margin")
        raise UserError(f"{what} needs an accuracy: add an evaluation to phases", place)
    if study.grows and study.tune:
        message = "tune chooses values once every seed is there: fix the seeds, or remove tune"
        raise UserError(message, place or "--until-decided")


def _without_lone_rows(
    document: Document, kept: tuple[str, ...], wanted: Sequence[str], asked: Sequence[str]
) -> tuple[str, ...]:
    """Leave out training from scratch, a row under fine-tuning, where that is left out."""
    lone = [name for name in kept[1:] if column_of(name) not in kept]
    for name in lone:
        column = column_of(name)
        if asked or column not in wanted:
            place = "--phases" if asked else document.place("phases")
            title = find_component("evaluation", column).cls.title.lower()
            raise UserError(f"{name} is a row under {title}: add {column}", place)
    return tuple(name for name in kept if name not in lone)


def experiment_name(study: str, variant: str) -> str:
    """Return the name of the experiment and the report of a study or a suite."""
    return file_name(f"{study}-{variant}" if variant else study)


def title_of(document: Document) -> str:
    """Return the title, in one line; the file's name where there is none."""
    said = text_of(document, "title") or document.path.stem
    title = said.rstrip("\n")  # a block of YAML's, | or >, ends with one
    require_name(title, "the title", document.place("title"))
    return title


def _choice(document: Document, key: str, known: tuple[str, ...]) -> str:
    """Return one of the words that a key may have, by default the first."""
    value = document.data.get(key, known[0])
    if value not in known:
        said = value if isinstance(value, str) else format_given(value)
        raise UserError(unknown(key, said, known), document.place(key))
    return str(value)
