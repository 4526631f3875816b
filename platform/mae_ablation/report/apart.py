"""Seeds that lie apart: diverged or broken trainings that a mean would hide."""

import numpy as np
import pandas as pd

from mae_ablation.study.trial import DataFacts

FAR = 6
"""median absolute deviations from the row's median, beyond which a seed lies apart"""

POINTS_OFF = 5
"""that it has to lie off besides: three seeds agree closely by chance now and then"""

AT_LEAST = 3
"""seeds that have a median to lie apart from"""

ERRORS = 3
"""binomial standard errors above chance that still count as chance"""


def apart(values: pd.Series, data: DataFacts | None) -> str:
    """The seeds of a row that lie far from its others or at chance, in words; "" where none do.

    Args:
        values: accuracies in per cent by seed; NaN where one is missing.
        data: whose classes say what chance is; None: unknown.
    """
    found = values.dropna()
    chance = found[found <= chance_accuracy(data)] if data else found.iloc[:0]
    far = far_off(found).drop(chance.index, errors="ignore")
    said = []
    if len(far):
        said.append(f"{named(far)} far off (the row's median is {found.median():.2f})")
    if len(chance):
        said.append(f"{named(chance)} at chance")
    return "; ".join(said)


def far_off(values: pd.Series) -> pd.Series:
    """Values, by seed, that lie more than FAR deviations and POINTS_OFF points from the median."""
    if len(values) < AT_LEAST:
        return values.iloc[:0]
    off = (values - values.median()).abs()
    return values[(off > FAR * off.median()) & (off > POINTS_OFF)]


def chance_accuracy(data: DataFacts) -> float:
    """Per cent that guessing reaches on this test split, with ERRORS standard errors added."""
    if data.classes < 2:
        return -np.inf
    share = 1 / data.classes
    error = (share * (1 - share) / data.test_images) ** 0.5 if data.test_images else 0.0
    return 100 * (share + ERRORS * error)


def named(values: pd.Series) -> str:
    """ "seed 1 (10.00)", "seeds 1 (10.00), 2 (11.50)"."""
    each = ", ".join(f"{seed} ({value:.2f})" for seed, value in values.items())
    return f"{'seed' if len(values) == 1 else 'seeds'} {each}"
