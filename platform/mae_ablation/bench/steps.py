"""Training steps, ours against lightly's and transformers', each side in a process of its own.

    python -m mae_ablation.bench.steps SIDE SHAPE [BATCH]     one side, told by its stdin

A process of its own, as a user would have it: what one side does to the allocator or to torch's
settings does not reach the others. Only one of them is at work at a time.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch

from mae_ablation.bench.child import environment
from mae_ablation.bench.pairs import Row, quotients
from mae_ablation.bench.shapes import SHAPES
from mae_ablation.bench.sides import SIDES
from mae_ablation.train.device import ceiling_flops_per_s, peak_memory_bytes

WARM_UP = 2
TARGETS = {"laptop": 1.4, "vit_tiny": 1.15, "vit_base": 1.05}
PEERS = ("lightly", "transformers")
MEMORY_BATCH = 64
NO_BFLOAT16 = 1.2  # of float32's ceiling: below it the CPU has no arithmetic of its own for it


class Side:
    """One side's process, which takes steps when it is told to."""

    def __init__(self, side: str, shape: str, *words: object) -> None:
        self._words = [sys.executable, "-m", __name__, side, shape, *map(str, words)]

    def __enter__(self) -> "Side":
        self._process = subprocess.Popen(
            self._words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=tempfile.gettempdir(),
            env=environment(),
            text=True,
        )
        self.ready = self._heard()
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def take(self, steps: int) -> float:
        """Seconds of a step, the mean of so many."""
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return self._heard()["seconds"]

    def _heard(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._words[2:])} ended: is '.[bench]' installed?")
        return json.loads(line)


def measure(rounds: int, shapes: Sequence[str] = tuple(SHAPES)) -> list[Row]:
    """A row for each shape and peer, as the product trains it."""
    return [row for name in shapes for row in rows_of(name, ["ours", *PEERS], rounds)]


def seconds_of(name: str, sides: Sequence[str], rounds: int) -> dict[str, tuple[float, ...]]:
    """Seconds of a step of every side, round by round."""
    with ExitStack() as stack:
        processes = {side: stack.enter_context(Side(side, name)) for side in sides}
        took = {side: [] for side in sides}
        for _ in range(rounds):
            for side, process in processes.items():
                took[side].append(process.take(SHAPES[name].steps))
    return {side: tuple(times) for side, times in took.items()}


def rows_of(name: str, sides: Sequence[str], rounds: int) -> list[Row]:
    """Rows of one shape: every side that is ours against every peer's."""
    shape = SHAPES[name]
    seconds = seconds_of(name, sides, rounds)
    return [
        Row(
            what=f"training step, {shape.name}, {threads(shape.threads)}{own.removeprefix('ours')}",
            against=peer,
            target=2.0 if "bfloat16" in own else TARGETS[name],
            values=quotients(seconds[peer], seconds[own]),
            ours=seconds[own],
            theirs=seconds[peer],
        )
        for own in sides
        if own.startswith("ours")
        for peer in PEERS
    ]


def bfloat16(rounds: int) -> list[Row]:
    """ViT-B/16 with bfloat16 autocast; nothing where the CPU cannot multiply in it."""
    torch.set_num_threads(2)
    full, half = (ceiling_flops_per_s("cpu", name, 2) for name in ("float32", "bfloat16"))
    if half < NO_BFLOAT16 * full:
        return []
    return rows_of("vit_base", ["ours, bfloat16", *PEERS], rounds)


def memory(rounds: int) -> list[Row]:
    """Peak memory of one step of ViT-B/16 on a batch of 64, which a lane takes in parts."""
    peaks = {side: [] for side in ("ours", "transformers")}
    for _ in range(min(rounds, 2)):  # the same to a few MiB
        for side, values in peaks.items():
            with Side(side, "vit_base", MEMORY_BATCH) as process:
                values.append(process.ready["peak_memory_bytes"] / 2**20)
    own, theirs = (tuple(values) for values in peaks.values())
    return [
        Row(
            what=f"peak memory of a lane, ViT-B/16, batch {MEMORY_BATCH}",
            against="transformers",
            target=0.8,
            relation="<=",
            values=quotients(own, theirs),
            ours=own,
            theirs=theirs,
            unit="MiB",
            note="Resident memory of the whole process over one step. A lane on a CPU takes a "
            "batch in parts whose activations fit 2 GiB; the gradients are those of the batch.",
        )
    ]


def threads(number: int) -> str:
    return "one thread" if number == 1 else f"{number} threads"


# in a side's process ------------------------------------------------------------------------------


def main(side: str, name: str, batch: str = "") -> None:
    """Build the side, warm up, and take as many steps as each line of stdin says."""
    shape = SHAPES[name]
    shape = replace(shape, batch=int(batch)) if batch else shape
    torch.set_num_threads(shape.threads)
    torch.manual_seed(0)
    images = torch.randn(shape.batch, shape.channels, shape.image_size, shape.image_size)
    step = SIDES[side](shape)
    for _ in range(1 if batch else WARM_UP):
        step(images)
    tell({"peak_memory_bytes": peak_memory_bytes("cpu")})
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            step(images)
        tell({"seconds": (time.perf_counter() - began) / int(line)})


def tell(said: dict) -> None:
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
