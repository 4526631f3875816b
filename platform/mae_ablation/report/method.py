"""How a report's numbers came about, in words: data, protocols, settings, captions, the command."""

import shlex
from collections.abc import Iterable, Sequence

import pandas as pd

from mae_ablation.recipe.evaluations import Finetune, LinearProbe
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.report.findings import count_tests
from mae_ablation.report.metrics import HOURS, column_of, is_accuracy
from mae_ablation.report.summary import counted, on_labels, some
from mae_ablation.study.plan import Plan

LOOKS_TITLE = "Looks"


def describe_data(plan: Plan, results: pd.DataFrame) -> str:
    """Name data, recipe, epochs, seeds and commit of a table, and what of the data was not
    taken."""
    study, recipes = plan.study, _recipes(plan)
    data = ", ".join(dict.fromkeys(recipe.data.name for recipe in recipes))
    commits = ", ".join(sorted(set(results["commit"].dropna()))) or "none"
    changed = f" with {', '.join(study.changed)}" if study.changed else ""
    seeds = ", ".join(map(str, sorted(set(results["seed"]))))
    return (
        f"Data {data} ({_format_range(r.data.image_size for r in recipes)} px), "
        f"recipe {study.recipe_name}{changed}, "
        f"{_format_range(r.pretrain.epochs for r in recipes)} pre-training epochs, "
        f"seeds {seeds}, commit {commits}."
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
    return shlex.join(words)


def describe_cost(plan: Plan, finished: Sequence[dict]) -> str:
    """Sum the training time behind a report, each phase once, however many lanes shared it."""
    seconds = sum(result["seconds"] for result in finished)
    return (
        f"the {counted(len(finished), 'finished training')} of its "
        f"{counted(len(plan.trials), 'trial')} took {seconds / 60:.0f} minutes, summed over the "
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
        said.append(f"{counted(again, 'training')} needed more than one attempt.")
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
    recipe, probe = plan.study.baseline, plan.study.baseline.linear_probe
    top1 = "*mean*: top-1 accuracy on the test split in per cent"
    if is_accuracy(metric) and _settings_differ(plan, column_of(metric)):
        top1 += " (settings of the baseline, but for what is varied or tuned)"
    if metric == "linear_probe_acc1":
        return f"{top1}, {_describe_probe(probe)}."
    if metric == "knn_acc1":
        knn = recipe.knn
        return (
            f"{top1}, {knn.neighbours} nearest neighbours by cosine of {probe.pooling} features, "
            f"weighted at temperature {knn.temperature:g}{on_labels(knn)}."
        )
    if metric == "finetune_acc1":
        how = _describe_finetuning(recipe.finetune)
        scratch = ""
        if "scratch" in plan.study.phases:
            s = recipe.scratch
            settings = f"{_describe_finetuning(s)}, EMA {s.ema:g}"
            scratch = f" *from scratch*: no pre-training ({settings})."
        return f"{top1}, fine-tuning end to end, after its last epoch ({how}).{scratch}"
    if metric == "partial_acc1":
        tried = ", ".join(map(str, recipe.partial.epochs_tried))
        how = _describe_finetuning(recipe.partial, epochs=False)
        return (
            f"{top1}, the last blocks fine-tuned ({how}). Of "
            f"{tried} epochs, each a training of its own, the one best on validation is taken, as "
            f"the paper's protocol has it; 0 blocks is the linear probe."
        )
    if metric == HOURS:
        return (
            "*hours*: pre-training alone, without start-up, on the machine and lanes named below; "
            "*speed-up*: over the baseline. *paper*: hours of 800 epochs on 128 TPU-v3 cores."
        )
    return "*mean*: pre-training loss of the last epoch."


def _describe_probe(probe: LinearProbe) -> str:
    """Describe the linear probe's protocol."""
    if probe.protocol == "converged":
        choice = "chosen on validation" if len(probe.penalties) > 1 else f"{probe.penalty:g}"
        return (
            f"linear probe brought to convergence (logistic regression on {probe.pooling} "
            f"features, L2 penalty {choice}){on_labels(probe)}"
        )
    return (
        f"linear probe after its last epoch ({probe.protocol} protocol, {probe.pooling} features, "
        f"{probe.epochs} epochs){on_labels(probe)}"
    )


def _settings_differ(plan: Plan, column: str) -> bool:
    """Say whether some row, or some try of one, is evaluated with other settings than the rest."""
    found = [
        (getattr(trial.recipe, column), column == "knn" and trial.recipe.linear_probe.pooling)
        for row in (*plan.rows, *plan.references)
        for each in row.tries
        for trial in [each.some]
        if any(phase.column == column for phase in trial.phases)
    ]
    return any(settings != found[0] for settings in found)


def _describe_finetuning(s: Finetune, *, epochs: bool = True) -> str:
    """List the settings of a fine-tuning; RandAugment's is said where it is not the paper's."""
    first = f"{counted(s.epochs, 'epoch')}, " if epochs else ""
    magnitude = s.randaugment_magnitude
    augment = f"RandAugment {magnitude}, cut at 9.9 of 10" if magnitude else "no RandAugment"
    return (
        f"{first}layer decay {s.layer_decay:g}, drop path {s.drop_path:g}, mixup {s.mixup:g}, "
        f"cutmix {s.cutmix:g}, {augment}{on_labels(s)}"
    )


def describe_conditions(rows: pd.DataFrame) -> str:
    """Say under what conditions hours were measured, and whether they were the same."""
    levels: dict[str, list[str]] = {}
    for row in rows.to_dict("records"):
        levels.setdefault(row["conditions"] or "not measured", []).append(row["level"])
    if len(levels) == 1:
        return f"Measured on {next(iter(levels))}."
    parts = "; ".join(f"{some(names)}: {what}" for what, names in levels.items())
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
