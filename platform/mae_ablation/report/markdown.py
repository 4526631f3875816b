"""The report's page in Markdown: caption, tables, how it was measured, how to make it again.

What the columns mean stands on one page for all studies, "How to read this table".
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from mae_ablation.report.captions import LOOKS_TITLE
from mae_ablation.report.headline import preamble, table_headlines
from mae_ablation.report.how_to_read import LINKS
from mae_ablation.report.measured import measured, where
from mae_ablation.report.page import TITLES, caption, command, recipes_of, span, spent, table_lines
from mae_ablation.report.published import Published
from mae_ablation.report.results import HOURS
from mae_ablation.report.sentences import COULD_SEE, could_see, sentences
from mae_ablation.report.statistics import tests_of
from mae_ablation.report.summary import counted
from mae_ablation.study.plan import Plan


def markdown(
    plan: Plan,
    table: pd.DataFrame,
    results: pd.DataFrame,
    finished: Sequence[dict],
    *,
    descriptive: str = "",
    looks: Mapping[str, str] | None = None,
    published: Sequence[Published] = (),
) -> str:
    """The page of a study.

    Args:
        finished: the result of every training behind it, each once.
        looks: by metric the name of the picture of its looks, of a study that declares some.
        descriptive: that its tables are descriptive only, and why, or "".
        published: reports of the study that ship with the project.
    """
    # what a reader has to know first, then what the numbers are of
    study, first = plan.study, preamble(plan, descriptive)
    lines = [f"# {study.title}", ""] + ([f"**{first}**", ""] if first else [])
    lines += [caption(plan, results), ""]

    # a table for each quantity, with what it bears at hand and what it could bear folded away
    for metric, headline in table_headlines(plan, table, results).items():
        rows = table[table["metric"] == metric]
        lines += [f"**{TITLES[metric]}.** {headline}".rstrip(), ""]
        lines += [*table_lines(rows), ""]
        if found := sentences(plan, metric, results, table):
            lines += [*(f"- {sentence}" for sentence in found), ""]
        if seen := could_see(plan, metric, results, table):
            lines += [f"<details><summary>{COULD_SEE}</summary>", ""]
            lines += [*(f"- {sentence}" for sentence in seen), "", "</details>", ""]
        if looks and metric in looks:
            lines += [f"![{LOOKS_TITLE}: {TITLES[metric]}]({looks[metric]})", ""]
        lines += [measured(plan, metric), ""]
        if metric == HOURS:
            lines += [where(rows), ""]

    # what is the same for all of them, and how to make them again
    lines += [f"{in_short(plan, table, results)} {LINKS}", ""]
    lines += [line for remark in remarks(plan, finished) for line in (remark, "")]
    for other in published:
        link = f"[recipe {other.recipe}]({other.folder}/table.md)"
        lines += [f"Published results of this study, {link}: {other.headline}".rstrip(" :"), ""]
    lines += [f"![{study.title}](figure.png)", ""]
    lines += [f"Made by `{command(plan)}`; {spent(plan, finished)}."]
    return "\n".join(lines) + "\n"


def remarks(plan: Plan, finished: Sequence[dict]) -> list[str]:
    """What else a reader has to know of a study."""
    study, said = plan.study, []
    for factor in study.factors:
        if factor.left_out:
            left = ", ".join(factor.left_out)
            said.append(f"Levels of the paper without a counterpart at this scale: {left}.")
    if study.skipped:
        skipped = ", ".join(study.skipped)
        said.append(f"Not run, left out by {study.skipped_by}: {skipped}.")
    if again := sum(result.get("attempts", 1) > 1 for result in finished):
        said.append(f"{counted(again, 'training')} needed more than one attempt.")
    return said


def in_short(plan: Plan, table: pd.DataFrame, results: pd.DataFrame) -> str:
    """What the numbers of this study's tables are, in two lines; the rest is the same for all."""
    tested = table[(table["metric"] != HOURS) & table["p"].notna()]["metric"].unique()
    words = ["*vs baseline*: paired by seed"] if table["difference"].notna().any() else []
    if len(tested):
        counts = ", ".join(str(tests_of(results, metric)) for metric in tested)
        words.append(f"*p (Holm)*: corrected for the table's {counts} tests")
    if "both_low" in table and table["both_low"].notna().any():
        words.append("*95 % with images*: counts the choice of test images, too")
    if (table["kept_patches"].dropna().nunique()) > 1:
        words.append(f"*kept*: visible patches, of {span(r.patches for r in recipes_of(plan))}")
    if table["paper"].notna().any() and plan.study.paper != "table_2":
        words.append("*paper*: ViT-L/16 on ImageNet-1K; compare shapes, not heights")
    if any(level.here for factor in plan.study.factors for level in factor.levels):
        words.append("*(here ...)*: the paper's level, and what it is at this recipe's scale")
    held_out = [r.data.validation_images for r in recipes_of(plan)]
    if any(held_out):
        words.append(f"{span(held_out)} training images are held out for choices")
    said = f"{'; '.join(words)}." if words else ""
    if plan.study.budget == "flops":
        said += (
            " Levels are compared at equal FLOPs, within 2 % or the note says how many; the "
            "paper's at equal epochs."
        )
    return said.strip()
