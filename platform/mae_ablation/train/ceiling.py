"""Ceiling: how many FLOP/s of matrix products a lane's device gives, as measured, not as sold.

A training's model FLOPs per second over this is its model FLOPs utilisation (MFU): the FLOPs are
those of the model as the paper describes it (study/cost.py), whatever is saved on the way.
"""

import time
from functools import lru_cache

import torch

SIDE = {"cpu": 1024, "cuda": 8192}
TIMES, LONG_S = 6, 1.0
NUMBERS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}
NUMBERS["float16"] = torch.float16


@lru_cache(maxsize=8)  # a lane measures once, 0.2 s
def ceiling_flops_per_s(device: str, precision: str = "float32", threads: int = 0) -> float:
    """FLOP/s of the best of some square matrix products.

    Args:
        precision: of the recipe; "tf32" is what the process is set to.
        threads: for whom it was measured, `torch.get_num_threads()`; a key of the cache alone.
    """
    side = SIDE[torch.device(device).type]
    left, right = torch.randn(2, side, side, device=device).to(NUMBERS[precision]).unbind(0)
    out, times = torch.empty_like(left), []
    while len(times) < TIMES and sum(times) < LONG_S:  # a CPU may take seconds in bfloat16
        times.append(product_s(left, right, out))
    return 2 * side**3 / min(times)


def product_s(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> float:
    """Seconds of one matrix product."""
    if left.is_cuda:
        torch.cuda.synchronize()
    began = time.perf_counter()
    torch.mm(left, right, out=out)
    if left.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def utilisation(flops_per_s: float, device: str, precision: str, workers: int = 1) -> float:
    """Model FLOPs utilisation of a training on so many workers, each with such a device."""
    ceiling = ceiling_flops_per_s(device, precision, torch.get_num_threads())
    return flops_per_s / (ceiling * workers)
