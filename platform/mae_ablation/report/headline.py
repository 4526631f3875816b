"""A quantity's headline: what its whole table bears, and nothing that a row of it contradicts.

Verdicts compare each row with the baseline alone. So beside their counts it is said where a
neighbouring level goes the other way, what lies below a row without pre-training, and which seeds
lie apart. `preamble` says what too few seeds, a short recipe, or seeds added afterwards, take from
all of it.
"""

import shlex
from dataclasses import replace

import pandas as pd

from mae_ablation.report.page import command
from mae_ablation.report.quoted import quoted
from mae_ablation.report.results import HOURS, LOSS
from mae_ablation.report.steps import against_the_paper
from mae_ablation.report.summary import counted, some
from mae_ablation.report.verdict import SEEDS
from mae_ablation.report.verdict import headline as verdicts_counted
from mae_ablation.study.plan import Plan

NAMED_LEVELS = 6
"""levels that a sentence lists"""

REFERENCE_WORDS = {"random encoder": "a random encoder", "from scratch": "training from scratch"}
"""references in a sentence, where their label is none"""


def preamble(plan: Plan, descriptive: str = "") -> str:
    """What a reader has to know before the first table; "" where nothing.

    Args:
        descriptive: that its tables are descriptive only, and why, or "".
    """
    return " ".join(filter(None, [too_few(plan), young(plan), descriptive]))


def young(plan: Plan) -> str:
    """That the recipe trains too short to decide much, and what shows more; "" where it names no
    other recipe, and where nothing is to be decided or the training is not the recipe's."""
    study = plan.study
    longer = any(change.startswith("pretrain.epochs=") for change in study.changed)
    if not study.more or not study.columns or longer:
        return ""
    words = ["python", "-m", "platform.run", str(study.path), "--recipe", study.more]
    words += ["--until-decided"] if study.may_grow else []
    epochs = counted(study.baseline.pretrain.epochs, "epoch")
    return (
        f"Recipe {study.recipe_name} trains for {epochs} only, which seldom tells levels apart; "
        f"what shows more: {shlex.join(words)}"
    )


def too_few(plan: Plan) -> str:
    """That the study has too few seeds to decide anything, and what to type to have enough."""
    seeds = len(plan.study.seeds)
    if seeds >= SEEDS:
        return ""
    who = "One seed decides" if seeds == 1 else f"{seeds} seeds decide"
    enough = replace(plan, study=replace(plan.study, seeds=tuple(range(SEEDS))))
    return f"{who} nothing; for {SEEDS} seeds: {command(enough)}"


def table_headline(plan: Plan, metric: str, table: pd.DataFrame, results: pd.DataFrame) -> str:
    """The sentences above a quantity's table; "" where there is nothing to say."""
    rows = table[table["metric"] == metric]
    said = [verdicts_or_why(plan, metric, rows), *cautions(plan, metric, table, results)]
    return " ".join(filter(None, said))


def verdicts_or_why(plan: Plan, metric: str, rows: pd.DataFrame) -> str:
    """What one quantity's rows decide and their counted verdicts, or that seeds that lie apart
    withhold them."""
    if seeds_apart(rows):
        return "No headline:"
    return " ".join(filter(None, [quoted(plan, metric, rows), verdicts_counted(rows)]))


def table_headlines(plan: Plan, table: pd.DataFrame, results: pd.DataFrame) -> dict[str, str]:
    """The headline of every quantity, in the order of the tables."""
    return {
        metric: table_headline(plan, metric, table, results)
        for metric in dict.fromkeys(table["metric"])
    }


def cautions(plan: Plan, metric: str, table: pd.DataFrame, results: pd.DataFrame) -> list[str]:
    """What belongs beside a table's verdicts wherever they are counted, in sentences."""
    rows = table[table["metric"] == metric]
    if withheld := seeds_apart(rows):
        return [withheld]
    return [*against_the_paper(plan, metric, table, results), *below_references(metric, rows)]


def seeds_apart(rows: pd.DataFrame) -> str:
    """A sentence on the levels with a seed far from the others or at chance; "" without any."""
    rows = rows[(rows["kind"] != "reference") & (rows["apart"] != "")]
    if rows.empty:
        return ""
    each = some(
        [f"{row['level']}: {row['apart']}" for row in rows.to_dict("records")], NAMED_LEVELS
    )
    every = " Every difference rests on the baseline." if "baseline" in set(rows["kind"]) else ""
    return f"seeds lie apart ({each}).{every}"


def below_references(metric: str, rows: pd.DataFrame) -> list[str]:
    """Which levels have a lower mean than a row without pre-training. Rows that lack a seed are
    not compared."""
    if metric in (LOSS, HOURS):
        return []
    whole = rows[(rows["seeds"] == rows["seeds_asked"]) & (rows["apart"] == "")]
    levels, references = (whole[(whole["kind"] == "reference") == side] for side in (False, True))
    said = []
    for label, mean in references[["level", "mean"]].itertuples(index=False):
        below = levels.loc[levels["mean"] < mean, "level"].tolist()
        every = len(below) == (rows["kind"] != "reference").sum() > 1
        if below:
            who = "every level" if every else some(below, NAMED_LEVELS)
            said.append(f"Below {REFERENCE_WORDS.get(label, label)} ({mean:.2f}): {who}.")
    return said
