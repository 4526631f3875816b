"""Spread: how much of a difference's error seeds bring, and how much the choice of test images.

Every seed answers the same test images, so that an image which happens to favour a level favours it
in all seeds alike: an interval over seeds does not see that. With what each image was answered the
two parts come apart, as in an analysis of variance with two crossed random factors.

A plan reads this, too, so NumPy and SciPy are imported where answers are there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, variance
from typing import TYPE_CHECKING, Any

from mae_ablation.report.metrics import evaluation_of, is_accuracy
from mae_ablation.report.readings import is_tested, read_accuracies, shown_result, trials_behind
from mae_ablation.store.predictions import Predictions
from mae_ablation.study.plan import Plan, Row
from mae_ablation.study.seeds import seeds_to_see
from mae_ablation.study.trial import Trial

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

POINT = 1.0  # difference to the baseline, in points, that a plan counts seeds for
# levels and seeds whose results a plan reads, and levels whose answers to single images: more would
# cost a large study's plan more than they tell.
ROWS_READ, SEEDS_READ, ANSWERED = 8, 8, 3

# factor by which one part of the error is the larger where it alone is called the limit
CLEARLY = 2.0

ONE_SIDED = 1.645  # standard errors below which 95 % of a normal distribution lie
Answers = Mapping[int, Predictions]  # answers to the test images by seed


@dataclass(frozen=True, kw_only=True, slots=True)
class DifferenceError:
    """A difference to the baseline and the two parts of its error, all in points."""

    difference: float
    seeds: int
    images: int
    seed_sd: float  # standard deviation of the seeds' differences, n - 1; NaN for one seed
    image_se: float
    """Standard error that the choice of test images adds to all seeds alike, 0 or more."""

    @property
    def seed_se(self) -> float:
        """Standard error from the seeds."""
        return self.seed_sd / self.seeds**0.5

    def interval(self, alpha: float = 0.05) -> tuple[float, float]:
        """Return the interval of 1 - alpha, were seeds and images drawn again; NaN for one seed."""
        from scipy import stats

        # Both parts add; their degrees of freedom are Satterthwaite's.
        seed_variance, image_variance = self.seed_sd**2 / self.seeds, self.image_se**2
        whole = seed_variance + image_variance
        squares = seed_variance**2 / max(self.seeds - 1, 1) + image_variance**2 / (self.images - 1)
        df = whole**2 / squares if squares > 0 else float("inf")
        half = float(stats.t.ppf(1 - alpha / 2, df) * whole**0.5)

        # With few seeds those degrees of freedom grow faster than the error does; what counts
        # images, too, is never more certain than the seeds alone.
        alone = float(stats.t.ppf(1 - alpha / 2, self.seeds - 1) * seed_variance**0.5)
        half = max(half, alone)
        return self.difference - half, self.difference + half


def split_error(correct: "ArrayLike") -> DifferenceError:
    """Split the error of a difference into what seeds and what images add.

    Args:
        correct: (seeds, images); 1 where only the level's answer is right, -1 where only the
            baseline's is, else 0.
    """
    import numpy as np

    points = 100 * np.asarray(correct, float)
    (seeds, images), mean = points.shape, float(points.mean())
    by_seed, by_image = points.mean(1), points.mean(0)
    seed_sd = float("nan")
    if seeds < 2:
        # what an image adds in every seed cannot be told from what it adds in this one.
        image_se = float(by_image.std(ddof=1) / images**0.5)
    else:
        # mean squares: of images, and of what neither seeds nor images explain.
        rest = points - by_seed[:, None] - by_image + points.mean()
        noise = (rest**2).sum() / ((seeds - 1) * (images - 1))
        seed_sd = float(by_seed.std(ddof=1))
        image_se = float((max(by_image.var(ddof=1) - noise / seeds, 0) / images) ** 0.5)
    return DifferenceError(
        difference=mean, seeds=seeds, images=images, seed_sd=seed_sd, image_se=image_se
    )


def margin_allows(margin: float, image_se: float | None) -> bool:
    """Say whether the test images let an equivalence within `margin` be claimed.

    Not where their error alone may be as large as the margin; None: it is not known.
    """
    return image_se is None or margin > ONE_SIDED * image_se


def format_limit(seed_se: float, image_se: float) -> str:
    """Say which standard error, in points, is the limit; `seed_se`: NaN for one seed."""
    if not seed_se >= 0:
        return f"test images: ± {image_se:.1f}; seeds: unknown from one: more seeds help"
    if seed_se == image_se == 0:
        helps = "neither limits it"
    elif seed_se >= CLEARLY * image_se:
        helps = "more seeds help, more images do not"
    elif image_se >= CLEARLY * seed_se:
        helps = "more images help, more seeds do not"
    else:
        helps = "more of either helps"
    return f"test images: ± {image_se:.1f}; seeds: ± {seed_se:.1f}: {helps}"


def root_mean_square(errors: Sequence[float]) -> float:
    """Return the root mean square of those that are numbers; NaN of none."""
    known = [error**2 for error in errors if isfinite(error)]
    return fmean(known) ** 0.5 if known else float("nan")


def compare_answers(mine: Answers, base: Answers) -> DifferenceError | None:
    """Split the error of a row's difference to the baseline; None where they have no common seed,
    or were asked about other images."""
    import numpy as np

    seeds = [seed for seed in mine if seed in base]
    if not seeds:
        return None
    label = base[seeds[0]].label
    asked = (each[seed].label for each in (mine, base) for seed in seeds)
    if len(label) < 2 or not all(np.array_equal(label, other) for other in asked):
        return None
    right = [(mine[s].predicted == label, base[s].predicted == label) for s in seeds]
    return split_error(np.array([ours.astype(np.int8) - theirs for ours, theirs in right]))


def read_answers(
    plan: Plan, metric: str, results: "pd.DataFrame", readings: Any
) -> dict[int, Answers]:
    """Read the answers behind the finished results of one quantity, by row of the plan."""
    if readings is None or not is_accuracy(metric):
        return {}
    column = evaluation_of(metric)
    found = {
        number: answers_of(trials_behind(plan, results, metric, number), column, readings)
        for number in results.loc[results["metric"] == metric, "row"].unique()
    }
    return {number: answers for number, answers in found.items() if answers}


def class_accuracies(answers: Answers, classes: int) -> "NDArray":
    """Return the accuracy of each class in per cent, (classes,); NaN for one without images."""
    import numpy as np

    found = []
    for each in answers.values():
        right = np.bincount(each.label, each.predicted == each.label, classes)
        count = np.bincount(each.label, minlength=classes)
        found.append(100 * right / np.where(count > 0, count, np.nan))
    return np.mean(found, axis=0)


def point_line(plan: Plan, readings: Any) -> list[str]:
    """Say how many seeds a difference of one point takes, by the results there are."""
    rows, seeds = [*plan.rows, *plan.references], plan.study.seeds[:SEEDS_READ]
    base = next(row for row in rows if row.is_baseline)
    said = []
    for column in plan.study.columns:
        # the seeds' part of the error, over the differences of all levels to the baseline
        levels = [row for row in plan.rows if is_tested(row, base, column)][:ROWS_READ]
        theirs = read_accuracies(base, column, seeds, readings)
        sums, degrees = 0.0, 0
        for row in levels if len(theirs) > 1 else ():
            mine = read_accuracies(row, column, seeds, readings)
            differences = [mine[seed] - theirs[seed] for seed in mine if seed in theirs]
            if len(differences) > 1:
                sums += variance(differences) * (len(differences) - 1)
                degrees += len(differences) - 1
        if not degrees:
            continue
        seed_sd = (sums / degrees) ** 0.5

        # that of the test images, where answers are kept
        found = [compare_rows(row, base, seeds, column, readings) for row in levels[:ANSWERED]]
        errors = [each.image_se for each in found if each and each.seeds > 1]
        image_se = root_mean_square(errors) if errors else 0.0

        # the seeds they take, at the level that the last row of Holm's procedure needs at most
        alpha = plan.study.declared.alpha / sum(is_tested(row, base, column) for row in rows)
        number = seeds_to_see(POINT, seed_sd=seed_sd, image_se=image_se, alpha=alpha)
        few = "more test images than there are" if number is None else f"about {number} seeds"
        images = f", test images ± {image_se:.1f}" if image_se else ""
        said.append(f"{column} {few} (± {seed_sd:.1f} per seed{images})")
    return [f"a difference of 1 point takes, by the results so far: {'; '.join(said)}"] * bool(said)


def compare_rows(
    row: Row, base: Row, seeds: Sequence[int], column: str, readings: Any
) -> DifferenceError | None:
    """Split the error of a row's difference to the baseline over some seeds, likewise."""
    trials = ({seed: each.trials[seed] for seed in seeds} for each in (row, base))
    return compare_answers(*(answers_of(each, column, readings) for each in trials))


def answers_of(trials: Mapping[int, Trial], column: str, readings: Any) -> Answers:
    """Read the answers of trials to each test image by seed, where they were kept."""
    pairs = {seed: shown_result(trial, column, readings) for seed, trial in trials.items()}
    found = {seed: readings.read_predictions(pair[0]) for seed, pair in pairs.items() if pair}
    return {seed: each for seed, each in found.items() if each is not None}
