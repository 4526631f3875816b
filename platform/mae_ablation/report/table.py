"""Table: levels with mean, spread over seeds, difference to the baseline and the paper's value.

Seeds that lie apart, as diverged or broken trainings do and a mean would hide, are named in it.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mae_ablation.recipe.cost import nominal_flops, pretrain_flops
from mae_ablation.recipe.presets import model_size
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.report.choice import SEARCH_UNFINISHED
from mae_ablation.report.metrics import (
    HOURS,
    LOSS,
    evaluation_of,
    is_accuracy,
    list_metrics,
    references_of,
)
from mae_ablation.report.readings import trials_behind
from mae_ablation.report.spread import compare_answers, read_answers
from mae_ablation.report.verdict import (
    COMPARISON,
    difference_column,
    judge_rows,
    number_column,
    verdict_column,
)
from mae_ablation.study.budget import EQUAL, training_ratio
from mae_ablation.study.paper import paper_row, paper_value
from mae_ablation.study.plan import Plan, Row
from mae_ablation.study.trial import DataFacts

# facts that `judge_rows` needs and the table does not show
FOR_JUDGING = ("complete", "comparable", "alike", "tested")

FAR = 6  # median absolute deviations from the row's median, beyond which a seed lies apart
# points that it has to lie off besides: three seeds agree closely by chance now and then
POINTS_OFF = 5

AT_LEAST = 3  # seeds that have a median to lie apart from
ERRORS = 3  # binomial standard errors above chance that still count as chance


def table_frame(plan: Plan, results: pd.DataFrame, readings: Any = None) -> pd.DataFrame:
    """Make the table: one line per measured quantity and row of the plan.

    Columns whose name does not say it: flops (of a pre-training image) and training (FLOPs of the
    whole pre-training) over the baseline's, of the chosen try; features (values of an image that a
    reference's classifier sees); sd (n - 1); test_error (binomial standard error of the mean, in
    points); difference (paired by seed, to the baseline; hours: where both were measured alike),
    low and high (95 % t interval of it), corrected_low and corrected_high (at the row's Holm
    level), boot_low and boot_high (95 % BCa bootstrap); seeds_needed (would decide an inconclusive
    row; 101: more than 100). Only where the study has them: tuned, margin (points), decided. Where
    answers to single test images are kept: seed_se and image_se (standard errors of the difference
    from seeds and from images), both_low and both_high (95 % interval that counts both). Without
    spread over the seeds there is no interval and no p.

    Args:
        readings: where answers to single test images are read; None: they are not.
    """
    lines, rows = [], [*plan.rows, *plan.references]
    baseline = next(i for i, row in enumerate(rows) if row.is_baseline)
    for metric in list_metrics(plan):
        # each row by itself
        mine = results[results["metric"] == metric]
        by_row = {i: group.set_index("seed") for i, group in mine.groupby("row")}
        shown = {i: (rows[i], by_row[i], _recipes_shown(plan, metric, i, mine)) for i in by_row}
        found = [_line(plan, metric, shown[i], shown[baseline]) for i in sorted(by_row)]

        # and beside the baseline, by seed; rows measured otherwise are not compared
        values = pd.DataFrame({i: by_row[i]["value"].astype(float) for i in sorted(by_row)})
        values = values.reindex(by_row[baseline].index)
        paired = values.sub(values[baseline], axis="index").to_numpy().T
        compared = [line["kind"] != "baseline" and line["alike"] for line in found]
        paired = np.where(np.array(compared)[:, None], paired, np.nan)
        answers = read_answers(plan, metric, results, readings)
        errors = {
            place: error
            for place, i in enumerate(sorted(by_row))
            if i != baseline and i in answers
            if (error := compare_answers(answers[i], answers.get(baseline, {})))
        }
        judge_rows(found, paired, plan.study.declared, errors, references_of(plan, metric))
        lines += [{k: v for k, v in line.items() if k not in FOR_JUDGING} for line in found]
    verdicts = {verdict_column(each) for each in plan.study.references}
    numbers = dict.fromkeys((*COMPARISON, "paper", "paper_difference", "test_error"), float)
    frame = pd.DataFrame(lines).astype({**numbers, "seeds_needed": "Int64", "features": "Int64"})
    texts = [name for name in frame if name in ("decided", "agreement") or name in verdicts]
    return frame.fillna(dict.fromkeys(texts, "")) if texts else frame


def _recipes_shown(plan: Plan, metric: str, number: int, results: pd.DataFrame) -> list[Recipe]:
    """Return the recipe behind a row's value; of every try while the search is not finished."""
    reasons = results.loc[results["row"] == number, "reason"].dropna()
    if any(reason.startswith(SEARCH_UNFINISHED) for reason in reasons):
        return [each.some.recipe for each in (*plan.rows, *plan.references)[number].tries]
    trials = trials_behind(plan, results, metric, number)
    return [next(iter(trials.values())).recipe]


def _agreed(values: Sequence[Any]) -> Any:
    """Return what all values are; None where they differ, and of none."""
    return values[0] if values and all(each == values[0] for each in values) else None


# a row, its results by seed, and the recipes behind its value
Shown = tuple[Row, pd.DataFrame, list[Recipe]]


def _line(plan: Plan, metric: str, shown: Shown, base: Shown) -> dict:
    """Make one row's line, not yet judged; `base`: the same of the baseline."""
    (row, mine, recipes), (base_row, theirs, base_recipes) = shown, base
    values, baseline = mine["value"].astype(float), theirs["value"].astype(float)
    reference, accuracy = row in plan.references, is_accuracy(metric)

    # the paper's numbers, and what forbids a comparison with them
    paper, paper_base = paper_number(plan, metric, row), paper_number(plan, metric, base_row)
    both = not row.is_baseline and paper is not None and paper_base is not None
    stand_in = any(recipe.target.stand_in for recipe in (*recipes, *base_recipes))
    apart, base_apart = (
        describe_outliers(side, plan.data) if accuracy else "" for side in (values, baseline)
    )

    # the binomial standard error of an accuracy, in points
    images, share = plan.data.test_images, values.mean() / 100
    binomial = 100 * (max(share * (1 - share), 0) / images) ** 0.5 if images else None

    # hours are compared where they were measured alike; the baseline's own training is no test
    alike = metric != HOURS or _conditions(mine) == _conditions(theirs)
    timed = metric == HOURS and alike
    both_have = values.notna() & baseline.notna()  # by seed
    own = mine["trial_id"].isin(theirs["trial_id"]).all()
    notes = [_note(plan, row, mine, [] if reference else recipes), apart]

    # several pairs while a search is not finished; a reference has no pre-training
    pairs, channels = [] if reference else [*product(recipes, base_recipes)], plan.data.channels
    flops = [pretrain_flops(a, channels) / pretrain_flops(b, channels) for a, b in pairs]
    return {
        "metric": metric,
        "factor": mine["factor"].iloc[0],
        "level": row.label,
        "kind": mine["kind"].iloc[0],
        "kept_patches": _agreed([recipe.kept_patches for recipe, _ in pairs]),
        "epochs": _agreed([recipe.pretrain.epochs for recipe, _ in pairs]),
        "flops": _agreed(flops),
        "training": _agreed([training_ratio(a, b, plan.data) for a, b in pairs]),
        "features": _count_features(plan, row) if reference else None,
        "mean": values.mean(),
        "sd": values.std(),
        "test_error": binomial if accuracy else None,
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
        **_published(plan, metric, row, base_row),
    }


def _published(plan: Plan, metric: str, row: Row, base: Row) -> dict[str, float | None]:
    """Return the numbers of the study's references for a row, and their differences."""
    found = {}
    for each in references_of(plan, metric):
        mine, theirs = (
            each.number_of(side.factor.name, side.level.label) if side.level else None
            for side in (row, base)
        )
        # its difference is to the same baseline, of which it needs a number, too
        both = not row.is_baseline and mine is not None and theirs is not None
        found[number_column(each)] = mine
        found[difference_column(each)] = round(mine - theirs, 2) if both else None
    return found


def _count_features(plan: Plan, row: Row) -> int | None:
    """Count the values a reference's classifier is given; None where all layers are trained."""
    source, recipe = next(iter(row.trials.values())).source, row.recipe
    if source == "pixels":
        return recipe.patches * recipe.model.patch_size**2 * plan.data.channels
    return recipe.model.encoder_width if source == "random" else None


def paper_number(plan: Plan, metric: str, row: Row) -> float | None:
    """Return the paper's number for a row, of ViT-H where that is the model and it has one."""
    if row.level is None or metric == LOSS:
        return None
    column, model = evaluation_of(metric), row.recipe.model
    size = model_size(model.encoder_width, model.encoder_depth)
    return paper_value(plan.study.paper, row.factor.field, row.level.value, column, size)


def _conditions(mine: pd.DataFrame) -> str:
    """Format under what times were measured: device, lanes side by side, workers and threads."""
    found, columns = set(), ["device", "lanes", "workers", "threads"]
    done = mine.loc[mine["status"] == "finished", columns]
    for device, lanes, workers, threads in done.itertuples(index=False):
        several = workers != 1  # a lane of one worker does not say so
        names = "lanes x workers x threads" if several else "lanes x threads"
        each = [lanes, workers, threads] if several else [lanes, threads]
        found.add(f"{device}; {names}: {' x '.join(f'{count:.0f}' for count in each)}")
    return "; ".join(sorted(found))


def _note(plan: Plan, row: Row, mine: pd.DataFrame, recipes: Sequence[Recipe]) -> str:
    """Say what a reader has to know of a row; `recipes`: of its pre-training, if it has one."""
    # what it is; what only some of the recipes have is not said
    notes = ["baseline"] if row.is_baseline else [] if recipes else ["no pre-training"]
    base, channels = plan.study.baseline, plan.data.channels
    parts = [[part.note(r, channels) for part in (r.target, r.augmentation)] for r in recipes]
    notes += [text for text in (parts or [[]])[0] if text and all(text in each for each in parts)]
    if recipes and plan.study.budget == "flops":
        ratio = _agreed([training_ratio(recipe, base, plan.data) for recipe in recipes])
        if ratio is not None and abs(ratio - 1) > EQUAL:
            notes.append(f"{ratio:.2f} times the baseline's FLOPs")
    if row.same_as:
        notes.append(f"same training as {row.same_as}{row.why_same()}")

    # what the paper prints of it
    printed = paper_row(plan.study.paper, row.factor.field, row.level.value) if row.level else {}
    if "flops_ratio" in printed:
        whole = nominal_flops(base, channels)
        ours = _agreed([nominal_flops(recipe, channels) / whole for recipe in recipes])
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


# seeds that lie apart ----------------------------------------------------------------------------


def describe_outliers(values: pd.Series, data: DataFacts | None) -> str:
    """Describe the seeds of a row that lie far from its others or at chance; "" where none do.

    Args:
        values: accuracies in per cent by seed; NaN where one is missing.
        data: whose classes say what chance is; None: unknown.
    """
    # at chance: what guessing reaches on this test split, with its error
    found, chance = values.dropna(), values.iloc[:0]
    if data and data.classes > 1:
        share = 1 / data.classes
        error = (share * (1 - share) / data.test_images) ** 0.5 if data.test_images else 0.0
        chance = found[found <= 100 * (share + ERRORS * error)]

    # far from the others, of which there have to be enough
    off = (found - found.median()).abs()
    far = found[(off > FAR * off.median()) & (off > POINTS_OFF) & (len(found) >= AT_LEAST)]
    far = far.drop(chance.index, errors="ignore")
    said = []
    if len(far):
        said.append(f"{_format_seeds(far)} far off (the row's median is {found.median():.2f})")
    if len(chance):
        said.append(f"{_format_seeds(chance)} at chance")
    return "; ".join(said)


def _format_seeds(values: pd.Series) -> str:
    """Format "seed 1 (10.00)", "seeds 1 (10.00), 2 (11.50)"."""
    each = ", ".join(f"{seed} ({value:.2f})" for seed, value in values.items())
    return f"{'seed' if len(values) == 1 else 'seeds'} {each}"
