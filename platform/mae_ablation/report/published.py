"""Published reports: those that ship with the project, which one's own stand beside and link to.

reports/published/mask_ratio-overnight/    shipped; nobody's run writes there unless told to
reports/mask_ratio/                        one's own
"""

from dataclasses import dataclass
from pathlib import Path

from mae_ablation.report.saved import report_in

FOLDER = "published"


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A published report of a study."""

    folder: str
    """as a report beside it sees it: "../published/mask_ratio-overnight" """
    recipe: str
    headline: str


def published_of(study: str, folder: Path) -> list[Published]:
    """The published reports of a study, for a report of it in this folder; none for one of them."""
    if folder.parent.name == FOLDER:
        return []
    found = []
    for path in sorted((folder.parent / FOLDER).glob("*/report.json")):
        about = report_in(path.parent)
        if isinstance(about, dict) and about.get("study") == study:
            found.append(
                Published(
                    folder=f"../{FOLDER}/{path.parent.name}",
                    recipe=str(about.get("recipe", "")),
                    headline=str(about.get("headline", "")),
                )
            )
    return found
