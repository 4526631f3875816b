"""How a batch is shared among workers, and how much of it each of them takes at a time."""

from mae_ablation.errors import UserError
from mae_ablation.recipe.cost import activation_bytes
from mae_ablation.recipe.recipe import Recipe

ACTIVATION_BYTES = 2 * 2**30
"""of one worker on a CPU, which is no slower on parts of a batch that fill it"""


def split_batch(batch: int, workers: int, at_most: int | None) -> tuple[int, int]:
    """Images that a worker takes at a time, and how often it does for one optimiser step.

    batch = images x workers x times. As large a share as allowed; where the batch is shared at
    all, an even one: mixup pairs the images of a share (train/team.py).

    Args:
        at_most: images a worker can take at a time; None: any number.

    Raises:
        UserError: the batch cannot be shared evenly.
    """
    if workers == 1 and (at_most is None or batch <= at_most):
        return batch, 1
    limit = batch if at_most is None else at_most
    if limit < 2:
        raise UserError(f"{limit} image per worker at a time is too few: take 2 or more")
    if batch % (2 * workers):
        raise UserError(_uneven(batch, workers))
    pairs = batch // (2 * workers)
    times = next(n for n in range(1, pairs + 1) if pairs % n == 0 and 2 * pairs // n <= limit)
    return 2 * pairs // times, times


def images_at_once(recipe: Recipe, workers: int, at_most: int | None, on_gpu: bool) -> int | None:
    """Images of pre-training that a worker takes at a time, at most; None: any number.

    On a CPU no more than ACTIVATION_BYTES have room for, where the batch can be parted at all.

    Args:
        at_most: what the user allows.
    """
    batch = recipe.pretrain.batch_size
    fits = max(2, int(ACTIVATION_BYTES / activation_bytes(recipe)))
    if on_gpu or batch <= fits * workers or batch % (2 * workers):
        return at_most
    return min(fits, at_most or fits)


def _uneven(batch: int, workers: int) -> str:
    near = sorted({batch // (2 * workers) * 2 * workers, -(-batch // (2 * workers)) * 2 * workers})
    batches = " or ".join(str(size) for size in near if size)
    fewer = next((n for n in range(workers - 1, 0, -1) if batch % (2 * n) == 0), None)
    other = f", or {fewer} workers" if fewer and fewer > 1 else ", or one worker"
    if workers == 1:
        return f"batch {batch} cannot be taken in even parts: take a batch of {batches}"
    return (
        f"batch {batch} cannot be shared evenly by {workers} workers, an even number of images "
        f"each: take a batch of {batches}{other}"
    )
