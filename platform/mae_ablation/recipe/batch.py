"""Micro-batches: how a batch is divided among workers and forward passes."""

from mae_ablation.errors import UserError
from mae_ablation.recipe.cost import activation_bytes
from mae_ablation.recipe.recipe import Recipe

ACTIVATION_BYTES = 2 * 2**30  # of a worker on a CPU; larger micro-batches are no faster there
ACCELERATOR_GIB = {
    **{"T4": 15, "P100": 16, "V100": 16, "A10G": 22, "L4": 22, "A100": 40, "A100-40G": 40},
    **{"L40S": 44, "A100-80G": 80, "H100": 80, "H200": 141, "B200": 180},
}
"""memory of GPUs by Ray's name of their type, the smaller where there are two, to plan with"""
FILLED, GPU_RESERVE = 0.9, 2**30
"""share of a GPU's memory that is planned with, and bytes of it for libraries and fragments"""


def split_batch(batch: int, workers: int, at_most: int | None) -> tuple[int, int]:
    """Compute the images of a micro-batch, and how many micro-batches a worker accumulates.

    Args:
        at_most: largest micro-batch; None: no limit.

    Raises:
        UserError: the batch cannot be divided evenly.
    """
    if workers == 1 and (at_most is None or batch <= at_most):
        return batch, 1

    # several micro-batches are even: mixup pairs the images of one (train/workers.py)
    if batch % (2 * workers):
        pair = 2 * workers
        near = " or ".join(str(n) for n in (batch // pair * pair, -(-batch // pair) * pair) if n)
        fewer = next((n for n in range(workers - 1, 1, -1) if batch % (2 * n) == 0), None)
        message = f"batch {batch} cannot be divided evenly"
        if workers == 1:
            raise UserError(f"{message}: use a batch of {near}")
        raise UserError(
            f"{message} among {workers} workers, an even number of images each: use a batch of "
            f"{near}, or {f'{fewer} workers' if fewer else 'one worker'}"
        )

    # as large as allowed: batch = images x workers x times
    limit = batch if at_most is None else at_most
    if limit < 2:
        raise UserError(f"--micro-batch is {limit}, which is too few: use 2 or more")
    # the fewest micro-batches that respect the limit, all of one size
    pairs = batch // (2 * workers)
    times = next(n for n in range(1, pairs + 1) if pairs % n == 0 and 2 * pairs // n <= limit)
    return 2 * pairs // times, times


def limit_micro_batch(
    recipe: Recipe, workers: int, at_most: int | None, on_gpu: bool
) -> int | None:
    """Limit the images of a pre-training's micro-batch on a CPU; None: no limit.

    As many as fit into ACTIVATION_BYTES, where the batch can be divided at all. On a GPU its memory
    decides, when the training starts (`fit_micro_batch`).

    Args:
        at_most: the user's limit.
    """
    # one pair of images at least, whatever it takes
    batch = recipe.pretrain.batch_size
    fits = max(2, int(ACTIVATION_BYTES / activation_bytes(recipe)))
    if on_gpu or batch <= fits * workers or batch % (2 * workers):
        return at_most
    return min(fits, at_most or fits)


def count_that_fit(memory: float, needed: tuple[float, float]) -> int:
    """Estimate how many images a GPU has room for at a time. Arguments as in `fit_micro_batch`."""
    always, per_image = needed
    return max(0, int((memory * FILLED - GPU_RESERVE - always) / per_image))


def fit_micro_batch(
    batch: int, workers: int, at_most: int | None, memory: float, needed: tuple[float, float]
) -> int | None:
    """Limit the images of a micro-batch by a GPU's memory; None: no limit.

    Where not even two images fit by the estimate, two are tried: it is no more than an estimate.

    Args:
        at_most: the user's limit.
        memory: bytes that a worker may fill.
        needed: bytes that are always there, and those per image (recipe/cost.py).
    """
    fits = max(2, count_that_fit(memory, needed))
    if batch <= fits * workers or batch % (2 * workers):
        return at_most
    return min(fits, at_most or fits)
