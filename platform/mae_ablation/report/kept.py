"""Reports that stay: what a folder shows is not replaced by something emptier."""

import json
from pathlib import Path

from mae_ablation.errors import Emptier


def require_no_emptier(folder: Path, finished: int, asked: int) -> None:
    """Refuses to put a report of fewer results in the place of one that has more.

    A complete one replaces any: then fewer were asked for.

    Args:
        finished: results of the report that is to be written.
        asked: how many there would be if nothing were missing.

    Raises:
        Emptier: the folder's report has more results than this incomplete one.
    """
    there = results_there(folder)
    if finished < asked and finished < there:
        raise Emptier(
            f"kept: it shows {there} results, and of this study only {finished} of {asked} are "
            f"finished; --reports DIR writes elsewhere",
            str(folder),
        )


def results_there(folder: Path) -> int:
    """Finished results that the folder's report shows; 0 where there is none that can be read."""
    try:
        return int(json.loads((folder / "report.json").read_text(encoding="utf-8"))["finished"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
