"""Results as one zip file: exported for somebody else, and imported into another store."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from mae_ablation.errors import Emptier, UserError
from mae_ablation.report.outcome import command_again
from mae_ablation.run.session import Session
from mae_ablation.store import archive, declaration
from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.folder import Store
from mae_ablation.study.declared import packed_declarations, require_unaltered
from mae_ablation.study.flags import File, Flat, StorePlace
from mae_ablation.study.identity import identity, version_of
from mae_ablation.study.places import open_store, require_place, require_writable
from mae_ablation.study.plan import Plan
from mae_ablation.study.request import LOCAL_STORE, Selection


def export_selection(
    file: File, selection: Annotated[Selection, Flat]
) -> tuple[list[str], list[str]]:
    """Write finished results into one zip file.

    Exit status 1: some are missing.

    Args:
        file: the zip file to write
    """
    opened = open_store(selection.store, filled=True)
    return export_results(Session.load(selection, opened).plans, file)


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
        mine = {phase.identity: phase.folder(store) for phase in plan.needed_phases}
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


def require_no_fuller_export(path: Path, finished: int, wanted: int) -> None:
    """Raise Emptier if an incomplete export would take the place of one that holds more phases."""
    try:
        there = len(archive.read(path).phases)
    except (OSError, archive.BadArchive):  # none there, or something else
        return
    if there > finished:
        here = f"only {finished} of {wanted} are finished here; name another file"
        raise Emptier(f"kept: it holds {there} phases, and {here}", str(path))


def import_results(file: File, store: StorePlace = LOCAL_STORE) -> list[str]:
    """Put the results of an export into the store.

    Every checksum, every name and every identity is verified before anything is written, and that
    no declaration contradicts one of the store. Phases that the store has finished are left alone.

    Args:
        file: the export

    Returns the lines to print.

    Raises:
        UserError: the file cannot be read or fails a check; the store is as it was.
    """
    # everything is checked before anything is written
    opened = Store(store)
    try:
        found = archive.read(file)
        for phase in found.phases:
            require_identity(phase)
        declared = declaration.packed_in(found.notes)
        for each in declared:
            require_unaltered(each)
        other = declaration.contradictions(declared, opened.files)
    except Damaged as error:
        raise UserError(f"nothing was imported: {error}", str(file)) from None
    except OSError as error:
        raise UserError(f"cannot read it: {error.strerror}", str(file)) from None
    if other:
        remedy = "import it into a store of its own with --store"
        raise UserError(f"nothing was imported: {'; '.join(other)}; {remedy}", str(file))
    require_writable(store)

    # declarations first: results that are there already count as seen by later ones
    declaration.add_declarations(declared, opened.files)
    new = [phase for phase in found.phases if archive.put_phase(phase, opened, "import")]
    lines = [f"imported {len(new)} of {len(found.phases)} phases into {store}"]
    if known := len(found.phases) - len(new):
        lines.append(f"{known} are finished, or at work, in the store already and were left alone")

    # results of another version of the code are kept, and not used
    versions = Counter((phase.kind, phase.document.get("version")) for phase in found.phases)
    for (kind, version), count in sorted(versions.items(), key=str):
        if version != version_of(kind):
            lines.append(
                f"{count} results of {kind} are of version {version} of its code, here it is "
                f"{version_of(kind)}: no study of this version uses them"
            )
    return lines


def require_identity(phase: archive.PackedPhase) -> None:
    """Raise BadArchive if a packed phase is not what the name of its folder says."""
    if identity(phase.document) != phase.identity or phase.document.get("phase") != phase.kind:
        where = f"{phase.kind}/{phase.name}-{phase.identity}"
        raise archive.BadArchive(f"{where} holds phase.json of another phase")
