"""The pages' templates, and the page "How to read this table", which explains every report.

It is the same for all studies, so it stands once beside their folders, and tables link to it. Its
text is templates/how_to_read.md and verdict_rule.md, with the numbers that decide.
"""

import re
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, select_autoescape
from markupsafe import Markup, escape

from mae_ablation.report.metrics import NOISE, PROBE_NOISE
from mae_ablation.report.paired import ALPHA, BOOTSTRAP_FROM, POWER, RESAMPLES
from mae_ablation.report.table import FAR, POINTS_OFF
from mae_ablation.store import atomic
from mae_ablation.study.seeds import FEWEST

# names of the page, beside the reports' folders, and of the one that says why these tests
HOW_TO_READ, WHY = "how_to_read.md", "verdicts.md"

# both, as a report's page links to them
LINKS = f"[How to read this table](../{HOW_TO_READ}); [why these tests](../{WHY})."

TEMPLATES = Path(__file__).parent / "templates"
THRESHOLDS = {
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


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Find the package's templates; whatever is put into HTML is escaped."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["emphasised"] = emphasise
    return found


def load_template(name: str) -> Template:
    """Load the template of a page."""
    return _environment().get_template(name)


def emphasise(text: str) -> Markup:
    """Show the *words* of a Markdown sentence as emphasis."""
    return Markup(re.sub(r"\*([^*]+)\*", r"<em>\1</em>", str(escape(text))))


def verdict_rule() -> list[str]:
    """Return the rule by which verdicts are reached, a paragraph for each of them."""
    text = (TEMPLATES / "verdict_rule.md").read_text(encoding="utf-8").format(**THRESHOLDS)
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def how_to_read() -> str:
    """Return the page's text."""
    text = (TEMPLATES / HOW_TO_READ).read_text(encoding="utf-8")
    return text.format(**THRESHOLDS, rule="\n\n".join(verdict_rule()))


def write_how_to_read(reports: Path) -> None:
    """Write the page beside the reports' folders, with the one it leads to."""
    for name in (WHY, "verdicts_power.png"):
        with atomic.replacing(reports / name) as file:
            file.write((TEMPLATES / name).read_bytes())
    atomic.write_text(reports / HOW_TO_READ, how_to_read())
