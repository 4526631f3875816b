"""Which study file a report or an experiment is of, so that none takes another's place."""

import os
from pathlib import Path

from mae_ablation.errors import UserError


def path_from(folder: Path, study: Path) -> str:
    """Return the study's path as seen from a folder: the same in every copy of both."""
    return Path(os.path.relpath(os.path.realpath(study), os.path.realpath(folder))).as_posix()


def another_study(recorded: object, folder: Path, study: Path) -> Path | None:
    """Return the file that is recorded as the owner, if it is another study than `study`.

    It is not where nothing is recorded, where the recorded file is gone, or where it says the same.

    Args:
        recorded: as `path_from` gave it, or an absolute path.
        folder: what it is relative to.
    """
    if not isinstance(recorded, str) or not recorded:
        return None
    there = Path(os.path.normpath(os.path.join(os.path.realpath(folder), recorded)))
    if not there.is_file() or there.resolve() == study.resolve():
        return None
    try:
        return None if there.read_bytes() == study.read_bytes() else there
    except OSError:  # not ours to read, so not known to be the same
        return there


def require_own_place(folder: Path, about: object, study: Path) -> None:
    """Refuse to write a study's report over another study's.

    Args:
        folder: of the report.
        about: its report.json as it is now; anything else where there is none.

    Raises:
        UserError: it is another study's, or no folder.
    """
    if folder.exists() and not folder.is_dir():
        message = f"a file is in the way of the report of {study}: --reports OTHER writes elsewhere"
        raise UserError(message, str(folder))
    recorded = about.get("study_file") if isinstance(about, dict) else None
    if there := another_study(recorded, folder, study):
        raise UserError(
            f"this is the report of {there}, which is another study than {study}: "
            "rename one of the files, or write elsewhere with --reports OTHER",
            str(folder),
        )
