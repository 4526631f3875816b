"""Sequential: what a study declares before its first result, so that it may be looked at and grown.

Looks, the most seeds, the error it allows itself and how that is spent are fixed beforehand: only
then do verdicts hold at their stated error rate (`report/sequential.py` decides by them).
"""

import math
from dataclasses import dataclass
from typing import Literal

from mae_ablation.errors import UserError

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
