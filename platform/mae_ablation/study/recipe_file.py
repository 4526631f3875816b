"""Recipe files: settings over the defaults, and how a recipe takes a study's question to its scale.

    data: {name: cifar10, image_size: 32}
    pretrain: {epochs: 100}
    levels:                           # the paper's level: the level here; null: none here
      decoder_width: {128: 16, 256: 32, 512: 64, 768: 96, 1024: 128}
    skip: [finetune]                  # evaluations too dear at this scale

`levels` is applied in studies that reproduce a table of the paper; their tables show both.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mae_ablation.study.document import Document, read
from mae_ablation.study.errors import UserError, unknown
from mae_ablation.study.settings import Setting, field_name, section_settings

EVALUATIONS = ("linear_probe", "knn", "finetune", "partial", "scratch")
PHASES = ("pretrain", *EVALUATIONS)


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeFile:
    """What a recipe file says."""

    settings: tuple[Setting, ...]
    levels: dict[str, dict[Any, Setting]]
    """by field, then by the paper's value: the value here"""
    skip: tuple[str, ...]
    """evaluations that are left out unless asked for on the command line"""

    def here(self, setting: Setting) -> Setting | None:
        """A setting in the paper's terms as it is at this scale; None if it has no counterpart."""
        pairs = self.levels.get(setting.field, {})
        scaled = next((here for paper, here in pairs.items() if paper == setting.value), None)
        if scaled is None:
            return setting
        return None if scaled.value is None else replace(setting, value=scaled.value)


def read_recipe(name: str, folder: Path, place: str) -> RecipeFile:
    """`folder`/NAME.yaml, or the file NAME if it ends in .yaml.

    Raises:
        UserError: no such recipe, or a line of it that cannot be.
    """
    file = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not file.is_file():
        known = [path.stem for path in folder.glob("*.yaml")]
        message = unknown("recipe", name, known) if known else f"there are no recipes in {folder}"
        raise UserError(message, place)
    document = read(file)
    sections = [key for key in document.data if key not in ("levels", "skip")]
    return RecipeFile(
        settings=tuple(s for section in sections for s in section_settings(document, section)),
        levels=_levels(document),
        skip=names_of(document, "skip", EVALUATIONS, ()),
    )


def _levels(document: Document) -> dict[str, dict[Any, Setting]]:
    given = document.data.get("levels", {})
    if not isinstance(given, dict):
        raise UserError("levels must hold `field: {paper: here}` lines", document.place("levels"))
    out = {}
    for name, pairs in given.items():
        place = document.place("levels", name)
        field = field_name(name, place, "levels key")
        if not isinstance(pairs, dict):
            raise UserError(f"{name} needs pairs, such as {{512: 64}}", place)
        out[field] = {
            paper: Setting(field, here, document.place("levels", name, paper))
            for paper, here in pairs.items()
        }
    return out


def names_of(
    document: Document, key: str, known: tuple[str, ...], default: tuple[str, ...]
) -> tuple[str, ...]:
    """A list of known names under `key`, in the order of `known`."""
    value = document.data.get(key, list(default))
    place = document.place(key)
    if not isinstance(value, list):
        raise UserError(f"{key} must be a list out of {', '.join(known)}", place)
    what = {"phases": "phase", "skip": "evaluation"}.get(key, key)
    for i, name in enumerate(value):
        if name not in known:
            raise UserError(unknown(what, name, known), document.place(key, i))
    return tuple(name for name in known if name in value)
