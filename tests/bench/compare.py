"""Two sides of a claim measured in turn, each in a process of its own where they could disturb
each other."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mae_ablation.recipe.recipe import Recipe
from mae_ablation.study.recipe_file import read_recipe
from mae_ablation.study.settings import resolve

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")  # what is measured stays on this machine


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the page: two sides, round by round."""

    what: str
    against: str
    ours: Sequence[float]
    theirs: Sequence[float]
    unit: str = "s"
    """"s", of which less is better, or "images/s" """
    note: str
    """how both were measured, and what was computed from measured parts"""

    @property
    def ratios(self) -> list[float]:
        """How many times better ours is, round by round."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return [a / b if self.unit == "images/s" else b / a for a, b in pairs]

    def __str__(self) -> str:
        ratios = [rounded(value) for value in sorted([median(self.ratios), *self.ratios])]
        spread = f"{rounded(median(self.ratios))} ({ratios[0]}, {ratios[-1]})"
        sides = (f"{rounded(median(side))} {self.unit}" for side in (self.ours, self.theirs))
        return f"| {self.what} | {self.against} | {' | '.join(sides)} | {spread} |"


def rounded(number: float) -> str:
    """Formats three digits or more."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def in_turn(
    ours: Callable[[], float], theirs: Callable[[], float], rounds: int
) -> tuple[list[float], list[float]]:
    """Measures ours, theirs, ours, ...: a machine's moods meet both."""
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def seconds(work: Callable[[], object], times: int = 1, threads: int = 1) -> float:
    """Returns the mean seconds of some calls, with so many of torch's threads."""
    from torch.utils.benchmark import Timer  # speaks of CUDA as it is imported

    gc.collect()
    timer = Timer("work()", globals={"work": work}, num_threads=threads)
    return timer.timeit(times).mean


def answers(module: str, *calls: Sequence[object]) -> list[dict]:
    """Runs `python -m tests.bench.MODULE ARGUMENTS` for each call, side by side.

    Returns what the last lines of their stdout hold as JSON.

    Raises:
        RuntimeError: one of them failed, with the end of what it said.
    """
    kept = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=kept,
        )
        for arguments in calls
    ]
    told = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, told, strict=True):
        if process.returncode:
            raise RuntimeError(f"{' '.join(process.args[1:])} failed:\n{errors[-2000:]}")
    return [json.loads(out.splitlines()[-1]) for out, _ in told]


def laptop() -> Recipe:
    """Reads studies/recipes/laptop.yaml."""
    return resolve(read_recipe(ROOT / "studies" / "recipes" / "laptop.yaml").settings)
