"""How a report's numbers came about, in words: data, protocols, settings, captions, the command."""

import shlex
from collections.abc import Iterable, Sequence

import pandas as pd

from mae_ablation.recipe.recipe import Recipe
from mae_ablation.registry import column_of as row_of
from mae_ablation.report.findings import count_tests
from mae_ablation.report.metrics import HOURS, LOSS, quantity_of
from mae_ablation.report.wording import count_noun, list_names
from mae_ablation.study.identity import evaluation_section
from mae_ablation.study.plan import Plan
from mae_ablation.study.provenance import mixed, plugins_in, plugins_of
from mae_ablation.study.trial import Phase

LOOKS_TITLE = "Looks"


def describe_data(plan: Plan, results: pd.DataFrame) -> str:
    """Name data, recipe, epochs, seeds and commit of a table, and what of the data was not
    taken."""
    study, recipes = plan.study, _recipes(plan)
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


def _recipes(plan: Plan) -> list[Recipe]:
    """Return the recipes of a table's rows: what is said of all of them is to hold for each."""
    return [row.recipe for row in plan.rows]


def _format_range(numbers: Iterable[int]) -> str:
    """Format "7", or "1 to 14" where they differ."""
    found = sorted(set(numbers))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def list_left_out_images(plan: Plan) -> list[str]:
    """List what lies in the folders of a study's images and no training takes, a text per
    folder."""
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
    tested = table[(table["metric"] != HOURS) & table["p"].notna()]["metric"].unique()
    words = ["*vs baseline*: paired by seed"] if table["difference"].notna().any() else []
    if len(tested):
        counts = ", ".join(str(count_tests(results, metric)) for metric in tested)
        words.append(f"*p (Holm)*: corrected for the table's {counts} tests")
    if "both_low" in table and table["both_low"].notna().any():
        words.append("*95 % with images*: counts the choice of test images, too")
    if table["kept_patches"].dropna().nunique() > 1:
        patches = _format_range(r.patches for r in _recipes(plan))
        words.append(f"*kept*: visible patches, of {patches}")
    if table["paper"].notna().any() and plan.study.paper != "table_2":
        words.append("*paper*: ViT-L/16 on ImageNet-1K; compare shapes, not heights")

    # and what holds for all of them
    if any(level.here for factor in plan.study.factors for level in factor.levels):
        words.append("*(here ...)*: the paper's level, and what it is at this recipe's scale")
    held_out = [r.data.validation_images for r in _recipes(plan)]
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
    """Say what a table's mean is."""
    recipe, quantity = plan.study.baseline, quantity_of(metric)
    if metric == HOURS:
        return (
            "*hours*: pre-training alone, without start-up, on the machine and lanes named below; "
            "*speed-up*: over the baseline. *paper*: hours of 800 epochs on 128 TPU-v3 cores."
        )
    if metric == LOSS:
        return "*mean*: pre-training loss of the last epoch."
    what = "top-1 accuracy" if quantity.number == "acc1" else quantity.title
    unit = " in per cent" if quantity.number == "acc1" else ""
    first = f"*mean*: {what} on the test split{unit}"
    if _settings_differ(plan, quantity.column):
        first += " (settings of the baseline, but for what is varied or tuned)"
    how = recipe.chosen("evaluation", quantity.column).method(recipe)
    rows = [n for n in plan.study.phases[1:] if row_of(n) == quantity.column != n]
    below = [f" {recipe.chosen('evaluation', name).method(recipe)}." for name in rows]
    return f"{first}, {how}.{''.join(below)}"


def _settings_differ(plan: Plan, column: str) -> bool:
    """Say whether some row, or some try of one, is evaluated with other settings than the rest."""
    found = [
        evaluation_section(trial.recipe.chosen("evaluation", column), trial.recipe, "pretrain")
        for row in (*plan.rows, *plan.references)
        for each in row.tries
        for trial in [each.some]
        if any(phase.column == column for phase in trial.phases)
    ]
    return any(settings != found[0] for settings in found)


def describe_conditions(rows: pd.DataFrame) -> str:
    """Say under what conditions hours were measured, and whether they were the same."""
    levels: dict[str, list[str]] = {}
    for row in rows.to_dict("records"):
        levels.setdefault(row["conditions"] or "not measured", []).append(row["level"])
    if len(levels) == 1:
        return f"Measured on {next(iter(levels))}."
    parts = "; ".join(f"{list_names(names)}: {what}" for what, names in levels.items())
    return f"Measured under different conditions, so speed-ups are left out: {parts}."


# captions -----------------------------------------------------------------------------------------


def caption_looks(plan: Plan) -> str:
    """Say what is drawn of the looks of a study."""
    margin = plan.study.declared.margin
    band = "" if margin is None else f" Band: the declared margin of ±{margin:g} points."
    return (
        f"Difference of each row to the baseline at each look until the row is decided, with the "
        f"interval that holds over all looks and rows together.{band}"
    )


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


def caption_curves(plan: Plan) -> str:
    """Say what the training curves are, and what may be compared in them."""
    several = len(plan.study.seeds) > 1
    lines = "Thick: mean over seeds; thin: every seed." if several else "One seed."
    return (
        f"{lines} Losses of different targets or masking ratios are not of the same thing: their "
        f"shapes may be compared, not their heights."
    )
