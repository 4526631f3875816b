"""Table: levels with mean, spread over seeds, difference to the baseline and the paper's value."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from mae_ablation.recipe.cost import nominal_flops, pretrain_flops
from mae_ablation.recipe.presets import size_of
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.report.answers import answers_of
from mae_ablation.report.apart import apart
from mae_ablation.report.cells import trials_behind
from mae_ablation.report.choice import UNFINISHED
from mae_ablation.report.judge import COMPARISON, differences, judge
from mae_ablation.report.results import HOURS, LOSS, column_of, metrics_of
from mae_ablation.study.budget import EQUAL, training_ratio
from mae_ablation.study.paper import paper_row, paper_value
from mae_ablation.study.plan import Plan, Row

STAND_IN = "stand-in tokeniser, in-domain"


def table_frame(plan: Plan, results: pd.DataFrame, readings: Any = None) -> pd.DataFrame:
    """One line per measured quantity and row of the plan.

    `readings`: where answers to single test images are read; None: they are not.

    Columns: metric, factor, level, kind, kept_patches, epochs (of pre-training), flops (of a
    pre-training image, over the baseline's), training (FLOPs of the whole pre-training, likewise;
    all four of the chosen try, and empty where tries differ and none is chosen), features (values
    of an image that a reference's classifier sees),
    mean, sd (n - 1; empty for one seed), test_error (binomial standard error of the mean from the
    number of test images, in points), seeds (finished), seeds_asked, failed, apart (seeds that lie
    far from the row's others, or at chance, in words), difference and
    difference_sd (paired by seed, to the baseline, over the seeds both have; hours: where both were
    measured alike), low and high (95 % t interval of the difference), p (two-sided), p_holm,
    corrected_low and corrected_high (interval at the row's Holm level), boot_low and boot_high (95
    % BCa bootstrap, from five seeds), conditions (of measured hours), speedup and paper_speedup
    (hours only), paper, paper_difference, verdict, seeds_needed (that would decide an inconclusive
    row; 101: more than 100), note, tuned (only where the study tunes), margin (points) and decided
    (in words; only where the study declares looks or a margin). Where answers to single test images
    are kept: seed_se and image_se (standard errors of the difference from seeds and from the choice
    of images), both_low and both_high (95 % interval that counts both). Without spread over the
    seeds there is no interval and no p.
    """
    lines = []
    for metric in metrics_of(plan):
        mine = results[results["metric"] == metric]
        by_row = {i: rows.set_index("seed") for i, rows in mine.groupby("row")}
        baseline = next(i for i, row in enumerate(plan.rows) if row.is_baseline)
        rows = [*plan.rows, *plan.references]
        base = recipes_shown(plan, metric, baseline, results)
        found = [
            line(
                plan,
                metric,
                rows[i],
                by_row[i],
                rows[baseline],
                by_row[baseline],
                recipes_shown(plan, metric, i, results),
                base,
            )
            for i in sorted(by_row)
        ]
        known = answers_of(plan, metric, results, readings).splits()
        judge(
            found,
            differences(by_row, baseline, found),
            plan.study.declared,
            {place: known[i] for place, i in enumerate(sorted(by_row)) if i in known},
            judged=metric not in (LOSS, HOURS),
        )
        lines += [{k: v for k, v in line.items() if k not in FOR_JUDGING} for line in found]
    numbers = dict.fromkeys((*COMPARISON, "paper", "paper_difference", "test_error"), float)
    frame = pd.DataFrame(lines).astype({**numbers, "seeds_needed": "Int64", "features": "Int64"})
    return frame.fillna({"decided": ""}) if "decided" in frame else frame


FOR_JUDGING = ("complete", "comparable", "alike", "tested")
"""what `line` finds out for `judge` and the table does not show"""


def recipes_shown(plan: Plan, metric: str, number: int, results: pd.DataFrame) -> list[Recipe]:
    """The recipe behind a row's value; of every try while the search is not finished."""
    row = (*plan.rows, *plan.references)[number]
    mine = results[(results["metric"] == metric) & (results["row"] == number)]
    if any(reason.startswith(UNFINISHED) for reason in mine["reason"].dropna()):
        return [each.some.recipe for each in row.tries]
    trials = trials_behind(plan, results, metric, number)
    return [next(iter(trials.values())).recipe]


def agreed(values: Iterable[Any]) -> Any:
    """What all of them are; None where they differ."""
    first, *others = values
    return first if all(other == first for other in others) else None


def line(
    plan: Plan,
    metric: str,
    row: Row,
    mine: pd.DataFrame,
    base: Row,
    theirs: pd.DataFrame,
    recipes: list[Recipe],
    base_recipes: list[Recipe],
) -> dict:
    """One row, not yet compared; `mine` and `theirs` are the row's and the baseline's results."""
    values, baseline = mine["value"].astype(float), theirs["value"].astype(float)
    paper, paper_base = paper_of(plan, metric, row), paper_of(plan, metric, base)
    both = not row.is_baseline and paper is not None and paper_base is not None
    stand_in = any(recipe.stand_in for recipe in (*recipes, *base_recipes))
    reference = row in plan.references
    alike = metric != HOURS or conditions(mine) == conditions(theirs)
    timed = metric == HOURS and alike
    both_have = values.notna() & baseline.notna()  # by seed
    accuracy = metric not in (LOSS, HOURS)
    far, base_far = (apart(side, plan.data) if accuracy else "" for side in (values, baseline))
    return {
        "metric": metric,
        "factor": mine["factor"].iloc[0],
        "level": row.label,
        "kind": mine["kind"].iloc[0],
        "kept_patches": None if reference else agreed(r.kept_patches for r in recipes),
        "epochs": None if reference else agreed(r.pretrain.epochs for r in recipes),
        "flops": None if reference else agreed(ratios(plan, flops, recipes, base_recipes)),
        "training": None if reference else agreed(trainings(plan, recipes, base_recipes)),
        "features": features(plan, metric, row) if reference else None,
        "mean": values.mean(),
        "sd": values.std(),
        "test_error": test_error(plan, values.mean()) if accuracy else None,
        "seeds": int(values.notna().sum()),
        "seeds_asked": len(mine),
        "failed": int((mine["status"] == "failed").sum()),
        "apart": far,
        **dict.fromkeys(COMPARISON),
        "conditions": conditions(mine) if metric == HOURS else "",
        "speedup": baseline[both_have].mean() / values[both_have].mean() if timed else None,
        "paper_speedup": paper_base / paper if metric == HOURS and paper and paper_base else None,
        "paper": paper,
        "paper_difference": round(paper - paper_base, 1) if both else None,
        "verdict": "",
        "seeds_needed": None,
        "note": "; ".join(filter(None, [note(plan, row, mine, [] if reference else recipes), far])),
        "complete": bool(values.notna().all() and baseline.notna().all()),
        "comparable": plan.study.budget == "epochs" and not (stand_in or far or base_far),
        "alike": alike,
        # A level that is the baseline's own training is no test.
        "tested": alike
        and not row.is_baseline
        and not mine["trial_id"].isin(theirs["trial_id"]).all(),
        **({"tuned": mine["tuned"].iloc[0]} if plan.study.tune else {}),
    }


def features(plan: Plan, metric: str, row: Row) -> int | None:
    """Values of an image that the classifier of a reference row is given; None where the whole
    network is trained."""
    source, recipe = next(iter(row.trials.values())).source, row.recipe
    if source == "pixels":
        return recipe.patches * recipe.model.patch_size**2 * plan.data.channels
    return recipe.model.encoder_width if source == "random" else None


def test_error(plan: Plan, mean: float) -> float | None:
    """Binomial standard error of an accuracy from the number of test images; both in points."""
    images, share = plan.data.test_images, mean / 100
    return 100 * (max(share * (1 - share), 0) / images) ** 0.5 if images else None


def paper_of(plan: Plan, metric: str, row: Row) -> float | None:
    """The paper's number for a row, of ViT-H where that is the model and the paper has it."""
    if row.level is None or metric == LOSS:
        return None
    size = size_of(row.recipe.model.encoder_width, row.recipe.model.encoder_depth)
    return paper_value(plan.study.paper, row.factor.field, row.level.value, column_of(metric), size)


def flops(recipe: Recipe, channels: int) -> float:
    """FLOPs of a pre-training image, as executed."""
    return pretrain_flops(recipe, channels)


def ratios(
    plan: Plan,
    quantity: Callable[[Recipe, int], float],
    recipes: Sequence[Recipe],
    base_recipes: Sequence[Recipe],
) -> list[float]:
    """A quantity of a row over the baseline's; several while a search is not finished."""
    channels = plan.data.channels
    return [quantity(a, channels) / quantity(b, channels) for a in recipes for b in base_recipes]


def trainings(plan: Plan, recipes: Sequence[Recipe], base_recipes: Sequence[Recipe]) -> list[float]:
    """FLOPs of a row's whole pre-training over the baseline's; several as in `ratios`."""
    return [training_ratio(a, b, plan.data) for a in recipes for b in base_recipes]


def conditions(mine: pd.DataFrame) -> str:
    """Under what times were measured: device, lanes side by side, workers and threads of each."""
    done = mine[mine["status"] == "finished"]
    names = ["device", "lanes", "workers", "threads"]
    found = {condition(*values) for values in done[names].itertuples(index=False)}
    return "; ".join(sorted(found))


def condition(device: str, lanes: float, workers: float, threads: float) -> str:
    if workers == 1:
        return f"{device}; lanes x threads: {lanes:.0f} x {threads:.0f}"
    return f"{device}; lanes x workers x threads: {lanes:.0f} x {workers:.0f} x {threads:.0f}"


def notes_of(plan: Plan, recipe: Recipe) -> list[str]:
    """What a reader has to know of a pre-training."""
    channels, notes = plan.data.channels, []
    if recipe.stand_in:
        notes.append(STAND_IN)
    if recipe.pretrain.target == "pca":
        values = recipe.model.patch_size**2 * channels
        notes.append(f"{recipe.pca_components(channels)} of {values} coefficients")
    if recipe.pretrain.augmentation == "crop_jitter" and channels == 1:
        notes.append("grey images: brightness and contrast only")
    return notes


def unequal(ratio: float | None) -> list[str]:
    """The FLOPs of a row that were to equal the baseline's and do not."""
    if ratio is None or abs(ratio - 1) <= EQUAL:
        return []
    return [f"{ratio:.2f} times the baseline's FLOPs"]


def note(plan: Plan, row: Row, mine: pd.DataFrame, recipes: Sequence[Recipe]) -> str:
    """What a reader has to know of a row. `recipes`: of its pre-training, if it has one; what
    only some of them have is not said."""
    notes = ["baseline"] if row.is_baseline else [] if recipes else ["no pre-training"]
    said = [notes_of(plan, recipe) for recipe in recipes]
    notes += [text for text in (said[0] if said else []) if all(text in each for each in said)]
    if recipes and plan.study.budget == "flops":
        notes += unequal(agreed(trainings(plan, recipes, [plan.study.baseline])))
    if row.same_as:
        notes.append(f"same training as {row.same_as}{row.why_same()}")
    printed = paper_row(plan.study.paper, row.factor.field, row.level.value) if row.level else {}
    if "flops_ratio" in printed:
        ours = agreed(ratios(plan, nominal_flops, recipes, [plan.study.baseline]))
        counted = f", {ours:.2f}x here if counted its way" if ours else ""
        notes.append(f"paper: {printed['flops_ratio']:g}x the FLOPs{counted}")
    told = {part for text in mine["chosen"].dropna() for part in text.split("; ")}
    if epochs := sorted(part for part in told if part.endswith(" epochs")):  # the rest: `tuned`
        notes.append(f"{', '.join(epochs)}, chosen on validation")
    finished, failed = (mine["status"] == "finished").sum(), (mine["status"] == "failed").sum()
    if finished < len(mine):
        notes.append(f"{finished} of {len(mine)} seeds" + (f", {failed} failed" if failed else ""))
        notes += sorted({r for r in mine["reason"].dropna() if r.startswith(UNFINISHED)})
    return "; ".join(notes)
