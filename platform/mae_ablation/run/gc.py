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


@dataclass(frozen=True, kw_only=True, slots=True)
class Unneeded:
    """Something in the store that could go."""

    folder: PhaseFolder
    name: str
    """the folder's, or that of a file in it"""
    why: str
    size: int


def unneeded(store: Store, studies: Sequence[Path]) -> tuple[list[Unneeded], list[str]]:
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
    folders = store.folders()
    needed, absent = _needed(store, studies, _seeds(folders))
    found, at_work, elsewhere = [], 0, Counter()
    for folder in folders:
        document = folder.document() or {}
        data = document.get("data", {}).get("name")
        if data in absent:
            elsewhere[data] += 1
            continue
        if folder.identity not in needed:
            claim = folder.claim("gc")
            if claim is None:
                at_work += 1
                continue
            claim.release()
            size = folder.files.size(folder.name)
            found.append(
                Unneeded(folder=folder, name=folder.name, why="no study needs it", size=size)
            )
            continue
        found += [
            Unneeded(
                folder=folder,
                name=f"{folder.name}/{name}",
                why="half written by a killed process",
                size=folder.files.size(f"{folder.name}/{name}"),
            )
            for name in folder.files.names(folder.name)
            if name.endswith(PART)
        ]
    alone = [
        f"{count} phases on {name} left alone: its images are not on this machine, so it cannot "
        "be told which are needed"
        for name, count in sorted(elsewhere.items())
    ]
    alone += [f"{at_work} phases left alone: other runs are at work on them"] if at_work else []
    return found, alone


def _seeds(folders: Sequence[PhaseFolder]) -> int:
    """One more than the largest seed of the store."""
    documents = [folder.document() or {} for folder in folders]
    return 1 + max((int(document.get("seed", 0)) for document in documents), default=0)


def _needed(store: Store, studies: Sequence[Path], seeds: int) -> tuple[set[str], set[str]]:
    """Identities of every phase of the studies, as they are written and with each recipe; and the
    names of data sets that are not here."""
    out: set[str] = set()
    absent: set[str] = set()
    for study in studies:
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
                out.update(phase.identity for plan in plans for phase in plan.needed_phases)
    return out, absent


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
    found, alone = unneeded(open_store(store, filled=True), studies)
    if yes:
        found = [one for one in found if _removed(one)]
    lines = [f"{one.size / 1e6:9.1f} MB  {one.name}  ({one.why})" for one in found]
    total = sum(one.size for one in found) / 1e6
    fate = "deleted" if yes else "could go: --yes deletes them"
    return [*lines, *alone, f"{len(found)} things of {total:.1f} MB {fate}"]


def _removed(one: Unneeded) -> bool:
    """Remove it, unless somebody has begun to work on its phase since it was listed."""
    claim = one.folder.claim("gc")
    if claim is None:
        return False
    try:
        one.folder.files.remove(one.name)
        return True
    finally:
        claim.release()
