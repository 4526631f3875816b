"""Outliers: seeds that lie apart, as diverged or broken trainings do, which a mean would hide."""

import numpy as np
import pandas as pd

from mae_ablation.study.trial import DataFacts

FAR = 6
"""Median absolute deviations from the row's median, beyond which a seed lies apart."""

POINTS_OFF = 5
"""Points that it has to lie off besides: three seeds agree closely by chance now and then."""

AT_LEAST = 3
"""Seeds that have a median to lie apart from."""

ERRORS = 3
"""Binomial standard errors above chance that still count as chance."""


def describe_outliers(values: pd.Series, data: DataFacts | None) -> str:
    """Describe the seeds of a row that lie far from its others or at chance; "" where none do.

    Args:
        values: accuracies in per cent by seed; NaN where one is missing.
        data: whose classes say what chance is; None: unknown.
    """
    # at chance
    found = values.dropna()
    chance = found[found <= _chance_accuracy(data)] if data else found.iloc[:0]

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


def _chance_accuracy(data: DataFacts) -> float:
    """Return the per cent that guessing reaches on this test split, with ERRORS standard errors."""
    if data.classes < 2:
        return -np.inf
    share = 1 / data.classes
    error = (share * (1 - share) / data.test_images) ** 0.5 if data.test_images else 0.0
    return 100 * (share + ERRORS * error)


def _format_seeds(values: pd.Series) -> str:
    """Format "seed 1 (10.00)", "seeds 1 (10.00), 2 (11.50)"."""
    each = ", ".join(f"{seed} ({value:.2f})" for seed, value in values.items())
    return f"{'seed' if len(values) == 1 else 'seeds'} {each}"
