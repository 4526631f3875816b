"""Seeds: which ones a study takes, in order, and how many of them there are at each look.

    seeds: 3                        # 0, 1, 2
    seeds: [4, 5, 6]
    seeds: {first: 3, most: 20}     # until decided: looked at after 3, 5, 8, 12 and 20 seeds

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

MOST_SEEDS = 10_000  # a slip, such as 1e9, is said before it is planned
FIRST, MOST = 3, 20  # until decided, where a study does not say
FEWEST = 3  # of a look or a verdict: two give small spreads by chance now and then
GROWTH = 1.6  # from one look to the next, about
Place = Callable[[str], str]
"""gives the place of a key, for errors"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sequential:
    """When a study is looked at, and how much error it may make over all looks and rows together.

    Declared before the first result: only then do verdicts hold at their stated error rate
    (`report/sequential.py` decides by them).
    """

    looks: tuple[int, ...]
    """seeds at each look, increasing; the last is the most seeds"""
    alpha: float = 0.05
    """chance that a table without any effect claims one, over all looks and rows"""
    spending: Literal["pocock", "obrien_fleming"] = "pocock"
    """alpha is spent over the looks evenly (early answers), or nearly all at the last"""
    margin: float | None = None
    """points: differences within it count as none; None: no row is decided as no difference"""

    def __post_init__(self) -> None:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedPlan:
    """The seeds that a study may take."""

    seeds: tuple[int, ...]
    """in the order they are taken"""
    looks: tuple[int, ...]
    """numbers of them at each look; the last: all"""

    @property
    def grows(self) -> bool:
        """Tell whether results decide how many of the seeds are taken."""
        return len(self.looks) > 1

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of the command line that ask for these seeds."""
        flags = ("--seeds", str(self.looks[0]))
        return (*flags, "--until-decided", "--most", str(self.looks[-1])) if self.grows else flags


SeedChoice = int | Sequence[int] | SeedPlan | None
"""seeds that a command, a notebook or a suite asks for; None: the study's own"""


def choose_seeds(document: Document, given: SeedChoice, grow: bool, most: int | None) -> SeedPlan:
    """Return the seeds of a study's file, or those given instead.

    Args:
        grow: take them until rows are decided (`--until-decided`).
        most: seeds of the last look then; None: the study's own, or MOST.
    """
    # the seeds as they are said, in a file, by a notebook or by a suite
    if most is not None and not grow:
        raise UserError("it goes with --until-decided: add that, or use --seeds N", "--most")
    if given is None:
        fixed = read_seeds(document)
    elif isinstance(given, SeedPlan):
        fixed = given
    else:
        fixed = _fixed(given if isinstance(given, int) else list(given), "--seeds")
    if not grow:
        return fixed

    # the first look has as many as the study's first, and enough to decide anything
    if not is_counted(fixed.seeds):
        raise UserError("the study lists its seeds: add --seeds N", "--until-decided")
    if fixed.grows and most is None:
        return fixed
    first = fixed.looks[0] if fixed.grows else max(fixed.looks[0], FIRST)
    last = max(MOST, first) if most is None else most
    return _counted(first, last, fixed.seeds[0], lambda key: "--most")


def read_seeds(document: Document) -> SeedPlan:
    """Return the seeds of a study's or a suite's file; one where it says nothing."""
    value = document.data.get("seeds", 1)
    if isinstance(value, dict):
        return _growing(value, lambda key: document.place("seeds", key))
    return _fixed(value, document.place("seeds"))


def is_counted(seeds: Sequence[int]) -> bool:
    """Tell whether seeds count up one by one, so that it is clear which come next."""
    return list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))


def read_declared(document: Document, seeds: SeedPlan) -> Sequential:
    """Return the declaration of a study: its looks, and how much error it allows itself over them.

    Raises:
        UserError: with file and line of what cannot be.
    """
    given: dict[str, Any] = {}
    for key in ("alpha", "margin", "spending"):
        if not is_null(value := document.data.get(key)):
            place = document.place(key)
            given[key] = str(value) if key == "spending" else _number(value, key, place)

    # what spends the error over looks needs looks, in the file at least
    if not seeds.grows and not isinstance(document.data.get("seeds"), dict):
        for key in ("alpha", "spending"):
            if key in given:
                growing = "seeds: {first: 3, most: 20} or --until-decided"
                raise UserError(f"{key} goes with {growing}: remove it", document.place(key))
    try:
        return Sequential(looks=seeds.looks, **given)
    except UserError as error:
        wrong = str(error).split(" ", 1)[0]  # the message begins with the field's name
        raise UserError(str(error), document.place(wrong)) from None


def seeds_line(declared: Sequential) -> str:
    """Say how many seeds a study takes, and when it is looked at."""
    margin = "" if declared.margin is None else f", no difference: within ±{declared.margin:g}"
    looks = ", ".join(map(str, declared.looks))
    return f"seeds: {declared.looks[0]} at first, at most {declared.most}, looks at {looks}{margin}"


def _fixed(value: Any, place: str) -> SeedPlan:
    """Return seeds 0 to n - 1 of a number, or those of a list; of Python's numbers or of text."""
    # a number counts from 0; a list names seeds one by one
    found = [_whole(each) for each in (value if isinstance(value, list) else [value])]
    if None in found or not found or (not isinstance(value, list) and found[0] < 1):
        message = f"seeds must be a number from 1 or a list of numbers, not {format_given(value)}"
        raise UserError(message, place)
    if (len(found) if isinstance(value, list) else found[0]) > MOST_SEEDS:
        message = f"seeds {format_given(value)} are too many: use {MOST_SEEDS:,} or fewer"
        raise UserError(message, place)
    if not isinstance(value, list):
        found = range(found[0])
    if len(set(found)) < len(found):
        raise UserError(f"a seed is given twice: {format_value(value)}", place)
    return SeedPlan(seeds=tuple(found), looks=(len(found),))


def _growing(given: dict, place: Place) -> SeedPlan:
    """Return the seeds of a mapping with `first` and `most`."""
    known = ("first", "most")
    said = {}
    for key, value in given.items():
        if key not in known:
            raise UserError(unknown("key of seeds", key, known), place(key))
        if (number := _whole(value)) is None:
            raise UserError(f"{key} is {format_given(value)}: give a whole number", place(key))
        said[key] = number
    first = said.get("first", FIRST)
    return _counted(first, said.get("most", max(MOST, first)), 0, place)


def _counted(first: int, most: int, start: int, place: Place) -> SeedPlan:
    """Return seeds from `start` on with looks from `first` to `most`, if there can be such."""
    if first < FEWEST:
        few = f"fewer than {FEWEST} seeds decide nothing, give {FEWEST} or more"
        raise UserError(f"first is {first}: {few}", place("first"))
    if first > most:
        raise UserError(f"most is {most}, first is {first}: give {first} or more", place("most"))
    if most > MOST_SEEDS:
        raise UserError(f"most is {most}: use {MOST_SEEDS:,} or fewer", place("most"))
    return SeedPlan(seeds=tuple(range(start, start + most)), looks=looks_between(first, most))


def looks_between(first: int, most: int) -> tuple[int, ...]:
    """Return seeds at each look, growing geometrically: (3, 20) gives (3, 5, 8, 12, 20)."""
    steps = max(round(math.log(most / first) / math.log(GROWTH)), 1)
    return tuple(sorted({round(first * (most / first) ** (i / steps)) for i in range(steps + 1)}))


def _whole(value: Any) -> int | None:
    """Return a whole number from 0; None for any other value."""
    try:
        number = to_whole(value) if isinstance(value, str) else value
    except Unreadable:
        return None
    return number if type(number) is int and number >= 0 else None


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
    """Return the smallest number of seeds that finds a difference; None if no number does.

    Args:
        difference: true difference to the baseline, in points.
        seed_sd: standard deviation of the paired differences over seeds, in points.
        image_se: standard error from the choice of test images alone, in points.
    """
    # test images are the same for every seed: their part of the error stays
    normal = NormalDist()
    z = normal.inv_cdf(1 - alpha / 2)
    room = (difference / (z + normal.inv_cdf(power))) ** 2 - image_se**2
    if room <= 0:
        return None
    # Student's t takes z^2 / 2 more seeds than the normal distribution (Guenther 1981)
    return max(2, math.ceil(seed_sd**2 / room + z**2 / 2))
