"""Suite: a study of studies, such as all of the paper's Table 1. Equal trials are trained once.

title: Table 1, Figures 5 and 7
studies: [mask_ratio, decoder_depth]     # files beside this one
recipe: laptop                           # optional: instead of theirs
seeds: 3                                 # optional: instead of theirs
"""

from collections.abc import Sequence
from pathlib import Path

from mae_ablation.study.document import Document, read
from mae_ablation.study.errors import UserError, unknown
from mae_ablation.study.study import Study, load, seeds_of, text_of

KEYS = ("title", "studies", "recipe", "seeds")
Seeds = int | Sequence[int] | None
Wanted = tuple[Path, str | None, Seeds]


def load_all(
    paths: Sequence[Path],
    *,
    recipe: str | None = None,
    changes: Sequence[str] = (),
    seeds: int | None = None,
    phases: Sequence[str] = (),
) -> list[Study]:
    """The studies of these files, suites replaced by theirs, each once. Arguments as in `load`.

    Raises:
        UserError: with file and line of what cannot be.
    """
    found: dict[Path, Study] = {}
    for path in paths:
        document = read(path)
        if "studies" not in document.data:
            wanted = [(path, recipe, seeds)]
        else:
            wanted = _members(document, recipe, seeds)
        for member, its_recipe, its_seeds in wanted:
            study = load(member, recipe=its_recipe, changes=changes, seeds=its_seeds, phases=phases)
            if found.setdefault(member, study) != study:
                message = f"{path} asks for it with another recipe or other seeds: name one of them"
                raise UserError(message, str(member))
    return list(found.values())


def suite_lines(paths: Sequence[Path]) -> list[str]:
    """What each suite among these files consists of, a line for each."""
    lines = []
    for path in paths:
        document = read(path)
        if "studies" in document.data:
            title = text_of(document, "title") or path.stem
            names = ", ".join(str(name) for name in document.data["studies"])
            lines.append(f"{path.stem}: {title} = {names}")
    return lines


def _members(document: Document, recipe: str | None, seeds: Seeds) -> list[Wanted]:
    for key in document.data:
        if key not in KEYS:
            raise UserError(unknown("key", key, KEYS), document.place(key))
    names = document.data["studies"]
    if not isinstance(names, list) or not names:
        raise UserError("studies needs a list of study names", document.place("studies"))
    if seeds is None and "seeds" in document.data:
        seeds = seeds_of(document.data["seeds"], document.place("seeds"))
    recipe = recipe or text_of(document, "recipe")
    folder = document.path.parent
    for i, name in enumerate(names):
        if not (folder / f"{name}.yaml").is_file():
            known = [path.stem for path in folder.glob("*.yaml")]
            raise UserError(unknown("study", name, known), document.place("studies", i))
    return [(folder / f"{name}.yaml", recipe, seeds) for name in names]
