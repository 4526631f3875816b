"""Suite: a study of studies, such as all of the paper's Table 1. Equal trials are trained once.

title: Table 1, Figures 5 and 7
studies: [mask_ratio, decoder_depth]     # files beside this one
recipe: laptop                           # optional: instead of theirs
seeds: 3                                 # optional: instead of theirs
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mae_ablation.study.document import Document, read, text_at
from mae_ablation.study.errors import UserError, unknown
from mae_ablation.study.recipe_file import COMMAND_LINE
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
        suite_s = recipe is None and "studies" in document.data
        for member, its_recipe, its_seeds in wanted:
            study = load(
                member,
                recipe=its_recipe,
                recipe_place=document.place("recipe") if suite_s else COMMAND_LINE,
                changes=changes,
                seeds=its_seeds,
                phases=phases,
            )
            if found.setdefault(member, study) != study:
                message = f"{path} asks for it with another recipe or other seeds: name one of them"
                raise UserError(message, str(member))
    return list(found.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """A suite among the files that were asked for."""

    name: str
    """file name without .yaml"""
    path: Path
    title: str
    members: tuple[Path, ...]
    """files of its studies, in its order"""

    def experiment(self, studies: Sequence[Study]) -> str:
        """Folder of its page: the name, with what the studies' folders have behind theirs.

        Studies whose own recipe is the one asked for have less behind it: the longest counts.
        """
        mine = [study for study in studies if study.path in self.members]
        endings = [study.experiment.removeprefix(study.name) for study in mine]
        return self.name + max(endings, key=lambda ending: (len(ending), ending), default="")


def suites_of(paths: Sequence[Path]) -> list[Suite]:
    """The suites among these files.

    Raises:
        UserError: with file and line of what cannot be.
    """
    found = []
    for path in paths:
        document = read(path)
        if "studies" in document.data:
            title = text_of(document, "title") or path.stem
            members = tuple(member for member, _, _ in _members(document, None, None))
            found.append(Suite(name=path.stem, path=path, title=title, members=members))
    return found


def suite_lines(paths: Sequence[Path]) -> list[str]:
    """What each suite among these files consists of, a line for each."""
    return [
        f"{suite.name}: {suite.title} = {', '.join(path.stem for path in suite.members)}"
        for suite in suites_of(paths)
    ]


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
    folder, members = document.path.parent, []
    for i, name in enumerate(names):
        place = document.place("studies", i)
        name = text_at(name, "a study's name", place)
        if not (folder / f"{name}.yaml").is_file():
            known = [path.stem for path in folder.glob("*.yaml")]
            raise UserError(unknown("study", name, known), place)
        members.append(folder / f"{name}.yaml")
    return [(member, recipe, seeds) for member in members]
