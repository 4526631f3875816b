"""Pairs: two things measured in turn, round by round, so that a machine's moods meet both."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the page: a ratio, round by round, and what it is a ratio of."""

    what: str
    against: str
    target: float
    relation: Literal[">=", "<="] = ">="
    values: tuple[float, ...]
    """the ratio (or share) of every round"""
    ours: tuple[float, ...] = ()
    theirs: tuple[float, ...] = ()
    unit: str = "s"
    """of `ours` and `theirs`"""
    note: str = ""
    """how it was measured, and what was computed from measured parts"""

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def is_met(self) -> bool:
        return self.median >= self.target if self.relation == ">=" else self.median <= self.target


def in_turn(
    ours: Callable[[], float], theirs: Callable[[], float], rounds: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Figures of both, measured in turn: ours, theirs, ours, ..."""
    figures = [(ours(), theirs()) for _ in range(rounds)]
    first, second = zip(*figures, strict=True)
    return first, second


def seconds(work: Callable[[], object], times: int = 1) -> float:
    """Seconds that `work` takes, the mean of so many times one after the other."""
    gc.collect()
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def quotients(theirs: tuple[float, ...], ours: tuple[float, ...]) -> tuple[float, ...]:
    """How many times faster, round by round."""
    return tuple(their / our for their, our in zip(theirs, ours, strict=True))
