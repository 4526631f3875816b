"""The page "How to read this table": what the columns and sentences of every report mean.

It is the same for all studies, so it stands once beside their folders, and tables link to it.
"""

import re
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

SHIPPED = Path(__file__).parent / "templates"

VERDICT_RULE = (
    f"*verdict*, of our difference to the baseline against the paper's. p values are of "
    f"two-sided t tests paired by seed, corrected by Holm's method over every row of the table, "
    f"references and unfinished rows too, and over all looks that the study declared: where "
    f"nothing has an effect, at most a share alpha of tables claim one ({100 * ALPHA:.0f} % unless "
    f"the study declares another), however often they are looked at. *reproduced*: the "
    f"corrected interval (at the level Holm's method decides the row on; table.csv has it) "
    f"excludes zero on the side of the paper's difference. *contradicted*: it excludes zero on "
    f"the other side. Only the direction is compared: a difference of a hundredth of the paper's "
    f"size is reproduced, too, which is why both stand in the cell. Where the paper's "
    f"difference is within a margin, the interval at alpha over the number of tests decides "
    f"instead: reproduced within the margin, contradicted wholly outside. The margin is {NOISE} "
    f"points for fine-tuning (the official code's own seeds spread by 0.07 to 0.08) and "
    f"{PROBE_NOISE} for a linear probe (its probes trained again lie up to that far from the "
    f"paper's); the paper itself has one seed of everything. *inconclusive*: neither; in "
    f"brackets how many seeds would decide it with {100 * POWER:.0f} % power if the mean and the "
    f"spread seen were the truth, a guess as rough as the spread of few seeds is; no number "
    f"stands where the difference is smaller than what this many test images allow, their part "
    f"of its standard error where single answers are kept, else the binomial one of the row's "
    f"accuracy, which seeds do not take away. Fewer than {FEWEST} seeds decide nothing: "
    f"inconclusive. Where every seed has the same difference the exact sign test takes the t "
    f"test's place. *no difference*: two one-sided tests at the same error find the difference "
    f"within the margin that the study declared, and the test images allow to say so; whether "
    f"the paper has one stands beside it. *undecided so far*: more looks were declared. "
    f"*incomplete*: a seed is missing, here or in the baseline. *not comparable*: a stand-in, "
    f"levels at equal FLOPs, which the paper does not have, or a seed of the row or the baseline "
    f"that lies far from the others or at chance. Verdicts are over seeds, on this one test "
    f"split, and all of this holds for what was declared before the first result: a number of "
    f"seeds, or looks at which rows that are decided stop. Seeds that are added otherwise until "
    f"a row is decided decide too often, and a table that has such seeds says that it is "
    f"descriptive only."
)

COLUMN_WORDS = {
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
    "baseline, does not by more than the margin (where the test images allow to say so), or is not "
    "decided, and after how many seeds",
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
  without pre-training. Fewer than {FEWEST} seeds decide nothing.
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
    """Return the page's text."""
    columns = "\n".join(f"| {name} | {words} |" for name, words in COLUMN_WORDS.items())
    verdicts = re.sub(r" (\*[a-z ]+\*: )", r"\n\n\1", VERDICT_RULE)  # a paragraph for each
    return (
        "# How to read this table\n\n"
        "Images that are held out of training make every choice; the test split makes none.\n\n"
        f"| column | what it is |\n|---|---|\n{columns}\n\n"
        f"## Sentences\n\n{SENTENCES}\n"
        f"## Verdicts\n\n{verdicts}\n\n"
        f"[Why these tests]({WHY}), with their error rates and their power.\n"
    )


def write_how_to_read(reports: Path) -> Path:
    """Write the page beside the reports' folders, with the one it leads to; returns its path."""
    for path in SHIPPED.glob("verdicts*"):
        with atomic.replacing(reports / path.name) as file:
            file.write(path.read_bytes())
    atomic.write_text(reports / HOW_TO_READ, how_to_read())
    return reports / HOW_TO_READ
