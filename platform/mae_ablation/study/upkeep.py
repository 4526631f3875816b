"""Upkeep of a store: what lies in it, and whether each file is what was written."""

import json
from collections.abc import Iterator

from mae_ablation.registry import preparations
from mae_ablation.store.checkpoint import Damaged
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.store.predictions import predictions_of
from mae_ablation.study.flags import StorePlace
from mae_ablation.study.identity import identity
from mae_ablation.study.places import find_phase, open_store
from mae_ablation.study.request import LOCAL_STORE


def state_of(folder: PhaseFolder) -> str:
    """ "finished", "failed: why", "unfinished" or "damaged"."""
    if damaged_notes(folder):
        return "damaged"
    if folder.result():
        return "finished"
    failure = folder.failure()
    return f"failed: {failure['reason']}" if failure else "unfinished"


def list_phases(*, store: StorePlace = LOCAL_STORE) -> Iterator[str]:
    """List every phase, its size and state."""
    for folder in open_store(store, filled=True).folders():
        megabytes = folder.files.size(folder.name) / 1e6
        yield f"{megabytes:9.1f} MB  {state_of(folder):<12}  {folder.name}"


def describe_phase(identity: str, *, store: StorePlace = LOCAL_STORE) -> Iterator[str]:
    """Say everything that is known of a phase.

    Args:
        identity: the phase's, or its beginning

    Raises:
        UserError: no phase has the identity, or several begin so.
    """
    folder = find_phase(open_store(store, filled=True), identity)
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
    """Yield what is wrong with a phase's files; nothing of a sound one."""
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
    """Tell whether the answers that a result speaks of are there as they were written."""
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
    """Tell whether others build on its last checkpoint."""
    kind = folder.name.split("/")[0]
    target = preparations().get(kind)
    return kind == "pretrain" or (target is not None and target.saves(result))


def is_result_alone(folder: PhaseFolder) -> bool:
    """Tell whether its weights are elsewhere: it came home from a cluster without them."""
    if damaged_notes(folder) or folder.checkpoints():
        return False
    result = folder.result()
    return result is not None and lends_weights(folder, result)


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
    opened = open_store(store, filled=True)
    folders = [find_phase(opened, one) for one in identities] or opened.folders()
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
