"""Spread: what seeds and what test images add to the error of a difference, apart; without SciPy.

Also what a plan says by them: how many seeds a difference of one point will take.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, variance
from typing import TYPE_CHECKING, Any

from mae_ablation.report.accuracies import accuracies, is_tested, shown
from mae_ablation.store.predictions import Predictions
from mae_ablation.study.plan import Plan, Row
from mae_ablation.study.seeds_needed import seeds_to_see

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

POINT = 1.0
"""difference to the baseline that a plan counts seeds for"""

ROWS_READ, SEEDS_READ, ANSWERED = 8, 8, 3
"""levels and seeds whose results a plan reads, and levels whose answers to single images: more
would cost a large study's plan more than they tell"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The two parts of a difference's error, in points."""

    seed_sd: float
    """of the seeds' differences, n - 1; NaN for one seed"""
    image_se: float
    """standard error that the choice of test images adds to all seeds alike, 0 or more"""


def parts_of(correct: "ArrayLike") -> Parts:
    """Take apart what seeds and images add, as an analysis of variance does.

    Args:
        correct: (seeds, images); 1 where only the level's answer is right, -1 where only the
            baseline's is, else 0.
    """
    import numpy as np

    points = 100 * np.asarray(correct, float)
    seeds, images = points.shape
    by_seed, by_image, mean = points.mean(1), points.mean(0), points.mean()
    if seeds < 2:
        # What an image adds in every seed cannot be told from what it adds in this one.
        return Parts(seed_sd=float("nan"), image_se=float(by_image.std(ddof=1) / images**0.5))

    # Mean squares: of images, and of what neither seeds nor images explain.
    rest = points - by_seed[:, None] - by_image + mean
    noise = (rest**2).sum() / ((seeds - 1) * (images - 1))
    image_variance = max(by_image.var(ddof=1) - noise / seeds, 0) / images
    return Parts(seed_sd=float(by_seed.std(ddof=1)), image_se=float(image_variance**0.5))


def paired_answers(mine: dict[int, Predictions], base: dict[int, Predictions]) -> "NDArray | None":
    """What `parts_of` takes of a row and the baseline, by seed; None where they have no seed in
    common, or were asked about other images."""
    import numpy as np

    seeds = [seed for seed in mine if seed in base]
    if not seeds:
        return None
    label = base[seeds[0]].label
    asked = (each[seed].label for each in (mine, base) for seed in seeds)
    if len(label) < 2 or not all(np.array_equal(label, other) for other in asked):
        return None
    right = [(mine[s].predicted == label, base[s].predicted == label) for s in seeds]
    return np.array([ours.astype(np.int8) - theirs for ours, theirs in right])


def point_line(plan: Plan, readings: Any) -> list[str]:
    """How many seeds a difference of one point takes, by the results there are; none without any.

    At alpha over the number of a table's tests, as the last row of Holm's procedure needs at most.
    """
    rows = [*plan.rows, *plan.references]
    base = next(row for row in rows if row.is_baseline)
    said = []
    for column in plan.study.columns:
        levels = [r for r in plan.rows if is_tested(r, base, column)][:ROWS_READ]
        seed_sd = pooled_sd(plan, levels, base, column, readings)
        if seed_sd is None:
            continue
        image_se = image_error(plan, levels[:ANSWERED], base, column, readings)
        tests = sum(is_tested(row, base, column) for row in rows)
        alpha = plan.study.declared.alpha / tests
        seeds = seeds_to_see(POINT, seed_sd=seed_sd, image_se=image_se, alpha=alpha)
        few = "more test images than there are" if seeds is None else f"about {seeds} seeds"
        images = f", test images ± {image_se:.1f}" if image_se else ""
        said.append(f"{column} {few} (± {seed_sd:.1f} per seed{images})")
    return [f"a difference of 1 point takes, by the results so far: {'; '.join(said)}"] * bool(said)


def pooled_sd(
    plan: Plan, rows: Sequence[Row], base: Row, column: str, readings: Any
) -> float | None:
    """Standard deviation over seeds of the differences to the baseline, of all rows together; None
    while no row has two seeds."""
    seeds = plan.study.seeds[:SEEDS_READ]
    theirs = accuracies(base, column, seeds, readings)
    sums, degrees = 0.0, 0
    for row in rows if len(theirs) > 1 else ():
        mine = accuracies(row, column, seeds, readings)
        apart = [mine[seed] - theirs[seed] for seed in mine if seed in theirs]
        if len(apart) > 1:
            sums += variance(apart) * (len(apart) - 1)
            degrees += len(apart) - 1
    return (sums / degrees) ** 0.5 if degrees else None


def image_error(plan: Plan, rows: Sequence[Row], base: Row, column: str, readings: Any) -> float:
    """Standard error from the test images, of some rows together; 0 where no answers are kept."""
    theirs = answers_by_seed(plan, base, column, readings)
    squares = []
    for row in rows if len(theirs) > 1 else ():
        correct = paired_answers(answers_by_seed(plan, row, column, readings), theirs)
        if correct is not None and len(correct) > 1:
            squares.append(parts_of(correct).image_se ** 2)
    return fmean(squares) ** 0.5 if squares else 0.0


def answers_by_seed(plan: Plan, row: Row, column: str, readings: Any) -> dict[int, Predictions]:
    """What each test image was answered in the trials of a row, where it was kept."""
    found = {}
    for seed in plan.study.seeds[:SEEDS_READ]:
        if pair := shown(row.trials[seed], column, readings):
            found[seed] = readings.answers(pair[0])
    return {seed: each for seed, each in found.items() if each is not None}


def together(errors: Sequence[float]) -> float:
    """Root mean square of those that are numbers; NaN of none."""
    known = [error**2 for error in errors if isfinite(error)]
    return fmean(known) ** 0.5 if known else float("nan")
