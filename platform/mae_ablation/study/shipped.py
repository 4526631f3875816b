"""The studies and recipes that ship, found by name from any folder.

A clone has them in `studies/` at its top; a wheel carries a copy inside the package.
"""

from pathlib import Path

from mae_ablation.store.paths import expanded

PACKAGE = Path(__file__).resolve().parents[1]


def shipped_studies() -> Path:
    """Return the folder of the studies that ship, as a user in the working directory types it."""
    folder = PACKAGE / "studies"
    if not folder.is_dir():
        folder = PACKAGE.parents[1] / "studies"
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def find_study(name: Path | str) -> Path:
    """Return the file of a study: a path as it is, a bare name as that of a study that ships.

    A file in the working directory goes first; a name that nothing has stays, to be refused where
    it is read.
    """
    path = expanded(name)
    if path.exists() or path.suffix or path.parent != Path("."):
        return path
    shipped = shipped_studies() / f"{path.name}.yaml"
    return shipped if shipped.is_file() else path


def recipe_folders(folder: Path) -> tuple[Path, Path]:
    """Return where a recipe's name is looked for: beside the studies in `folder`, then here."""
    return folder / "recipes", shipped_studies() / "recipes"


def new_study(file: Path) -> str:
    """Return the text of a study to start from, which is to be called `file`."""
    text = (PACKAGE / "study" / "new_study.yaml").read_text(encoding="utf-8")
    return text.replace("FILE", str(file))
