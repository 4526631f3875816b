"""A phase of the store by its identity, or by as much of it as tells it from the others."""

import re
from pathlib import Path

from mae_ablation.errors import UserError
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.places import require_file

LISTED = 10
IDENTITY = re.compile(r"[0-9a-fA-F]{1,12}")
"""all of an identity, or its beginning"""


def find_checkpoint(checkpoint: str, store: Store) -> Path | PhaseFolder:
    """Return a checkpoint's file, or the pre-training in the store whose identity begins so.

    Raises:
        UserError: neither is there.
    """
    path = Path(checkpoint)
    if path.exists() or not IDENTITY.fullmatch(checkpoint):
        require_file(path, "the path of a checkpoint, or the identity of a pre-training")
        return path
    return find_phase(store, checkpoint, "pretrain")


def find_phase(store: Store, identity: str, kind: str | None = None) -> PhaseFolder:
    """Return the one phase whose identity begins so.

    Args:
        identity: hexadecimal digits, in either case; all twelve or the first few.
        kind: of the phases that are meant, such as "pretrain"; None: all.

    Raises:
        UserError: none, several, or one of another kind; a store that cannot be read.
    """
    try:
        folders = store.folders()
    except (OSError, ValueError) as error:  # ValueError: an unknown scheme
        raise UserError(f"cannot read the store: {error}", store.root) from None
    found = [folder for folder in folders if folder.identity.startswith(identity.lower())]
    meant = [folder for folder in found if kind is None or folder.name.startswith(f"{kind}/")]
    if not meant:
        what = f"no {f'{kind} ' if kind else ''}phase {identity!r} among {len(folders)}"
        other = f"; {found[0].name} is of another kind" if found else ""
        raise UserError(f"{what}{other}: `mae-ablation store ls` lists them", store.root)
    if len(meant) > 1:
        names = ", ".join(folder.name for folder in meant[:LISTED])
        more = f" and {len(meant) - LISTED} more" if len(meant) > LISTED else ""
        raise UserError(
            f"{identity!r} is the beginning of several: {names}{more}; give more of its digits",
            store.root,
        )
    return meant[0]
