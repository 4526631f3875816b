"""Growth: what a training step costs as batch, tokens, depth or width grow."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import median

from mae_ablation.bench.lanes import Way, rates, started
from mae_ablation.bench.laptop import Training, laptop
from mae_ablation.bench.pairs import seconds
from mae_ablation.bench.threads import threads
from mae_ablation.data.dataset import load
from mae_ablation.recipe.recipe import Recipe

WARM_UP = 2
STEPS = 6
"""of every size in a round; the 16 sizes take half a minute"""
BATCHES = (32, 64, 128, 256)
SIDES = (20, 30, 40, 50)
DEPTHS = (2, 4, 8, 16)
WIDTHS = (64, 96, 128, 192)
LANES, LANE_STEPS = (1, 2), 30


@dataclass(frozen=True)
class Growth:
    """How seconds grow with a size."""

    what: str
    sizes: tuple[float, ...]
    seconds: tuple[float, ...]
    """of a step, the median of the rounds"""
    exponent: float
    """slope of log seconds over log size, by least squares"""
    expected: str
    note: str = ""


def growth(rounds: int, steps: int = STEPS) -> list[Growth]:
    """Of pre-training steps of the laptop recipe, data included, with one thread."""
    recipe = laptop()
    with threads(1):
        return [
            by_batch(recipe, rounds, steps),
            by_tokens(recipe, rounds, steps),
            by_depth(recipe, rounds, steps),
            by_width(recipe, rounds, steps),
        ]


def by_batch(recipe: Recipe, rounds: int, steps: int) -> Growth:
    def sized(images: int) -> Recipe:
        return replace(recipe, pretrain=replace(recipe.pretrain, batch_size=images))

    times = step_times(sized, BATCHES, rounds, steps)
    return grown("seconds of a step by images in a batch", BATCHES, times, "1: linear")


def by_tokens(recipe: Recipe, rounds: int, steps: int) -> Growth:
    def sized(side: int) -> Recipe:
        return replace(recipe, data=replace(recipe.data, image_size=side))

    patches = tuple(sized(side).patches for side in SIDES)
    times = step_times(sized, SIDES, rounds, steps)
    return grown(
        "seconds of a step by patches of an image",
        patches,
        times,
        "1: linear while the matrix products dominate; attention alone is quadratic",
        f"Image sides of {', '.join(map(str, SIDES))} px in patches of {recipe.model.patch_size}.",
    )


def by_depth(recipe: Recipe, rounds: int, steps: int) -> Growth:
    def sized(depth: int) -> Recipe:
        return replace(recipe, model=replace(recipe.model, encoder_depth=depth))

    times = step_times(sized, DEPTHS, rounds, steps)
    each, rest = line(DEPTHS, times)
    return grown(
        "seconds of a step by encoder blocks",
        DEPTHS,
        times,
        "below 1: a part that does not grow, then the same for every block",
        f"By a straight line: {1e3 * each:.1f} ms for every added block, {1e3 * rest:.1f} ms for "
        "decoder, data and all else.",
    )


def by_width(recipe: Recipe, rounds: int, steps: int) -> Growth:
    def sized(width: int) -> Recipe:
        return replace(recipe, model=replace(recipe.model, encoder_width=width))

    times = step_times(sized, WIDTHS, rounds, steps)
    return grown(
        "seconds of a step by width of the encoder",
        WIDTHS,
        times,
        "between 1 and 2: what is done per number is linear, matrix products are quadratic",
    )


def by_lanes(recipe: Recipe, rounds: int) -> Growth:
    """Seconds that one and two lanes take for as many images as an epoch has, data included."""
    with ExitStack() as stack:
        ways = [started(stack, Way(count, threads=1), LANE_STEPS) for count in LANES]
        turns = [[sum(rates(way)) for way in ways] for _ in range(rounds)]
    images = len(load(recipe.data).train)
    times = tuple(images / median(rate) for rate in zip(*turns, strict=True))
    return grown(
        "seconds for the images of an epoch by lanes of one thread",
        LANES,
        times,
        "-1: as many times the images",
    )


def grown(what: str, sizes: tuple, times: tuple, expected: str, note: str = "") -> Growth:
    return Growth(what, tuple(sizes), times, exponent(sizes, times), expected, note)


def step_times(
    sized: Callable[[int], Recipe], sizes: tuple[int, ...], rounds: int, steps: int
) -> tuple[float, ...]:
    """Seconds of a step at every size: the median of rounds that go through all sizes in turn."""
    trainings = [Training(sized(size)) for size in sizes]
    for training in trainings:
        seconds(training.step, WARM_UP)
    turns = [[seconds(training.step, steps) for training in trainings] for _ in range(rounds)]
    return tuple(median(times) for times in zip(*turns, strict=True))


def exponent(sizes: tuple[float, ...], times: tuple[float, ...]) -> float:
    """b of seconds = a x size^b, by least squares of the logarithms."""
    slope, _ = line([math.log(size) for size in sizes], [math.log(time) for time in times])
    return slope


def line(xs, ys) -> tuple[float, float]:
    """Slope and intercept of the straight line through these points, by least squares."""
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    products = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    slope = products / sum((a - x) ** 2 for a in xs)
    return slope, y - slope * x
