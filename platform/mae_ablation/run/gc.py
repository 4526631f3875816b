"""Garbage: what no study needs any more, found and removed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mae_ablation.errors import UserError
from mae_ablation.registry import load_plugins
from mae_ablation.run.session import Session
from mae_ablation.store.atomic import PART
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.flags import File, Plugins, StorePlace
from mae_ablation.study.places import open_store
from mae_ablation.study.request import LOCAL_STORE, Selection

NOT_NEEDED, HALF_WRITTEN = "no study needs it", "half written by a killed process"


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something in the store that could go."""

    folder: PhaseFolder
    name: str
    """the folder's, or that of a file in it"""
    why: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.folder.files.size(self.name)

    def remove(self) -> bool:
        """Remove it, unless somebody has begun to work on its phase since it was listed."""
        claim = self.folder.claim("gc")
        if claim is None:
            return False
        try:
            self.folder.files.remove(self.name)
            return True
        finally:
            claim.release()


def find_garbage(store: Store, studies: Sequence[Path]) -> tuple[list[Garbage], list[str]]:
    """Return what no study needs, with any of the recipes beside it and any seed that the store
    has; and what killed processes left behind.

    Returns also the lines that say what was left alone: phases that another process is at work on,
    and those on data sets that are not on this machine, whose identities cannot be told here.

    Raises:
        UserError: there is no study, or one cannot be read. Nothing is called unneeded on a
            misunderstanding.
    """
    if not studies:
        raise UserError("no study files: without them everything would go", "gc")
    # a phase is needed with every seed that somebody has once asked for
    documents = [(folder, folder.document() or {}) for folder in store.folders()]
    seeds = 1 + max((int(each.get("seed", 0)) for _, each in documents), default=0)
    needed, absent = find_needed(store, studies, seeds)

    # what a claim can be had for is nobody's work
    found, at_work, elsewhere = [], 0, Counter()
    for folder, document in documents:
        data = document.get("data", {}).get("name")
        if data in absent:
            elsewhere[data] += 1
        elif folder.identity in needed:
            parts = [name for name in folder.files.names(folder.name) if name.endswith(PART)]
            found += [Garbage(folder, f"{folder.name}/{name}", HALF_WRITTEN) for name in parts]
        elif claim := folder.claim("gc"):
            claim.release()
            found.append(Garbage(folder, folder.name, NOT_NEEDED))
        else:
            at_work += 1

    alone = [
        f"{count} phases on {name} left alone: its images are not on this machine, so it cannot "
        "be told which are needed"
        for name, count in sorted(elsewhere.items())
    ]
    alone += [f"{at_work} phases left alone: other runs are at work on them"] if at_work else []
    return found, alone


def find_needed(store: Store, studies: Sequence[Path], seeds: int) -> tuple[set[str], set[str]]:
    """Find the identities of every phase of the studies, as they are written and with each recipe;
    and the names of data sets that are not here."""
    needed: set[str] = set()
    absent: set[str] = set()
    for study in studies:
        # the store may hold results of any recipe, not only the one that the file names
        recipes = sorted((study.parent / "recipes").glob("*.yaml"))
        for recipe in (None, *(path.stem for path in recipes)):
            for count in (None, seeds):
                try:
                    asked = Selection(study, recipe=recipe, seeds=count, store=store.root)
                    plans = Session.load(asked, store).plans
                except UserError:
                    if recipe is None:
                        raise
                    continue  # not every study is for every recipe
                absent |= {p.study.baseline.data.name for p in plans if p.data.missing}
                needed.update(phase.identity for plan in plans for phase in plan.needed_phases)
    return needed, absent


def collect_garbage(
    studies: tuple[File, ...] = (),
    *,
    yes: bool = False,
    plugins: Plugins = (),
    store: StorePlace = LOCAL_STORE,
) -> list[str]:
    """List what no study needs, and delete it if told to.

    Args:
        studies: files of the studies whose results are needed (default: those in ./studies)
        yes: delete

    Raises:
        UserError: there is no study, or one cannot be read.
    """
    load_plugins(plugins)
    studies = studies or tuple(sorted(Path("studies").glob("*.yaml")))
    found, alone = find_garbage(open_store(store, filled=True), studies)
    # sizes are asked for before anything is gone
    sized = [(one, one.size / 1e6) for one in found]
    if yes:
        sized = [(one, size) for one, size in sized if one.remove()]
    lines = [f"{size:9.1f} MB  {one.name}  ({one.why})" for one, size in sized]
    total = sum(size for _, size in sized)
    fate = "deleted" if yes else "could go: --yes deletes them"
    return [*lines, *alone, f"{len(sized)} things of {total:.1f} MB {fate}"]
