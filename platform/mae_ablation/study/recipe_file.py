"""Recipe files: settings over the defaults, and how a recipe takes a study's question to its scale.

    data: {name: cifar10, image_size: 32}
    pretrain: {epochs: 100}
    levels:                           # the paper's level: the level here; null: none here
      decoder_width: {128: 16, 256: 32, 512: 64, 768: 96, 1024: 128}
    skip: [finetune]                  # evaluations too dear at this scale
    more: overnight                   # the recipe to go to for results that decide

`levels` is applied in studies that reproduce a table of the paper; their tables show both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mae_ablation.errors import UserError, unknown
from mae_ablation.registry import component_names, unknown_component
from mae_ablation.store.paths import expanded
from mae_ablation.study.document import Document, Text, read_yaml, text_at
from mae_ablation.study.settings import (
    Setting,
    field_name,
    read_setting,
    require_once,
    section_settings,
)
from mae_ablation.study.shipped import recipe_folders
from mae_ablation.study.values import format_value, is_null

COMMAND_LINE = "--recipe"
"""the place of a recipe that the command line names"""


def phases() -> tuple[str, ...]:
    """Return all that a study's `phases` may name."""
    return ("pretrain", *component_names("evaluation"))


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeFile:
    """A recipe file, read and checked line by line."""

    path: Path
    settings: tuple[Setting, ...]
    levels: dict[str, dict[Any, Setting]]
    """the value here, by field and then by the paper's value"""
    skip: tuple[str, ...]
    """evaluations that are left out unless asked for on the command line"""
    more: str = ""
    """recipe that trains long enough to decide more, for `--recipe`; its reports say so"""

    def here(self, setting: Setting) -> Setting | None:
        """Return a setting of the paper as it is at this scale; None: it has no counterpart."""
        pairs = self.levels.get(setting.field, {})
        scaled = pairs.get(setting.value)
        if scaled is None:
            return setting
        return None if scaled.value is None else replace(setting, value=scaled.value)


def find_recipe(name: str, folder: Path, place: str) -> Path:
    """Return the file of a recipe.

    A name is NAME.yaml in `folder`/recipes, or else among the recipes that ship. A file name is
    looked for beside the study, which is in `folder`, in `folder`/recipes and from the working
    directory; if it is from the command line, there first.
    """
    # a name, as it stands in a study
    recipes, shipped = recipe_folders(folder)
    if not name.endswith((".yaml", ".yml")):
        for file in (recipes / f"{name}.yaml", shipped / f"{name}.yaml"):
            if file.is_file():
                return file
        known = [path.stem for each in (recipes, shipped) for path in each.glob("*.yaml")]
        if (folder / f"{name}.yaml").is_file():
            known.append(f"{name}.yaml")  # a file beside the study is named with its ending
        raise UserError(unknown("recipe", name, known), place)

    # a file, as it is typed or as it stands in a study that came with it
    file_name = expanded(name)
    beside, here = [folder / file_name, recipes / file_name], [file_name]
    places = list(dict.fromkeys([*here, *beside] if place == COMMAND_LINE else [*beside, *here]))
    for file in places:
        if file.is_file():
            return file
    looked = ", ".join(map(str, dict.fromkeys(file.absolute().parent for file in places)))
    near = [path.name for path in sorted([*folder.glob("*.yaml"), *recipes.glob("*.yaml")])]
    raise UserError(f"{unknown('recipe', name, near)}; looked in {looked}", place)


def read_recipe(
    file: Path, read: Callable[[Path], Document] = read_yaml, recipes: Sequence[Path] = ()
) -> RecipeFile:
    """Read a recipe file.

    Args:
        read: reads a document; many studies share a recipe, which is then read once.
        recipes: folders where `--recipe` looks for a name; none: the file's.
    """
    # all that is no section of settings has a meaning of its own
    document = read(file)
    sections = [key for key in document.data if key not in ("levels", "skip", "more")]
    return RecipeFile(
        path=file,
        settings=tuple(s for section in sections for s in section_settings(document, section)),
        levels=_levels(document),
        skip=names_of(document, "skip", component_names("evaluation"), ()),
        more=_more(document, file, recipes or [file.parent]),
    )


def _more(document: Document, file: Path, recipes: Sequence[Path]) -> str:
    """Read which recipe to go to, as `--recipe` finds it beside the study: a name, or a file."""
    # a recipe file from elsewhere means the one beside itself
    if (name := text_of(document, "more")) is None:
        return ""
    known = [path for folder in (*recipes, file.parent) for path in folder.glob("*.yaml")]
    found = next((path for path in known if path.stem == name and path != file), None)
    if found is None:
        names = sorted({path.stem for path in known if path != file})
        raise UserError(unknown("recipe", name, names), document.place("more"))
    return name if found.parent in recipes else str(found)


def _levels(document: Document) -> dict[str, dict[Any, Setting]]:
    given = document.data.get("levels", {})
    if not isinstance(given, dict):
        raise UserError("levels must hold `field: {paper: here}` lines", document.place("levels"))
    out = {}
    for name, pairs in given.items():
        place = document.place("levels", name)
        field = field_name(name, place, "levels key")
        require_once(field, name, out, place)
        if not isinstance(pairs, dict):
            raise UserError(f"{name} needs pairs, such as {{512: 64}}", place)
        # keys are the paper's levels, read as the field's type; null has no counterpart here
        out[field] = {}
        for paper, here in pairs.items():
            place = document.place("levels", name, paper)
            level = read_setting(field, Text(paper), place).value
            if level in out[field]:
                raise UserError(f"level {format_value(level)} of {name} is given twice", place)
            absent = is_null(here, text=False)
            scaled = Setting(field, None, place) if absent else read_setting(field, here, place)
            out[field][level] = scaled
    return out


def text_of(document: Document, key: str) -> str | None:
    """Return a key's text as it is written; None where the key is absent, empty or null."""
    value = document.data.get(key)
    return None if is_null(value) else text_at(value, key, document.place(key))


def names_of(
    document: Document, key: str, known: tuple[str, ...], default: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the names listed under `key`, in the order of `known`."""
    value = document.data.get(key, list(default))
    place = document.place(key)
    if not isinstance(value, list):
        raise UserError(f"{key} must be a list out of {', '.join(known)}", place)
    what = {"phases": "phase", "skip": "evaluation"}.get(key, key)
    # the place is the word's, as long lists go over many lines
    for i, name in enumerate(value):
        if name not in known:
            said = name if isinstance(name, str) else format_value(name)
            raise UserError(unknown_component(what, said, known), document.place(key, i))
    return tuple(name for name in known if name in value)
