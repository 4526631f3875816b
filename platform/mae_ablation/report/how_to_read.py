"""The page "How to read this table": what the columns and sentences of every report mean.

It is the same for all studies, so it stands once beside their folders, and tables link to it.
"""

import re
from pathlib import Path

from mae_ablation.report.apart import FAR, POINTS_OFF
from mae_ablation.report.paired import BOOTSTRAP_FROM, RESAMPLES
from mae_ablation.report.verdict import RULE, SEEDS
from mae_ablation.store import atomic

HOW_TO_READ, WHY = "how_to_read.md", "verdicts.md"
"""names of the page, beside the reports' folders, and of the one that says why these tests"""

LINKS = f"[How to read this table](../{HOW_TO_READ}); [why these tests](../{WHY})."
"""from a report's folder"""

SHIPPED = Path(__file__).parent / "templates"

VERDICT = re.compile(r" (\*[a-z ]+\*: )")
NEW_PARAGRAPH = r"\n\n\1"
"""VERDICT and NEW_PARAGRAPH: each verdict of the rule begins a paragraph"""

COLUMNS = {
    "level": "what is varied; *(here ...)* is what the paper's level is at this recipe's scale. A "
    "reference is followed by how many values of an image its classifier sees",
    "kept": "patches that stay visible, of those an image is cut into",
    "epochs, flops, training": "epochs of the pre-training, FLOPs of one image of it, and FLOPs of "
    "all of it; the last two over the baseline's, by arithmetic. Shown where levels differ in it",
    "mean, sd": "over the seeds that are finished; the standard deviation is that of seeds (n - 1)",
    "seeds": "finished of those asked for",
    "vs baseline": "mean of the differences to the baseline, paired by seed, ± their standard "
    "deviation",
    "95 %": "t interval of that mean, not corrected for the number of rows or looks",
    "bootstrap 95 %": f"BCa interval, from {BOOTSTRAP_FROM} seeds on, {RESAMPLES} resamples; of "
    "few seeds too narrow, it decides nothing",
    "p (Holm)": "of the two-sided t test, corrected for all tests of the table",
    "95 % with images": "interval that counts the choice of test images as well as the seeds, "
    "where answers to single images are kept",
    "decided": "of a study that declares looks or a margin: whether the row differs from the "
    "baseline, does not by more than the margin, or is not decided, and after how many seeds",
    "paper": "ViT-L/16 on ImageNet-1K (ViT-H/14 where Table 2 has it), 800 epochs unless the "
    "schedule is the factor, one seed: compare shapes, not heights",
    "paper vs baseline": "the paper's difference to its own value at the baseline",
    "hours, speed-up": "pre-training alone; over the baseline's hours, where both were "
    "measured alike",
    "tuned": "the values that were searched for each level, with the same tries, and the one that "
    "is best on the validation split. At the edge of what was tried a better one may lie beyond",
    "verdict": "see below",
}

SENTENCES = f"""\
- **Above the table**: the verdicts, counted, and what the rest of the table says against a reading
  of them: neighbouring levels whose means go the other way than the paper's, levels below a row
  without pre-training. Fewer than {SEEDS} seeds decide nothing.
- **Steps between neighbouring levels** stand beside the comparison with the baseline where levels
  are numbers: "better than the baseline" on one side of it is no trend.
- **Highest mean**: over levels that have every seed. The highest of several means is too high by
  luck; the levels that may be best are those that a one-sided test does not rule out.
- **A seed lies apart** where it is more than {FAR} median absolute deviations and more than
  {POINTS_OFF} points from its row's median, or at chance. Nothing is dropped: the row names the
  seed, its verdict and the headline are withheld.
- **Descriptive only** is a table of a study that was declared after results, or whose fixed seeds
  were added to: error rates hold for what was declared before the first result.
- **Test images** limit what seeds can decide, as every seed is tested on the same ones. Where
  answers to single images are kept a line says what the seeds and the images add to the standard
  error of a difference (root mean square over the levels), and more of which helps.
"""


def how_to_read() -> str:
    """The page's text."""
    columns = "\n".join(f"| {name} | {words} |" for name, words in COLUMNS.items())

    return (
        "# How to read this table\n\n"
        "Images that are held out of training make every choice; the test split makes none.\n\n"
        f"| column | what it is |\n|---|---|\n{columns}\n\n"
        f"## Sentences\n\n{SENTENCES}\n"
        f"## Verdicts\n\n{VERDICT.sub(NEW_PARAGRAPH, RULE)}\n\n"
        f"[Why these tests]({WHY}), with their error rates and their power.\n"
    )


def write_how_to_read(reports: Path) -> Path:
    """Write the page beside the reports' folders, with the one it leads to; returns its path."""
    for path in SHIPPED.glob("verdicts*"):
        with atomic.replacing(reports / path.name) as file:
            file.write(path.read_bytes())
    atomic.write_text(reports / HOW_TO_READ, how_to_read())
    return reports / HOW_TO_READ
