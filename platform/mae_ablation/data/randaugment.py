"""RandAugment (Cubuk et al. 2020) as timm does it: on one picture at a time, through PIL.

timm draws from the global random states of Python and numpy. They are seeded for each picture and
put back afterwards, so that a picture depends on its own seed and nothing else on RandAugment.
Importing timm costs seconds: import this module where it is needed.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from mae_ablation.recipe.checks import RANDAUGMENT_DEVIATION

# at 10 timm asks Pillow to keep 0 bits of a pixel, which current versions refuse; of the paper's
# setting (9, 0.5) one magnitude in 28 is cut to this, where timm cuts one in 44 to 10
STRONGEST = 9.9


@lru_cache(maxsize=8)
def operations(magnitude: int, fill: tuple[float, ...]):
    """Build timm's transform: two "increasing" operations per picture, each half the time.

    Magnitudes are normal around `magnitude` of 10. `fill` is a colour in [0, 1], one value for all
    channels or three.
    """
    colour = tuple(round(255 * value) for value in (fill * 3 if len(fill) == 1 else fill))
    settings = {"img_mean": colour, "interpolation": Image.Resampling.BICUBIC}
    settings["magnitude_max"] = STRONGEST
    return rand_augment_transform(f"rand-m{magnitude}-mstd{RANDAUGMENT_DEVIATION}-inc1", settings)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Leave Python's and numpy's global random states as they were."""
    # whatever else draws from them in this process must not notice
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def randaugment(
    images: torch.Tensor, seeds: Sequence[int], magnitude: int, fill: tuple[float, ...]
) -> torch.Tensor:
    """Change uint8 images (n, c, h, w) on the CPU, each as its seed says; same shape and type."""
    change, grey, changed = operations(magnitude, fill), images.shape[1] == 1, []
    with kept_random_state():
        for image, seed in zip(images, seeds, strict=True):
            random.seed(seed)
            np.random.seed(seed % 2**32)  # all that numpy takes
            # one channel is shown to the operations as RGB, and their luminance is kept
            picture = Image.fromarray((image[0] if grey else image.permute(1, 2, 0)).numpy())
            picture = change(picture.convert("RGB"))
            array = np.array(picture.convert("L") if grey else picture)
            changed.append(torch.from_numpy(array[None] if grey else array.transpose(2, 0, 1)))
    return torch.stack(changed)
