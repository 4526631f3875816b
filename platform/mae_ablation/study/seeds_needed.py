"""Seeds that a difference takes, given what seeds and test images add to its error; no SciPy."""

import math
from statistics import NormalDist


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
