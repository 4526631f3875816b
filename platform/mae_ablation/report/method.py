"""Says how a report's numbers came about: data, protocols, settings, captions, the command."""

import shlex
from collections.abc import Iterable, Sequence

import pandas as pd

from mae_ablation.registry import column_of
from mae_ablation.report.metrics import HOURS, LOSS, quantity_of
from mae_ablation.report.results import count_tests
from mae_ablation.report.wording import count_noun, list_names
from mae_ablation.study.identity import evaluation_section
from mae_ablation.study.plan import Plan
from mae_ablation.study.provenance import mixed, plugins_in, plugins_of
from mae_ablation.study.trial import Phase


def describe_data(plan: Plan, results: pd.DataFrame) -> str:
    """Name data, recipe, epochs, seeds and commit of a table, and what was not taken."""
    # what is said of all rows is to hold for each
    study, recipes = plan.study, [row.recipe for row in plan.rows]
    data = ", ".join(dict.fromkeys(recipe.data.name for recipe in recipes))
    commits = ", ".join(sorted(set(results["commit"].dropna()))) or "none"
    changed = f" with {', '.join(study.changed)}" if study.changed else ""
    seeds = ", ".join(map(str, sorted(set(results["seed"]))))
    theirs = plugins_in(_phases(plan))
    return (
        f"Data {data} ({_format_range(r.data.image_size for r in recipes)} px), "
        f"recipe {study.recipe_name}{changed}, "
        f"{_format_range(r.pretrain.epochs for r in recipes)} pre-training epochs, "
        f"seeds {seeds}, commit {commits}{mixed(results['commit'].dropna())}."
        + (f" Plug-ins: {theirs}." if theirs else "")
        + "".join(f" Not taken: {each}." for each in list_left_out_images(plan))
    )


def _format_range(numbers: Iterable[int]) -> str:
    """Format "7", or "1 to 14" where they differ."""
    found = sorted(set(numbers))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def list_left_out_images(plan: Plan) -> list[str]:
    """List what lies in the folders of images and no training takes, a text per folder."""
    return list(dict.fromkeys(trial.data.left_out for trial in plan.trials if trial.data.left_out))


def run_command(plan: Plan) -> str:
    """Return the command that makes a report; seeds that are not 0, 1, ... stand in the study."""
    study = plan.study
    words = ["python", "-m", "platform.run", str(study.path), "--recipe", study.recipe_name]
    for change in study.changed:
        words += ["--set", change]
    if study.asked_phases:
        words += ["--phases", ",".join(study.asked_phases)]
    if study.grows:
        words += study.seed_flags
    elif study.seeds == tuple(range(len(study.seeds))):
        words += ["--seeds", str(len(study.seeds))]
    for plugin in plugins_of(_phases(plan)):
        words += [] if plugin.entry else ["--plugin", plugin.name]
    return shlex.join(words)


def _phases(plan: Plan) -> list[Phase]:
    return [phase for trial in plan.trials for phase in trial.phases]


def describe_cost(plan: Plan, finished: Sequence[dict]) -> str:
    """Sum the training time behind a report, each phase once, however many lanes shared it."""
    seconds = sum(result["seconds"] for result in finished)
    return (
        f"the {count_noun(len(finished), 'finished training')} of its "
        f"{count_noun(len(plan.trials), 'trial')} took {seconds / 60:.0f} minutes, summed over the "
        f"lanes, evaluations included"
    )


def list_remarks(plan: Plan, finished: Sequence[dict]) -> list[str]:
    """List what else a reader has to know of a study."""
    study = plan.study
    said = [
        f"Levels of the paper without a counterpart at this scale: {', '.join(factor.left_out)}."
        for factor in study.factors
        if factor.left_out
    ]
    if study.skipped:
        said.append(f"Not run, left out by {study.skipped_by}: {', '.join(study.skipped)}.")
    if again := sum(result.get("attempts", 1) > 1 for result in finished):
        said.append(f"{count_noun(again, 'training')} needed more than one attempt.")
    return said


def explain_columns(plan: Plan, table: pd.DataFrame, results: pd.DataFrame) -> str:
    """Explain the numbers of this study's tables in two lines; the rest is the same for all."""
    # the columns that are there
    recipes = [row.recipe for row in plan.rows]
    tested = table[(table["metric"] != HOURS) & table["p"].notna()]["metric"].unique()
    words = ["*vs baseline*: paired by seed"] if table["difference"].notna().any() else []
    if len(tested):
        counts = ", ".join(str(count_tests(results, metric)) for metric in tested)
        words.append(f"*p (Holm)*: corrected for the table's {counts} tests")
    if "both_low" in table and table["both_low"].notna().any():
        words.append("*95 % with images*: counts the choice of test images, too")
    if table["kept_patches"].dropna().nunique() > 1:
        patches = _format_range(recipe.patches for recipe in recipes)
        words.append(f"*kept*: visible patches, of {patches}")
    if table["paper"].notna().any() and plan.study.paper != "table_2":
        words.append("*paper*: ViT-L/16 on ImageNet-1K; compare shapes, not heights")

    # and what holds for all of them
    if any(level.here for factor in plan.study.factors for level in factor.levels):
        words.append("*(here ...)*: the paper's level, and what it is at this recipe's scale")
    held_out = [recipe.data.validation_images for recipe in recipes]
    if any(held_out):
        words.append(f"{_format_range(held_out)} training images are held out for choices")
    said = f"{'; '.join(words)}." if words else ""
    if plan.study.budget == "flops":
        said += (
            " Levels are compared at equal FLOPs, within 2 % or the note says how many; the "
            "paper's at equal epochs."
        )
    return said.strip()


# protocols ----------------------------------------------------------------------------------------


def describe_protocol(plan: Plan, metric: str) -> str:
    """Say how a table's mean was measured."""
    if metric == HOURS:
        return (
            "*hours*: pre-training alone, without start-up, on the machine and lanes named below; "
            "*speed-up*: over the baseline. *paper*: hours of 800 epochs on 128 TPU-v3 cores."
        )
    if metric == LOSS:
        return "*mean*: pre-training loss of the last epoch."
    recipe, quantity = plan.study.baseline, quantity_of(metric)
    unit = " in per cent" if quantity.number == "acc1" else ""
    what = "top-1 accuracy" if unit else quantity.title
    first = f"*mean*: {what} on the test split{unit}"

    # settings of some row, or some try of one, may be others than the rest's
    column = quantity.column
    trials = [t.some for row in (*plan.rows, *plan.references) for t in row.tries]
    settings = [
        evaluation_section(trial.recipe.chosen("evaluation", column), trial.recipe, "pretrain")
        for trial in trials
        if any(phase.column == column for phase in trial.phases)
    ]
    if any(each != settings[0] for each in settings):
        first += " (settings of the baseline, but for what is varied or tuned)"
    names = [name for name in plan.study.phases[1:] if column_of(name) == column != name]
    how, *below = [recipe.chosen("evaluation", name).method(recipe) for name in (column, *names)]
    return f"{first}, {how}.{''.join(f' {each}.' for each in below)}"


def describe_conditions(rows: pd.DataFrame) -> str:
    """Say under what conditions hours were measured, and whether they were the same."""
    levels: dict[str, list[str]] = {}
    for row in rows.to_dict("records"):
        levels.setdefault(row["conditions"] or "not measured", []).append(row["level"])
    if len(levels) == 1:
        return f"Measured on {next(iter(levels))}."
    parts = "; ".join(f"{list_names(names)}: {what}" for what, names in levels.items())
    return f"Measured under different conditions, so speed-ups are left out: {parts}."


def caption_figure(table: pd.DataFrame) -> str:
    """Say what is drawn of a study's levels."""
    levels = table[table["kind"] != "reference"]
    several = bool((levels["seeds"] > 1).any())
    said = ["Means over seeds with 95 % t intervals, every seed a dot" if several else "One seed"]
    if levels["paper"].notna().any():
        said.append("the paper's values on an axis of their own")
    if (levels["factor"].notna() & (levels["kind"] == "baseline")).any():
        said.append("dotted: the baseline")
    if table.loc[table["kind"] == "reference", "mean"].notna().any():
        said.append("dash-dotted: rows without pre-training")
    return "; ".join(said) + "."
