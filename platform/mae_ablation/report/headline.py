"""A quantity's headline: what its whole table bears, and nothing that a row of it contradicts.

Verdicts compare each row with the baseline alone. So beside their counts it is said where a
neighbouring level goes the other way, what lies below a row without pre-training, and which seeds
lie apart. `write_preamble` says what too few seeds, a short recipe, or seeds added afterwards, take
from all of it.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from mae_ablation.report.cells import is_known
from mae_ablation.report.findings import find_steps
from mae_ablation.report.method import run_command
from mae_ablation.report.metrics import is_accuracy, quantity_of
from mae_ablation.report.spread import margin_allows
from mae_ablation.report.verdict import is_decided_by_sign
from mae_ablation.report.wording import count_noun, list_names
from mae_ablation.study.plan import Plan
from mae_ablation.study.seeds import FEWEST

NAMED_LEVELS, NAMED_STEPS = 6, 3  # levels and steps between levels that a sentence lists
# references in a sentence, where their label is none
REFERENCE_WORDS = {"random encoder": "a random encoder", "from scratch": "training from scratch"}

BESIDE_THE_PAPER = {
    "reproduced": "as in the paper",
    "contradicted": "against the paper",
    "paper differs": "where the paper has a difference",
}


def write_preamble(plan: Plan, descriptive: str = "") -> str:
    """Say what a reader has to know before the first table; "" where nothing.

    Args:
        descriptive: why its tables are descriptive only, or "".
    """
    # a recipe that trains too short to decide much names another one, unless the user has made the
    # training longer, or there is nothing to decide
    study, short = plan.study, ""
    longer = any(change.startswith("pretrain.epochs=") for change in study.changed)
    if study.more and study.columns and not longer:
        words = ["python", "-m", "platform.run", str(study.path), "--recipe", study.more]
        words += ["--until-decided"] if study.may_grow else []
        epochs = count_noun(study.baseline.pretrain.epochs, "epoch")
        short = (
            f"Recipe {study.recipe_name} trains for {epochs} only, which seldom tells levels "
            f"apart; what shows more: {shlex.join(words)}"
        )
    return " ".join(filter(None, [describe_too_few(plan), short, descriptive]))


def describe_too_few(plan: Plan) -> str:
    """Say that the study has too few seeds to decide anything, and what to type to have enough."""
    seeds = len(plan.study.seeds)
    if seeds >= FEWEST:
        return ""
    who = "One seed decides" if seeds == 1 else f"{seeds} seeds decide"
    enough = replace(plan, study=replace(plan.study, seeds=tuple(range(FEWEST))))
    return f"{who} nothing; for {FEWEST} seeds: {run_command(enough)}"


def count_decisions(plan: Plan, metric: str, rows: pd.DataFrame) -> str:
    """Say what rows decide, and count their verdicts, unless seeds that lie apart forbid it."""
    if _describe_apart(rows):
        return "No headline:"
    return " ".join(filter(None, [summarise_baseline(plan, metric, rows), count_verdicts(rows)]))


def list_cautions(plan: Plan, metric: str, table: pd.DataFrame, results: pd.DataFrame) -> list[str]:
    """List what belongs beside a table's verdicts wherever they are counted, in sentences."""
    rows = table[table["metric"] == metric]
    if withheld := _describe_apart(rows):
        return [withheld]
    said = _describe_contrary_steps(plan, metric, rows, results)
    if not is_accuracy(metric):
        return said

    # levels with a lower mean than a row without pre-training; rows that lack a seed are not asked
    whole = rows[(rows["seeds"] == rows["seeds_asked"]) & (rows["apart"] == "")]
    levels, references = (whole[(whole["kind"] == "reference") == side] for side in (False, True))
    for label, mean in references[["level", "mean"]].itertuples(index=False):
        if below := levels.loc[levels["mean"] < mean, "level"].tolist():
            every = len(below) == (rows["kind"] != "reference").sum() > 1
            who = "every level" if every else list_names(below, NAMED_LEVELS)
            said.append(f"Below {REFERENCE_WORDS.get(label, label)} ({mean:.2f}): {who}.")
    return said


def _describe_apart(rows: pd.DataFrame) -> str:
    """Name the levels with a seed far from the others or at chance; "" without any."""
    rows = rows[(rows["kind"] != "reference") & (rows["apart"] != "")]
    each = [f"{row['level']}: {row['apart']}" for row in rows.to_dict("records")]
    every = " Every difference rests on the baseline." if "baseline" in set(rows["kind"]) else ""
    return f"seeds lie apart ({list_names(each, NAMED_LEVELS)}).{every}" if each else ""


def _describe_contrary_steps(
    plan: Plan, metric: str, rows: pd.DataFrame, results: pd.DataFrame
) -> list[str]:
    """Say where neighbouring levels go the other way than the paper's, though one is reproduced."""
    found, margin = [], quantity_of(metric).margin
    for factor in plan.study.factors:
        if "reproduced" not in set(rows.loc[rows["factor"] == factor.name, "verdict"]):
            continue

        # what the paper rises or falls by within its own noise is no direction
        steps = find_steps(factor, metric, rows, results)
        known = [step for step in steps if step.paper is not None and abs(step.paper) > margin]
        if other := [step for step in known if step.difference * step.paper < 0]:
            each = "; ".join(
                f"{step.low} to {step.high} {step.difference:+.2f}, there {step.paper:+.1f}"
                for step in other[:NAMED_STEPS]
            )
            more = f"; and {len(other) - NAMED_STEPS} more" if len(other) > NAMED_STEPS else ""
            go = "goes" if len(other) == 1 else "go"
            found.append(
                f"But {len(other)} of {len(known)} steps between neighbouring levels {go} the "
                f"other way than the paper's ({each}{more})."
            )
    return found


def count_verdicts(rows: pd.DataFrame) -> str:
    """Count the verdicts of one quantity's rows in a sentence; "" where there is nothing."""
    # without the paper: what a study that declares looks or a margin has decided, without the seeds
    given = [v for v in rows["verdict"] if v]
    if not given:
        levels = rows[rows["kind"] == "level"] if "decided" in rows else rows[:0]
        decided = [re.split(" after|,", each)[0] for each in levels.get("decided", ()) if each]
        differences = count_noun(len(decided), "difference")
        return f"Of {differences} to the baseline: {list_counts(decided)}." if decided else ""

    # beside the paper
    alone = rows["seeds_asked"].max() < FEWEST
    why = f" (fewer than {FEWEST} seeds decide nothing)" if alone else ""
    signs = "; directions are compared, not sizes" if is_decided_by_sign(rows) else ""
    differences = count_noun(len(given), "difference")
    return f"Against the paper, of {differences} to the baseline: {list_counts(given)}{why}{signs}."


def list_counts(given: Sequence[str]) -> str:
    """Format "2 reproduced, 1 inconclusive", in the order of the first of each."""
    return ", ".join(f"{given.count(word)} {word}" for word in dict.fromkeys(given))


# the sentence that a reader would quote -----------------------------------------------------------


def summarise_baseline(plan: Plan, metric: str, rows: pd.DataFrame) -> str:
    """Say in one sentence what the baseline beats, and what it does not; "" where no level is
    decided, where the study varies several factors, or where lower is better.

    Only rows that are decided are named as decided.
    """
    levels, study = rows[rows["kind"] == "level"], plan.study
    if not is_accuracy(metric) or len(set(levels["factor"])) != 1 or len(study.factors) != 1:
        return ""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in levels.to_dict("records"):
        groups.setdefault(_relation(row), []).append(str(row["level"]))
    open_rows = groups.pop(("", ""), [])
    if not groups:
        return ""

    # "beats 0.1, 0.9, as in the paper; is not told from 0.5"
    parts = [
        f"{words} {', '.join(names)}" + (f", {BESIDE_THE_PAPER[verdict]}" if verdict else "")
        for (words, verdict), names in groups.items()
    ]
    parts += [f"is not told from {', '.join(open_rows)}"] if open_rows else []
    [baseline] = [row.label for row in plan.rows if row.is_baseline]
    what = f"{levels['factor'].iloc[0].replace('_', ' ')} {baseline}"
    where = f"{study.baseline.data.name}, recipe {study.recipe_name}"
    where += f" with {', '.join(study.changed)}" if study.changed else ""
    return f"On {where}: {what} {'; '.join(parts)}."


def _relation(row: Mapping) -> tuple[str, str]:
    """Return how the baseline stands to a row ("beats", "loses to", "does not differ by more than 1
    from") and which key of BESIDE_THE_PAPER goes with it; ("", "") where that is not decided."""
    verdict, decided = row["verdict"], row.get("decided") or ""
    said = verdict if verdict in BESIDE_THE_PAPER else ""
    margin, image_se = quantity_of(row["metric"]).margin, row.get("image_se")

    # Within a margin: the study's own, or that of a difference which the paper does not have.
    if decided.startswith("no difference"):
        if verdict == "no difference":
            said = "reproduced" if abs(row["paper_difference"]) <= margin else "paper differs"
        return f"does not differ by more than {row['margin']:g} from", said
    if verdict == "reproduced" and abs(row["paper_difference"]) <= margin:
        shown = margin_allows(margin, image_se if is_known(image_se) else None)
        return (f"does not differ by more than {margin:g} from", said) if shown else ("", "")

    # Different.
    if decided.startswith("different") or said:
        return ("beats" if row["difference"] < 0 else "loses to"), said
    return "", ""
