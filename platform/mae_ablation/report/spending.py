"""Spending: the level of each look, so that all looks together make no more error than allowed.

Lan and DeMets (1983): a spending function says how much of alpha is spent by each share of the most
seeds. The level of each look follows from Brownian motion by numerical integration from look to
look (Armitage, McPherson and Rowe 1969; Jennison and Turnbull 2000, ch. 7 and 19). Deterministic.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, roots_legendre

FARTHEST = 9.0
"""standard deviations: beyond it there is no probability to integrate"""

HALVINGS = 60


def spent_part(share: float, spending: str, alpha: float) -> float:
    """Part of alpha that is spent once a share of the most seeds is there.

    A row that has only a part of the study's alpha spends it by the same curve.
    """
    if spending == "pocock":
        return float(np.log1p((np.e - 1) * share))
    return float(2 * ndtr(ndtri(alpha / 2) / np.sqrt(share)) / alpha)


@lru_cache(maxsize=64)
def nominal_levels(
    looks: tuple[int, ...], spending: str, alpha: float, alphas: tuple[float, ...], sides: int
) -> NDArray:
    """Level of the p value at each look, (alphas, looks).

    Args:
        looks: seeds at each look; information grows with them.
        alpha: the study's, which gives the curve its form.
        alphas: error over all looks, each below 1.
        sides: 2 for a difference, 1 for each of the tests of an equivalence.
    """
    each, shares = np.array(alphas), np.array(looks) / looks[-1]
    if len(looks) == 1:
        return each[:, None]
    # Nodes lie closer than a third of the narrowest step between looks.
    narrowest = np.sqrt(1 - shares[:-1] / shares[1:]).min()
    unit, weight = roots_legendre(int(np.clip(60 / narrowest, 120, 600)))
    levels, before, place, density = [], 0.0, None, None
    for k, share in enumerate(shares):
        now = each * spent_part(share, spending, alpha)
        root, step = np.sqrt(share), np.sqrt(share - (shares[k - 1] if k else 0))
        bound = boundary(now - before, root, step, place, density, sides)
        levels.append(sides * ndtr(-bound))
        # The process goes on below the bound: its density there is what the next look starts from.
        high = np.minimum(bound, FARTHEST) * root
        low = -high if sides == 2 else np.full_like(high, -FARTHEST * root)
        half = (high - low) / 2
        nodes = ((high + low) / 2)[:, None] + half[:, None] * unit
        reached = carried(nodes, place, density, step)
        place, density, before = nodes, reached * half[:, None] * weight, now
    return np.stack(levels, -1)


def boundary(
    wanted: NDArray,
    root: float,
    step: float,
    place: NDArray | None,
    density: NDArray | None,
    sides: int,
) -> NDArray:
    """Bound of the standardised process that is first crossed at this look with a probability."""

    def crossed(bound: NDArray) -> NDArray:
        if place is None:
            return sides * ndtr(-bound)
        edge = (bound * root)[:, None]
        tails = ndtr((place - edge) / step)
        tails += ndtr((-edge - place) / step) if sides == 2 else 0
        return (density * tails).sum(-1)

    low = np.full_like(wanted, 0.0 if sides == 2 else -FARTHEST)
    high = np.full_like(wanted, 4 * FARTHEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = crossed(middle) > wanted
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return high


def carried(nodes: NDArray, place: NDArray | None, density: NDArray | None, step: float) -> NDArray:
    """The density at the nodes, one step after it was `density` at `place`, or from the start."""
    if place is None:
        return normal(nodes / step) / step
    kernel = normal((nodes[:, :, None] - place[:, None, :]) / step) / step
    return (kernel @ density[:, :, None])[..., 0]


def normal(x: NDArray) -> NDArray:
    """Density of the standard normal distribution."""
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
