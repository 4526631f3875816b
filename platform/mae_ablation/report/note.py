"""The experiment's note in MLflow: a headline, and the page as far as a note can show it."""

from pathlib import Path

from mae_ablation.report.how_to_read import LINKS
from mae_ablation.report.saved import report_in

PAD = "&emsp;"  # the UI draws a note's tables without borders and padding


def write_note(folder: Path) -> str:
    """Write the note of a report's folder from its own files, so that both say the same.

    The first line is all that is seen until a note is unfolded; pictures and links to files are
    left out, as a note cannot reach them.
    """
    about = report_in(folder)
    done = f"{about['finished']}/{about['asked']} results"
    page = (folder / "table.md").read_text(encoding="utf-8").splitlines()[1:]  # without the title
    lines = [line.replace(f" {LINKS}", "") for line in page if not line.startswith("![")]
    lines = [line.replace(" |", f"{PAD} |") if line.startswith("| ") else line for line in lines]
    first = " – ".join(filter(None, [about["headline"], done]))
    return "\n".join([f"**{first}**", *lines]) + "\n"
