"""The commands about the store, from ls to import. Functions as in commands.py."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mae_ablation.api import plan_studies, require_writable
from mae_ablation.errors import Emptier, UserError
from mae_ablation.report.outcome import command_again
from mae_ablation.store import archive, declaration
from mae_ablation.store.atomic import PART
from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.store.predictions import predictions_of
from mae_ablation.study.declared import packed_declarations, require_sound
from mae_ablation.study.identity import VERSIONS, identity
from mae_ablation.study.lookup import find_phase
from mae_ablation.study.places import require_place
from mae_ablation.study.plan import Plan
from mae_ablation.study.trial import Phase

WITH_CHECKPOINTS = ("pretrain", "tokenizer", "pca")
"""kinds whose last checkpoint others build on"""


def state_of(folder: PhaseFolder) -> str:
    """ "finished", "failed: why", "unfinished" or "damaged"."""
    if damaged_notes(folder):
        return "damaged"
    if folder.result():
        return "finished"
    failure = folder.failure()
    return f"failed: {failure['reason']}" if failure else "unfinished"


def listing(store: Path | str) -> Iterator[str]:
    """A line per phase: size, state, name."""
    for folder in Store(store).folders():
        megabytes = folder.files.size(folder.name) / 1e6
        yield f"{megabytes:9.1f} MB  {state_of(folder):<12}  {folder.name}"


def show(store: Path | str, identity: str) -> Iterator[str]:
    """Everything that is known of a phase."""
    folder = find_phase(Store(store), identity)
    yield f"{folder.name}: {state_of(folder)}"
    points = folder.journal.read()
    if points:
        yield f"journal: {len(points)} points, the last at step {points[-1]['s']}: " + ", ".join(
            f"{name} {value:g}" for name, value in points[-1]["m"].items()
        )
    for checkpoint in folder.checkpoints():
        size = folder.files.size(checkpoint.name) / 1e6
        yield f"checkpoint: {checkpoint.file} ({size:.1f} MB)"
    for title, content in (
        ("what was hashed", folder.document()),
        ("result", folder.result()),
        ("failure", folder.failure()),
    ):
        if content:
            yield f"{title}:"
            text = content.get("details") or json.dumps(content, indent=1, sort_keys=True)
            yield from ("  " + line for line in text.splitlines())


def faults(folder: PhaseFolder) -> Iterator[str]:
    """What is wrong with a phase's files; nothing of a sound one."""
    broken = damaged_notes(folder)
    yield from (f"{name} is damaged" for name in broken)
    if broken:
        return
    document = folder.document()
    if document is None:
        yield "phase.json is missing"
    elif identity(document) != folder.identity:
        yield f"phase.json has the identity {identity(document)}, not the folder's"
    if lost := folder.journal.rows().count(None):
        yield f"journal.jsonl has {lost} damaged lines"
    for checkpoint in folder.checkpoints():
        try:
            checkpoint.read()
        except Damaged:
            yield f"{checkpoint.file} is damaged"
    if not sound_predictions(folder):
        yield "predictions.npz is missing or damaged"


def sound_predictions(folder: PhaseFolder) -> bool:
    """Whether the answers that a result speaks of are there as they were written."""
    try:
        predictions_of(folder, folder.result() or {})
    except Damaged:
        return False
    return True


def damaged_notes(folder: PhaseFolder) -> list[str]:
    """Names of its JSON files that are none."""
    readers = {
        "phase.json": folder.document,
        "result.json": folder.result,
        "failure.json": folder.failure,
    }
    broken = []
    for name, read in readers.items():
        try:
            read()
        except Damaged:
            broken.append(name)
    return broken


def lends_weights(folder: PhaseFolder, result: dict) -> bool:
    """Whether others build on its last checkpoint; a DALL-E tokeniser is the user's own file."""
    return folder.name.split("/")[0] in WITH_CHECKPOINTS and result.get("source") != "dalle"


def is_result_alone(folder: PhaseFolder) -> bool:
    """Whether its weights are elsewhere: it came home from a cluster without them."""
    if damaged_notes(folder) or folder.checkpoints():
        return False
    result = folder.result()
    return result is not None and lends_weights(folder, result)


def verify(
    store: Path | str, identities: Sequence[str] = (), *, mend: bool = False
) -> tuple[list[str], int]:
    """Read every file and check it against its checksum.

    Args:
        identities: of the phases to look at; none: all.
        mend: remove what is damaged, and the results of finished phases that rest on it, so that
            the next run of their study finishes them again; likewise results without weights, of
            phases that are named.

    Returns the lines to print, and the number of phases with faults that are left.

    Raises:
        UserError: no phase has one of the identities.
    """
    folders = [find_phase(Store(store), one) for one in identities] or Store(store).folders()
    lines, left, alone = [], 0, 0
    for folder in folders:
        wrong = list(faults(folder))
        lines += [f"{folder.name}: {fault}" for fault in wrong]
        named_alone = bool(identities) and is_result_alone(folder)
        if mend and (wrong or named_alone) and _mended(folder):
            lines.append(f"{folder.name}: mended, the next run of its study finishes it again")
        elif wrong:
            left += 1
        alone += is_result_alone(folder)
    lines.append(f"{len(folders)} phases checked, {left} with faults")
    if alone:
        lines.append(f"{alone} have results without weights: these stayed where they were trained")
    return lines, left


def _mended(folder: PhaseFolder) -> bool:
    """Remove what is damaged, and the result that rests on it. Returns whether it is well; a phase
    that another process is at work on is left to it."""
    claim = folder.claim("verify")
    if claim is None:
        return False
    try:
        return _without_damage(folder)
    finally:
        claim.release()


def _without_damage(folder: PhaseFolder) -> bool:
    broken = damaged_notes(folder)
    for name in {*broken, "result.json"} if broken else ():
        folder.files.remove(f"{folder.name}/{name}")
    if "phase.json" in broken:  # it says what the rest is
        folder.files.remove(folder.name)
        return True
    folder.journal.mend()
    if not sound_predictions(folder):
        folder.files.remove(f"{folder.name}/result.json")
    result, newest = folder.result(), next(iter(folder.checkpoints()), None)
    for checkpoint in folder.checkpoints():
        try:
            checkpoint.read()
        except Damaged:
            folder.files.remove(checkpoint.name)
    left = next(iter(folder.checkpoints()), None)
    if result and lends_weights(folder, result) and (left is None or left != newest):
        folder.files.remove(f"{folder.name}/result.json")
    return not any(faults(folder))


@dataclass(frozen=True, kw_only=True, slots=True)
class Unneeded:
    """Something in the store that could go."""

    folder: PhaseFolder
    name: str
    """the folder's, or that of a file in it"""
    why: str
    size: int


def unneeded(store: Path | str, studies: Sequence[Path]) -> tuple[list[Unneeded], list[str]]:
    """What no study needs, with any of the recipes beside it and any seed that the store has; and
    what killed processes left behind.

    Returns also the lines that say what was left alone: phases that another process is at work on,
    and those on data sets that are not on this machine, whose identities cannot be told here.

    Raises:
        UserError: there is no study, or one cannot be read. Nothing is called unneeded on a
            misunderstanding.
    """
    if not studies:
        raise UserError("no study files: without them everything would go", "gc")
    place = Store(store)
    folders = place.folders()
    needed, absent = _needed(place, studies, _seeds(folders))
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
                    plans = plan_studies([study], store=store.root, recipe=recipe, seeds=count)
                except UserError:
                    if recipe is None:
                        raise
                    continue  # not every study is for every recipe
                absent |= {p.study.baseline.data.name for p in plans if p.data.missing}
                out.update(phase.identity for plan in plans for phase in needed_phases(plan))
    return out, absent


def collect(store: Path | str, studies: Sequence[Path], *, yes: bool = False) -> list[str]:
    """Lines about what could go; with `yes` it is deleted.

    Raises:
        UserError: see `unneeded`.
    """
    found, alone = unneeded(store, studies)
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


def export_results(plans: Sequence[Plan], path: Path) -> tuple[list[str], list[str]]:
    """Write every finished phase of some plans into one zip file, if there is one.

    Results, journals, predictions and declarations go in; checkpoints and pictures stay.

    Returns the lines to print, and a line for every study that lacks results, with the command
    that runs it.

    Raises:
        Emptier: the file is an export of more phases than are finished here.
        UserError: the file cannot be written.
    """
    if path.suffix != ".zip":
        raise UserError("an export is a .zip file: name it so", str(path))
    require_place(path)

    # every phase once, and which studies lack some
    store, folders, lacking = plans[0].store, {}, []
    for plan in plans:
        mine = {phase.identity: phase.folder(store) for phase in needed_phases(plan)}
        finished = sum(folder.finished() for folder in mine.values())
        if finished < len(mine):
            rest = f"the rest comes with: {command_again(plan)}"
            lacking.append(f"{plan.study.experiment}: {finished} of {len(mine)} phases; {rest}")
        folders |= mine

    # what is finished is packed; nothing takes the place of a fuller export
    there = [folder for folder in folders.values() if folder.finished()]
    if not there:
        return [], lacking
    if lacking:
        require_no_fuller_export(path, len(there), len(folders))
    try:
        size = archive.pack(path, there, packed_declarations(plans))
    except OSError as error:
        raise UserError(f"cannot write it: {error.strerror}", str(path)) from None
    line = (
        f"{path}: {len(there)} of {len(folders)} phases are finished and exported, "
        f"{size / 1e6:.1f} MB without checkpoints"
    )
    return [line], lacking


def needed_phases(plan: Plan) -> Iterator[Phase]:
    """Every phase that a plan's results rest on, some of them several times."""
    for trial in plan.trials:
        yield from (*(trial.needs.phases if trial.needs else ()), *trial.phases)


def require_no_fuller_export(path: Path, finished: int, wanted: int) -> None:
    """Refuses to put an incomplete export in the place of one that holds more phases.

    Raises:
        Emptier: the file holds more.
    """
    try:
        there = len(archive.read(path).phases)
    except (OSError, archive.BadArchive):  # none there, or something else
        return
    if there > finished:
        message = (
            f"kept: it holds {there} phases, and only {finished} of {wanted} are finished here; "
            f"name another file"
        )
        raise Emptier(message, str(path))


def import_results(path: Path, store: Path | str) -> list[str]:
    """Put the phases of an export into a store; returns the lines to print.

    Every checksum, every name and every identity is verified before anything is written, and that
    no declaration contradicts one of the store. Phases that the store has finished are left alone.

    Raises:
        UserError: the file cannot be read or fails a check; the store is as it was.
    """
    try:
        found = archive.read(path)
        for phase in found.phases:
            require_identity(phase)
        declared = declaration.packed_in(found.notes)
        for each in declared:
            require_sound(each)
        other = declaration.contradictions(declared, Store(store).files)
    except Damaged as error:
        raise UserError(f"nothing was imported: {error}", str(path)) from None
    except OSError as error:
        raise UserError(f"cannot read it: {error.strerror}", str(path)) from None
    if other:
        remedy = "import it into a store of its own with --store"
        raise UserError(f"nothing was imported: {'; '.join(other)}; {remedy}", str(path))
    require_writable(store)
    declaration.put(declared, Store(store).files)  # first: results count as seen by later ones
    new = [phase for phase in found.phases if archive.put(phase, Store(store), "import")]
    lines = [f"imported {len(new)} of {len(found.phases)} phases into {store}"]
    if known := len(found.phases) - len(new):
        lines.append(f"{known} are finished, or at work, in the store already and were left alone")
    return [*lines, *_other_code(found.phases)]


def require_identity(phase: archive.PackedPhase) -> None:
    """Raises BadArchive if a packed phase is not what the name of its folder says."""
    if identity(phase.document) != phase.identity or phase.document.get("phase") != phase.kind:
        where = f"{phase.kind}/{phase.name}-{phase.identity}"
        raise archive.BadArchive(f"{where} holds phase.json of another phase")


def _other_code(phases: Sequence[archive.PackedPhase]) -> Iterator[str]:
    """A line for each kind whose results are of another version of the code than this one."""
    other: dict[tuple[str, object], int] = {}
    for phase in phases:
        version = phase.document.get("version")
        if version != VERSIONS.get(phase.kind):
            other[phase.kind, version] = other.get((phase.kind, version), 0) + 1
    for (kind, version), count in sorted(other.items(), key=str):
        yield (
            f"{count} results of {kind} are of version {version} of its code, here it is "
            f"{VERSIONS.get(kind)}: no study of this version uses them"
        )
