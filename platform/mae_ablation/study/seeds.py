"""Seeds: which ones a study takes, in order, and how many of them there are at each look.

    seeds: 3                        # 0, 1, 2
    seeds: [4, 5, 6]
    seeds: {first: 3, most: 20}     # until decided: looked at after 3, 5, 8, 12 and 20 seeds
    seeds: {first: 3, most: 12, looks: [3, 6, 12], start: 100}

A number of seeds fixed beforehand is a single look.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from mae_ablation.errors import UserError, unknown
from mae_ablation.study.document import Document
from mae_ablation.study.values import (
    Unreadable,
    format_given,
    format_value,
    is_null,
    to_number,
    to_whole,
)

GROWTH = 1.6
"""from one look to the next, about"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sequential:
    """When a study is looked at, and how much error it may make over all looks and rows together.

    A number of seeds fixed beforehand is the declaration with a single look.
    """

    looks: tuple[int, ...]
    """seeds at each look, increasing; the last is the most seeds"""
    alpha: float = 0.05
    """chance that a table without any effect claims one, over all looks and rows"""
    spending: Literal["pocock", "obrien_fleming"] = "pocock"
    """how alpha is spent over the looks: evenly (early answers), or nearly all at the last"""
    margin: float | None = None
    """points: differences within it count as none; None: no row is decided as no difference"""

    def __post_init__(self) -> None:
        if not self.looks or list(self.looks) != sorted(set(self.looks)) or self.looks[0] < 1:
            raise UserError(
                f"looks are {', '.join(map(str, self.looks)) or 'none'}: give seeds from 1 up, "
                f"each look with more than the one before"
            )
        if len(self.looks) > 1 and self.looks[0] < 2:
            raise UserError("the first look has 1 seed: give it 2 or more, one has no spread")
        if not 0 < self.alpha < 1:
            raise UserError(f"alpha is {self.alpha:g}: give a chance between 0 and 1, as 0.05")
        if self.spending not in ("pocock", "obrien_fleming"):
            raise UserError(f"spending is {self.spending}: use pocock or obrien_fleming")
        if self.margin is not None and not 0 < self.margin < math.inf:
            raise UserError(f"margin is {self.margin:g}: give points above 0, as 0.5")

    @property
    def most(self) -> int:
        """The most seeds a row may take."""
        return self.looks[-1]


def looks_between(first: int, most: int) -> tuple[int, ...]:
    """Seeds at each look, growing geometrically: (3, 20) gives (3, 5, 8, 12, 20)."""
    if not 1 <= first <= most:
        raise UserError(
            f"first is {first} and most is {most}: first is 1 or more, and at most `most`"
        )
    steps = max(round(math.log(most / first) / math.log(GROWTH)), 1)
    return tuple(sorted({round(first * (most / first) ** (i / steps)) for i in range(steps + 1)}))


MOST_SEEDS = 10_000  # a slip, such as 1e9, is said before it is planned
FIRST, MOST = 3, 20  # until decided, where a study does not say
FEWEST = 3  # of a look or a verdict: two give small spreads by chance now and then
GROWING = "seeds: {first: 3, most: 20} or --until-decided"
KEYS = ("first", "most", "looks", "start")
Place = Callable[..., str]
"""gives the place of a key, for errors"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedPlan:
    """The seeds that a study may take."""

    seeds: tuple[int, ...]
    """in the order they are taken"""
    looks: tuple[int, ...]
    """how many of them there are at each look; the last: all"""

    @property
    def grows(self) -> bool:
        """Tell whether results decide how many of the seeds are taken."""
        return len(self.looks) > 1


def read_seeds(document: Document) -> SeedPlan:
    """Return the seeds of a study's or a suite's file; one where it says nothing.

    Raises:
        UserError: with file and line of what cannot be.
    """
    value = document.data.get("seeds", 1)
    if isinstance(value, dict):
        return _growing(value, lambda *key: document.place("seeds", *key))
    return seeds_of(value, document.place("seeds"))


def seeds_of(value: Any, place: str) -> SeedPlan:
    """Seeds 0 to n - 1 of a number, or those of a list; of Python's numbers or of text.

    Raises:
        UserError: another value, a seed that is given twice, or more seeds than MOST_SEEDS.
    """
    found = [_whole(each) for each in (value if isinstance(value, list) else [value])]
    if None in found or not found or (not isinstance(value, list) and found[0] < 1):
        message = f"seeds must be a number from 1 or a list of numbers, not {format_given(value)}"
        raise UserError(message, place)
    if not isinstance(value, list):
        found = range(found[0]) if found[0] <= MOST_SEEDS else ()
    if not 0 < len(found) <= MOST_SEEDS:
        message = f"seeds {format_given(value)} are too many: use {MOST_SEEDS:,} or fewer"
        raise UserError(message, place)
    if len(set(found)) < len(found):
        raise UserError(f"a seed is given twice: {format_value(value)}", place)
    return SeedPlan(seeds=tuple(found), looks=(len(found),))


def grown(fixed: SeedPlan, most: int | None) -> SeedPlan:
    """Seeds that grow until rows are decided, instead of those of a study (`--until-decided`).

    Args:
        fixed: the study's own; the first look has as many as its first, and FIRST at least.
        most: seeds of the last look; None: the study's own, or MOST.

    Raises:
        UserError: most is below the first look, or the study names its seeds one by one.
    """
    start = fixed.seeds[0]
    if not is_counted(fixed.seeds):
        raise UserError("the study lists its seeds: add --seeds N", "--until-decided")
    if fixed.grows and most is None:
        return fixed
    first = fixed.looks[0] if fixed.grows else max(fixed.looks[0], FIRST)
    last = max(MOST, first) if most is None else most
    return _counted(first, last, None, start, lambda *key: "--most")


def is_counted(seeds: Sequence[int]) -> bool:
    """Tell whether seeds count up one by one, so that it is clear which come next."""
    return list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))


def flags_of(seeds: SeedPlan) -> tuple[str, ...]:
    """Return the flags that ask for such seeds."""
    flags = ("--seeds", str(seeds.looks[0]))
    return (*flags, "--until-decided", "--most", str(seeds.looks[-1])) if seeds.grows else flags


def read_declared(document: Document, seeds: SeedPlan) -> Sequential:
    """Return the declaration of a study: its looks, and how much error it allows itself over them.

    Raises:
        UserError: with file and line of what cannot be.
    """
    given: dict[str, Any] = {}
    for key in ("alpha", "margin"):
        if not is_null(document.data.get(key)):
            given[key] = _number(document.data[key], key, document.place(key))
    if not is_null(document.data.get("spending")):
        given["spending"] = str(document.data["spending"])
    fixed = not seeds.grows and not isinstance(document.data.get("seeds"), dict)
    for key in ("alpha", "spending"):
        if key in given and fixed:
            raise UserError(f"{key} goes with {GROWING}: remove it", document.place(key))
    try:
        return Sequential(looks=seeds.looks, **given)
    except UserError as error:
        wrong = str(error).split(" ", 1)[0]  # the message begins with the field's name
        raise UserError(str(error), document.place(wrong)) from None


def seeds_line(declared: Sequential) -> str:
    """Return how many seeds a study takes, and when it is looked at."""
    margin = "" if declared.margin is None else f", no difference: within ±{declared.margin:g}"
    looks = ", ".join(map(str, declared.looks))
    return f"seeds: {declared.looks[0]} at first, at most {declared.most}, looks at {looks}{margin}"


def _growing(given: dict, place: Place) -> SeedPlan:
    """Return the seeds of a mapping with `first`, `most`, `looks` and `start`."""
    for key in given:
        if key not in KEYS:
            raise UserError(unknown("key of seeds", key, KEYS), place(key))
    looks = None
    if "looks" in given:
        listed = given["looks"] if isinstance(given["looks"], list) else []
        looks = [_counting(each, "looks", place("looks")) for each in listed]
        if not looks:
            said = format_given(given["looks"])
            raise UserError(f"looks is {said}: give a list, as [3, 5, 8]", place("looks"))
    first = _counting(given["first"], "first", place("first")) if "first" in given else None
    most = _counting(given["most"], "most", place("most")) if "most" in given else None
    start = _counting(given["start"], "start", place("start")) if "start" in given else 0
    if first is None:
        first = looks[0] if looks else FIRST
    if most is None:
        most = looks[-1] if looks else max(MOST, first)
    return _counted(first, most, looks, start, place)


def _counted(
    first: int, most: int, looks: Sequence[int] | None, start: int, place: Place
) -> SeedPlan:
    """Seeds from `start` on, with looks from `first` to `most`; checks that they can be."""
    if first < FEWEST:
        message = (
            f"first is {first}: fewer than {FEWEST} seeds decide nothing, give {FEWEST} or more"
        )
        raise UserError(message, place("first"))
    if first > most:
        raise UserError(f"most is {most}, first is {first}: give {first} or more", place("most"))
    if most > MOST_SEEDS:
        raise UserError(f"most is {most}: use {MOST_SEEDS:,} or fewer", place("most"))
    if looks is None:
        looks = looks_between(first, most)
    said = ", ".join(map(str, looks))
    if list(looks) != sorted(set(looks)):
        message = f"looks are {said}: each needs more seeds than the one before"
        raise UserError(message, place("looks"))
    if (looks[0], looks[-1]) != (first, most):
        message = f"looks are {said}: begin them at {first} and end them at {most}"
        raise UserError(message, place("looks"))
    return SeedPlan(seeds=tuple(range(start, start + most)), looks=tuple(looks))


def _whole(value: Any) -> int | None:
    """Return a whole number from 0; None for any other value."""
    try:
        number = to_whole(value) if isinstance(value, str) else value
    except Unreadable:
        return None
    return number if type(number) is int and number >= 0 else None


def _counting(value: Any, name: str, place: str) -> int:
    """Return a whole number from 0. Raises UserError for any other value."""
    found = _whole(value)
    if found is None:
        raise UserError(f"{name} is {format_given(value)}: give a whole number", place)
    return found


def _number(value: Any, name: str, place: str) -> float:
    try:
        return to_number(value if isinstance(value, str) else "")
    except Unreadable:
        raise UserError(f"{name} is {format_given(value)}: give a number, as 0.5", place) from None


def seeds_to_see(
    difference: float,
    *,
    seed_sd: float,
    image_se: float,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int | None:
    """Smallest number of seeds that finds a difference; None if no number does.

    The test images are the same for every seed, so that their part of the error stays however many
    seeds there are. Student's t is allowed for as usual (Guenther 1981), by z^2 / 2 more seeds.

    Args:
        difference: true difference to the baseline, in points.
        seed_sd: standard deviation of the paired differences over seeds, in points.
        image_se: standard error from the choice of test images alone, in points.
    """
    normal = NormalDist()
    z = normal.inv_cdf(1 - alpha / 2)
    room = (difference / (z + normal.inv_cdf(power))) ** 2 - image_se**2
    if room <= 0:
        return None
    return max(2, math.ceil(seed_sd**2 / room + z**2 / 2))
