"""Upkeep of a store: what lies in it, and whether each file is what was written."""

import json
from collections.abc import Callable, Iterator

from mae_ablation.registry import preparations
from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.store.predictions import predictions_of
from mae_ablation.study.flags import StorePlace
from mae_ablation.study.identity import identity
from mae_ablation.study.places import find_phase, open_store
from mae_ablation.study.request import LOCAL_STORE

DAMAGED = "is damaged"


def list_phases(*, store: StorePlace = LOCAL_STORE) -> Iterator[str]:
    """List every phase, its size and state."""
    for folder in open_store(store, filled=True).folders():
        megabytes = folder.files.size(folder.name) / 1e6
        yield f"{megabytes:9.1f} MB  {_state(folder):<12}  {folder.name}"


def describe_phase(identity: str, *, store: StorePlace = LOCAL_STORE) -> Iterator[str]:
    """Say everything that is known of a phase.

    Args:
        identity: the phase's, or its beginning

    Raises:
        UserError: no phase has the identity, or several begin so.
    """
    # how it ended, its curve, its weights
    folder = find_phase(open_store(store, filled=True), identity)
    yield f"{folder.name}: {_state(folder)}"
    if points := folder.journal.read():
        last = ", ".join(f"{name} {value:g}" for name, value in points[-1]["m"].items())
        yield f"journal: {len(points)} points, the last at step {points[-1]['s']}: {last}"
    for checkpoint in folder.checkpoints():
        size = folder.files.size(checkpoint.name) / 1e6
        yield f"checkpoint: {checkpoint.file} ({size:.1f} MB)"
    # its notes, as JSON or as the traceback that they hold
    for title, content in (
        ("what was hashed", folder.document()),
        ("result", folder.result()),
        ("failure", folder.failure()),
    ):
        if content:
            yield f"{title}:"
            text = content.get("details") or json.dumps(content, indent=1, sort_keys=True)
            yield from ("  " + line for line in text.splitlines())


def verify(
    identities: tuple[str, ...] = (), *, mend: bool = False, store: StorePlace = LOCAL_STORE
) -> tuple[list[str], int]:
    """Check every file against its checksum.

    Exit status 1: faults are left.

    Args:
        identities: of the phases to check (default: all)
        mend: remove what is damaged and the results that rest on it, and of phases that are named
            also results without weights: the next run of their study makes them again

    Returns the lines to print, and the number of phases with faults that are left.

    Raises:
        UserError: no phase has one of the identities.
    """
    # a phase at a time: a store may be larger than the memory
    opened = open_store(store, filled=True)
    folders = [find_phase(opened, one) for one in identities] or opened.folders()
    lines, left, alone = [], 0, 0
    for folder in folders:
        wrong = _find_faults(folder)
        lines += [f"{folder.name}: {file} {fault}" for file, fault in wrong.items()]
        named_alone = bool(identities) and _is_without_weights(folder)
        if mend and (wrong or named_alone) and _mend(folder):
            lines.append(f"{folder.name}: mended, the next run of its study finishes it again")
        elif wrong:
            left += 1
        alone += _is_without_weights(folder)
    lines.append(f"{len(folders)} phases checked, {left} with faults")
    if alone:
        lines.append(f"{alone} have results without weights: these stayed where they were trained")
    return lines, left


def _state(folder: PhaseFolder) -> str:
    """Return "finished", "failed: why", "unfinished" or "damaged"."""
    if _damaged_notes(folder):
        return "damaged"
    if folder.result():
        return "finished"
    failure = folder.failure()
    return f"failed: {failure['reason']}" if failure else "unfinished"


def _find_faults(folder: PhaseFolder) -> dict[str, str]:
    """Return what is wrong with a phase's files, by the file; nothing of a sound one."""
    # notes that are no JSON; what the phase is has to be what its folder is called by
    found = dict.fromkeys(_damaged_notes(folder), DAMAGED)
    if "phase.json" not in found:
        document = folder.document()
        if document is None:
            found["phase.json"] = "is missing"
        elif (real := identity(document)) != folder.identity:
            found["phase.json"] = f"has the identity {real}, not the folder's"

    # curve, weights and answers, each with its own checksum
    if lost := folder.journal.rows().count(None):
        found["journal.jsonl"] = f"has {lost} damaged lines"
    found |= {each.file: DAMAGED for each in folder.checkpoints() if _is_damaged(each.read)}
    result = {} if "result.json" in found else folder.result() or {}
    if _is_damaged(lambda: predictions_of(folder, result)):
        found["predictions.npz"] = "is missing or damaged"
    return found


def _damaged_notes(folder: PhaseFolder) -> list[str]:
    """Name the phase's JSON files that are none."""
    notes = {"phase.json": folder.document, "result.json": folder.result}
    notes["failure.json"] = folder.failure
    return [name for name, read in notes.items() if _is_damaged(read)]


def _is_damaged(read: Callable[[], object]) -> bool:
    try:
        read()
    except Damaged:
        return True
    return False


def _is_without_weights(folder: PhaseFolder) -> bool:
    """Tell whether others would build on a model that stayed on the cluster it was trained on."""
    if _damaged_notes(folder) or folder.checkpoints():
        return False
    result = folder.result()
    return result is not None and _lends_weights(folder, result)


def _lends_weights(folder: PhaseFolder, result: dict) -> bool:
    """Tell whether others build on its last checkpoint."""
    kind = folder.name.split("/")[0]
    target = preparations().get(kind)
    return kind == "pretrain" or (target is not None and target.saves(result))


def _mend(folder: PhaseFolder) -> bool:
    """Remove what is damaged and the result that rests on it; return whether the phase is well."""
    claim = folder.claim("verify")
    if claim is None:  # another process is at work on it
        return False
    try:
        # without phase.json nobody knows what the rest is; else only what is damaged goes
        wrong, newest = _find_faults(folder), next(iter(folder.checkpoints()), None)
        if wrong.get("phase.json") == DAMAGED:
            folder.files.remove(folder.name)
            return True
        folder.journal.mend()

        # a result stands for all other files, and for the weights that others build on
        gone = [name for name, fault in wrong.items() if fault == DAMAGED]
        stale = "predictions.npz" in wrong or any(name.endswith(".json") for name in gone)
        if not stale and (result := folder.result()) and _lends_weights(folder, result):
            stale = newest is None or newest.file in wrong  # an older one is another model
        for name in gone:
            folder.files.remove(f"{folder.name}/{name}")
        if stale:
            folder.files.remove(f"{folder.name}/result.json")
        return not _find_faults(folder)
    finally:
        claim.release()
