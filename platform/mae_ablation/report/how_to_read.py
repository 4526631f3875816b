"""The page "How to read this table": what the columns and sentences of every report mean.

It is the same for all studies, so it stands once beside their folders, and tables link to it. Its
text is templates/how_to_read.md and verdict_rule.md, with the numbers that decide.
"""

from pathlib import Path

from mae_ablation.report.metrics import NOISE, PROBE_NOISE
from mae_ablation.report.outliers import FAR, POINTS_OFF
from mae_ablation.report.paired import ALPHA, BOOTSTRAP_FROM, POWER, RESAMPLES
from mae_ablation.store import atomic
from mae_ablation.study.seeds import FEWEST

HOW_TO_READ, WHY = "how_to_read.md", "verdicts.md"
"""Names of the page, beside the reports' folders, and of the one that says why these tests."""

LINKS = f"[How to read this table](../{HOW_TO_READ}); [why these tests](../{WHY})."
"""Both, as a report's page links to them."""

TEMPLATES = Path(__file__).parent / "templates"
NUMBERS = {
    "noise": NOISE,
    "probe_noise": PROBE_NOISE,
    "alpha": f"{100 * ALPHA:.0f}",
    "power": f"{100 * POWER:.0f}",
    "fewest": FEWEST,
    "far": FAR,
    "points_off": POINTS_OFF,
    "bootstrap_from": BOOTSTRAP_FROM,
    "resamples": RESAMPLES,
}


def verdict_rule() -> list[str]:
    """Return the rule by which verdicts are reached, a paragraph for each of them."""
    text = (TEMPLATES / "verdict_rule.md").read_text(encoding="utf-8").format(**NUMBERS)
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def how_to_read() -> str:
    """Return the page's text."""
    text = (TEMPLATES / HOW_TO_READ).read_text(encoding="utf-8")
    return text.format(**NUMBERS, rule="\n\n".join(verdict_rule()))


def write_how_to_read(reports: Path) -> Path:
    """Write the page beside the reports' folders, with the one it leads to; returns its path."""
    for name in (WHY, "verdicts_power.png"):
        with atomic.replacing(reports / name) as file:
            file.write((TEMPLATES / name).read_bytes())
    atomic.write_text(reports / HOW_TO_READ, how_to_read())
    return reports / HOW_TO_READ
