"""Ceilings: what this machine can give, and what each recipe asks of it."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from mae_ablation.data.sets import SETS
from mae_ablation.recipe.cost import pretrain_flops
from mae_ablation.study.recipe_file import read_recipe
from mae_ablation.study.settings import resolve
from mae_ablation.train.device import ceiling_flops_per_s

COPIED_BYTES = 2**28


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What one image of a recipe's pre-training costs."""

    recipe: str
    flops: float
    """forward and backward"""
    ceiling_images_per_s: float
    """on one thread, if it did nothing but matrix products"""


def matrix_products() -> dict[str, float]:
    """GFLOP/s of float32 and bfloat16 matrix products on one and two threads."""
    before, found = torch.get_num_threads(), {}
    for precision in ("float32", "bfloat16"):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            plural = "s" * (threads > 1)
            rate = ceiling_flops_per_s("cpu", precision, threads) / 1e9
            found[f"{precision}, {threads} thread{plural}"] = rate
    torch.set_num_threads(before)
    return found


def copied_gib_per_s() -> float:
    """Memory copied per second by one thread, of a block that no cache holds; best of five."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8)
    target, times = torch.empty_like(source), []
    for _ in range(5):
        began = time.perf_counter()
        target.copy_(source)
        times.append(time.perf_counter() - began)
    torch.set_num_threads(before)
    return COPIED_BYTES / 2**30 / min(times)


def asked(folder: Path) -> list[Asked]:
    """Of every recipe of a folder."""
    ceiling, found = ceiling_flops_per_s("cpu", "float32", 1), []
    for path in sorted(folder.glob("*.yaml")):
        recipe = resolve(read_recipe(path).settings)
        flops = pretrain_flops(recipe, SETS[recipe.data.name].channels)
        rate = ceiling / flops
        found.append(Asked(recipe=path.stem, flops=flops, ceiling_images_per_s=rate))
    return found
