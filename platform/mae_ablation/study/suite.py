"""Suite: a study of studies, such as all of the paper's Table 1. Equal trials are trained once.

title: Table 1, Figures 5 and 7
studies: [mask_ratio, decoder_depth]     # files beside this one
recipe: laptop                           # optional: instead of theirs
seeds: 3                                 # optional: instead of theirs
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from mae_ablation.errors import UserError, unknown
from mae_ablation.study.document import Document, read_yaml, text_at
from mae_ablation.study.names import folded, require_name
from mae_ablation.study.recipe_file import COMMAND_LINE, text_of
from mae_ablation.study.request import Selection
from mae_ablation.study.seeds import read_seeds
from mae_ablation.study.study import Study, experiment_name, load_study, require_keys, title_of


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
        """Return the folder of its page: the name, with what its studies' folders have behind."""
        # studies whose own recipe is the one asked for have less behind it: the longest counts
        variants = [study.variant for study in studies if self.holds(study)]
        longest = max(variants, key=lambda words: (len(words), words), default="")
        return experiment_name(self.name, longest)

    def holds(self, study: Study) -> bool:
        """Tell whether the study is one of the suite's, however its path is spelled."""
        return os.path.realpath(study.path) in map(os.path.realpath, self.members)

    def __str__(self) -> str:
        return f"{self.name}: {self.title} = {', '.join(path.stem for path in self.members)}"


def load_all(selection: Selection) -> tuple[list[Study], list[Suite]]:
    """Load the studies of the files that were asked for, suites replaced by theirs, each once.

    Every file is read once, recipes too. Returns the studies, and the suites they came from.

    Raises:
        UserError: with file and line of what cannot be.
    """
    read_once = cache(read_yaml)
    found: dict[str, Study] = {}  # by the file itself, however it is spelled
    suites: list[Suite] = []
    for path in selection.studies:
        # a suite's recipe and seeds count unless the command line has others
        document = read_once(path)
        members, recipe, seeds = (path,), selection.recipe, selection.seeds
        recipe_place = COMMAND_LINE
        if "studies" in document.data:
            suites.append(_read_suite(document))
            members = suites[-1].members
            if recipe is None:
                recipe, recipe_place = text_of(document, "recipe"), document.place("recipe")
            if seeds is None and "seeds" in document.data:
                seeds = read_seeds(document)

        # a study that several files name has to mean the same each time
        for member in members:
            study = load_study(
                member,
                recipe=recipe,
                recipe_place=recipe_place,
                changes=selection.changes,
                seeds=seeds,
                phases=selection.phases,
                until_decided=selection.until_decided,
                most=selection.most,
                read=read_once,
            )
            first = found.setdefault(os.path.realpath(member), study)
            if first != replace(study, path=first.path, recipe_path=first.recipe_path):
                message = f"{path} asks for it with another recipe or other seeds: name one of them"
                raise UserError(message, str(member))

    # names of folders are known only now: changes and recipes are in them
    studies = list(found.values())
    _require_different_names(studies, suites)
    return studies, suites


def _read_suite(document: Document) -> Suite:
    # its studies lie beside it, by their names
    require_keys(document, ("title", "studies", "recipe", "seeds"))
    path, names = document.path, document.data["studies"]
    if not isinstance(names, list) or not names:
        raise UserError("studies needs a list of study names", document.place("studies"))
    members = []
    for i, name in enumerate(names):
        place = document.place("studies", i)
        name = text_at(name, "a study's name", place)
        member = path.parent / f"{name}.yaml"
        if not member.is_file():
            known = [each.stem for each in path.parent.glob("*.yaml")]
            raise UserError(unknown("study", name, known), place)
        members.append(member)
    require_name(path.stem, "the suite's file", str(path))
    return Suite(name=path.stem, path=path, title=title_of(document), members=tuple(members))


def _require_different_names(studies: Sequence[Study], suites: Sequence[Suite]) -> None:
    """Refuse files whose reports and experiments would take each other's place."""
    named = [(study.experiment, study.path) for study in studies]
    named += [(suite.experiment(studies), suite.path) for suite in suites]
    first: dict[str, tuple[str, Path]] = {}
    for name, path in named:
        other, there = first.setdefault(folded(name), (name, path))
        if there != path:
            alike = "the same" if other == name else f"{other}: only the case differs"
            raise UserError(
                f"its report and its experiment would be called {name}, and those of {there} "
                f"{alike}; rename one of the files",
                str(path),
            )
