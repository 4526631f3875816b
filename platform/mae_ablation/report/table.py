"""Table: levels with mean, spread over seeds, difference to the baseline and the paper's value."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mae_ablation.recipe.cost import nominal_flops, pretrain_flops
from mae_ablation.recipe.presets import model_size
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.report.choice import SEARCH_UNFINISHED
from mae_ablation.report.metrics import HOURS, LOSS, column_of, is_accuracy, list_metrics
from mae_ablation.report.outliers import describe_outliers
from mae_ablation.report.readings import trials_behind
from mae_ablation.report.spread import compare_answers, read_answers
from mae_ablation.report.verdict import COMPARISON, judge_rows
from mae_ablation.study.budget import EQUAL, training_ratio
from mae_ablation.study.paper import paper_row, paper_value
from mae_ablation.study.plan import Plan, Row

FOR_JUDGING = ("complete", "comparable", "alike", "tested")
"""Facts that `judge_rows` needs and the table does not show."""


def table_frame(plan: Plan, results: pd.DataFrame, readings: Any = None) -> pd.DataFrame:
    """Make the table: one line per measured quantity and row of the plan.

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

    Args:
        readings: where answers to single test images are read; None: they are not.
    """
    lines, rows = [], [*plan.rows, *plan.references]
    baseline = next(i for i, row in enumerate(rows) if row.is_baseline)
    for metric in list_metrics(plan):
        # each row by itself
        mine = results[results["metric"] == metric]
        by_row = {i: group.set_index("seed") for i, group in mine.groupby("row")}
        recipes = {i: _recipes_shown(plan, metric, i, results) for i in {*by_row, baseline}}
        found = [
            _line(
                plan,
                metric,
                (rows[i], by_row[i], recipes[i]),
                (rows[baseline], by_row[baseline], recipes[baseline]),
            )
            for i in sorted(by_row)
        ]

        # and beside the baseline
        answers = read_answers(plan, metric, results, readings)
        errors = {
            place: error
            for place, i in enumerate(sorted(by_row))
            if i != baseline and i in answers
            if (error := compare_answers(answers[i], answers.get(baseline, {})))
        }
        judge_rows(found, _differences(by_row, baseline, found), plan.study.declared, errors)
        lines += [{k: v for k, v in line.items() if k not in FOR_JUDGING} for line in found]
    numbers = dict.fromkeys((*COMPARISON, "paper", "paper_difference", "test_error"), float)
    frame = pd.DataFrame(lines).astype({**numbers, "seeds_needed": "Int64", "features": "Int64"})
    return frame.fillna({"decided": ""}) if "decided" in frame else frame


def _differences(by_row: dict[int, pd.DataFrame], baseline: int, lines: list[dict]) -> np.ndarray:
    """Return differences to the baseline, (rows, seeds); NaN where a seed is missing, and in rows
    that are not compared."""
    seeds = by_row[baseline].index
    values = np.array([by_row[i]["value"].reindex(seeds).astype(float) for i in sorted(by_row)])
    paired = values - by_row[baseline]["value"].astype(float).to_numpy()
    compared = [line["kind"] != "baseline" and line["alike"] for line in lines]
    return np.where(np.array(compared)[:, None], paired, np.nan)


def _recipes_shown(plan: Plan, metric: str, number: int, results: pd.DataFrame) -> list[Recipe]:
    """Return the recipe behind a row's value; of every try while the search is not finished."""
    row = (*plan.rows, *plan.references)[number]
    mine = results[(results["metric"] == metric) & (results["row"] == number)]
    if any(reason.startswith(SEARCH_UNFINISHED) for reason in mine["reason"].dropna()):
        return [each.some.recipe for each in row.tries]
    trials = trials_behind(plan, results, metric, number)
    return [next(iter(trials.values())).recipe]


def _agreed(values: Iterable[Any]) -> Any:
    """Return what all values are; None where they differ."""
    first, *others = values
    return first if all(other == first for other in others) else None


Shown = tuple[Row, pd.DataFrame, list[Recipe]]
"""A row, its results by seed, and the recipes behind its value."""


def _line(plan: Plan, metric: str, shown: Shown, base: Shown) -> dict:
    """Make one row's line, not yet judged; `base`: the same of the baseline."""
    (row, mine, recipes), (base_row, theirs, base_recipes) = shown, base
    values, baseline = mine["value"].astype(float), theirs["value"].astype(float)
    reference, accuracy = row in plan.references, is_accuracy(metric)

    # the paper's numbers, and what forbids a comparison with them
    paper, paper_base = paper_number(plan, metric, row), paper_number(plan, metric, base_row)
    both = not row.is_baseline and paper is not None and paper_base is not None
    stand_in = any(recipe.stand_in for recipe in (*recipes, *base_recipes))
    apart, base_apart = (
        describe_outliers(side, plan.data) if accuracy else "" for side in (values, baseline)
    )

    # hours are compared where they were measured alike; the baseline's own training is no test
    alike = metric != HOURS or _conditions(mine) == _conditions(theirs)
    timed = metric == HOURS and alike
    both_have = values.notna() & baseline.notna()  # by seed
    own = mine["trial_id"].isin(theirs["trial_id"]).all()
    notes = [_note(plan, row, mine, [] if reference else recipes), apart]
    varied = {
        "kept_patches": lambda: [r.kept_patches for r in recipes],
        "epochs": lambda: [r.pretrain.epochs for r in recipes],
        "flops": lambda: _ratios(plan, pretrain_flops, recipes, base_recipes),
        "training": lambda: _training_ratios(plan, recipes, base_recipes),
    }
    return {
        "metric": metric,
        "factor": mine["factor"].iloc[0],
        "level": row.label,
        "kind": mine["kind"].iloc[0],
        **{name: None if reference else _agreed(found()) for name, found in varied.items()},
        "features": _count_features(plan, row) if reference else None,
        "mean": values.mean(),
        "sd": values.std(),
        "test_error": _test_error(plan, values.mean()) if accuracy else None,
        "seeds": int(values.notna().sum()),
        "seeds_asked": len(mine),
        "failed": int((mine["status"] == "failed").sum()),
        "apart": apart,
        **dict.fromkeys(COMPARISON),
        "conditions": _conditions(mine) if metric == HOURS else "",
        "speedup": baseline[both_have].mean() / values[both_have].mean() if timed else None,
        "paper_speedup": paper_base / paper if metric == HOURS and paper and paper_base else None,
        "paper": paper,
        "paper_difference": round(paper - paper_base, 1) if both else None,
        "verdict": "",
        "seeds_needed": None,
        "note": "; ".join(filter(None, notes)),
        "complete": bool(values.notna().all() and baseline.notna().all()),
        "comparable": plan.study.budget == "epochs" and not (stand_in or apart or base_apart),
        "alike": alike,
        "tested": alike and not row.is_baseline and not own,
        **({"tuned": mine["tuned"].iloc[0]} if plan.study.tune else {}),
    }


def _count_features(plan: Plan, row: Row) -> int | None:
    """Count the values of an image that a reference's classifier is given; None where the whole
    network is trained."""
    source, recipe = next(iter(row.trials.values())).source, row.recipe
    if source == "pixels":
        return recipe.patches * recipe.model.patch_size**2 * plan.data.channels
    return recipe.model.encoder_width if source == "random" else None


def _test_error(plan: Plan, mean: float) -> float | None:
    """Return the binomial standard error of an accuracy from the number of test images, in
    points."""
    images, share = plan.data.test_images, mean / 100
    return 100 * (max(share * (1 - share), 0) / images) ** 0.5 if images else None


def paper_number(plan: Plan, metric: str, row: Row) -> float | None:
    """Return the paper's number for a row, of ViT-H where that is the model and the paper has
    it."""
    if row.level is None or metric == LOSS:
        return None
    size = model_size(row.recipe.model.encoder_width, row.recipe.model.encoder_depth)
    return paper_value(plan.study.paper, row.factor.field, row.level.value, column_of(metric), size)


def _ratios(
    plan: Plan,
    flops: Callable[[Recipe, int], float],
    recipes: Sequence[Recipe],
    base_recipes: Sequence[Recipe],
) -> list[float]:
    """Return a row's FLOPs of an image over the baseline's; several while a search is not
    finished."""
    channels = plan.data.channels
    return [flops(a, channels) / flops(b, channels) for a in recipes for b in base_recipes]


def _training_ratios(
    plan: Plan, recipes: Sequence[Recipe], base_recipes: Sequence[Recipe]
) -> list[float]:
    """Return a row's FLOPs of the whole pre-training over the baseline's, likewise."""
    return [training_ratio(a, b, plan.data) for a in recipes for b in base_recipes]


def _conditions(mine: pd.DataFrame) -> str:
    """Format under what times were measured: device, lanes side by side, workers and threads."""
    done = mine[mine["status"] == "finished"]
    found = set()
    for device, lanes, workers, threads in zip(
        done["device"], done["lanes"], done["workers"], done["threads"], strict=True
    ):
        names, counts = "lanes x threads", f"{lanes:.0f} x {threads:.0f}"
        if workers != 1:
            names, counts = (
                "lanes x workers x threads",
                f"{lanes:.0f} x {workers:.0f} x {threads:.0f}",
            )
        found.add(f"{device}; {names}: {counts}")
    return "; ".join(sorted(found))


def _notes_of_training(plan: Plan, recipe: Recipe) -> list[str]:
    """List what a reader has to know of a pre-training."""
    parts = (recipe.target, recipe.augmentation)
    return [note for part in parts if (note := part.note(recipe, plan.data.channels))]


def _note(plan: Plan, row: Row, mine: pd.DataFrame, recipes: Sequence[Recipe]) -> str:
    """Say what a reader has to know of a row. `recipes`: of its pre-training, if it has one; what
    only some of them have is not said."""
    # what it is
    notes = ["baseline"] if row.is_baseline else [] if recipes else ["no pre-training"]
    said = [_notes_of_training(plan, recipe) for recipe in recipes]
    notes += [text for text in (said[0] if said else []) if all(text in each for each in said)]
    if recipes and plan.study.budget == "flops":
        ratio = _agreed(_training_ratios(plan, recipes, [plan.study.baseline]))
        if ratio is not None and abs(ratio - 1) > EQUAL:
            notes.append(f"{ratio:.2f} times the baseline's FLOPs")
    if row.same_as:
        notes.append(f"same training as {row.same_as}{row.why_same()}")

    # what the paper prints of it
    printed = paper_row(plan.study.paper, row.factor.field, row.level.value) if row.level else {}
    if "flops_ratio" in printed:
        ours = _agreed(_ratios(plan, nominal_flops, recipes, [plan.study.baseline]))
        counted = f", {ours:.2f}x here if counted its way" if ours else ""
        notes.append(f"paper: {printed['flops_ratio']:g}x the FLOPs{counted}")

    # what was chosen (the rest stands in `tuned`), and what is missing
    chosen = {part for text in mine["chosen"].dropna() for part in text.split("; ")}
    if epochs := sorted(part for part in chosen if part.endswith(" epochs")):
        notes.append(f"{', '.join(epochs)}, chosen on validation")
    finished, failed = (mine["status"] == "finished").sum(), (mine["status"] == "failed").sum()
    if finished < len(mine):
        notes.append(f"{finished} of {len(mine)} seeds" + (f", {failed} failed" if failed else ""))
        notes += sorted({r for r in mine["reason"].dropna() if r.startswith(SEARCH_UNFINISHED)})
    return "; ".join(notes)
