"""Lanes: two processes of one thread each against one process of two threads.

python -m mae_ablation.bench.lanes THREADS STEPS     one process; at each line "go", so many steps
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from mae_ablation.bench.child import environment
from mae_ablation.bench.pairs import Row, in_turn, quotients

STEPS = 60  # of every process in a round: 5 to 15 s
WARM_UP = 5


class Way(NamedTuple):
    """How the same two threads are used."""

    processes: int
    threads: int


SIDE_BY_SIDE = Way(processes=2, threads=1)
TOGETHER = Way(processes=1, threads=2)


def measure(rounds: int, steps: int = STEPS) -> list[Row]:
    """Throughput of pre-training both ways; processes that are not asked wait for their stdin."""
    with ExitStack() as stack:
        lanes, whole = (started(stack, way, steps) for way in (SIDE_BY_SIDE, TOGETHER))
        ours, theirs = in_turn(lambda: sum(rates(lanes)), lambda: sum(rates(whole)), rounds)
    return [
        Row(
            what="two lanes of one thread together",
            against="one process of two threads",
            target=1.25,
            values=quotients(ours, theirs),  # rates: ours over theirs
            ours=ours,
            theirs=theirs,
            unit="images/s",
            note=(
                f"Pre-training steps of the laptop recipe, {steps} of every process in a round, "
                f"data included, after {WARM_UP} that are not counted. The lanes are two "
                "trainings, told to begin at the same moment; their images per second are added. "
                "One training alone is no faster for a lane beside it: this is throughput."
            ),
        )
    ]


# the processes ------------------------------------------------------------------------------------


class Process:
    """One process that trains when it is told to."""

    def __init__(self, way: Way, steps: int) -> None:
        self._words = [sys.executable, "-m", __name__, str(way.threads), str(steps)]

    def __enter__(self) -> "Process":
        self._process = subprocess.Popen(
            self._words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tempfile.gettempdir(),  # in a clone, `platform` would hide the standard library's
            env=environment(),
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def begin(self) -> None:
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def hear(self) -> dict:
        """The next line. Raises RuntimeError if the process has ended."""
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._words)} ended with {self._process.wait()}")
        return json.loads(line)


def started(stack: ExitStack, way: Way, steps: int) -> list[Process]:
    """The processes of one way, warmed up."""
    processes = [stack.enter_context(Process(way, steps)) for _ in range(way.processes)]
    for process in processes:
        process.hear()
    return processes


def rates(processes: Sequence[Process]) -> list[float]:
    """Images per second of every process, all at work at once."""
    for process in processes:
        process.begin()
    return [process.hear()["images_per_s"] for process in processes]


# in such a process --------------------------------------------------------------------------------


def main(threads: str, steps: str) -> None:
    """Warm up, say so, then train and tell at each line of stdin."""
    import torch

    from mae_ablation.bench.laptop import Training, laptop

    torch.set_num_threads(int(threads))
    training = Training(laptop())
    images_per_s(training, WARM_UP)
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"images_per_s": images_per_s(training, int(steps))}), flush=True)


def images_per_s(training, steps: int) -> float:
    """Of so many whole steps."""
    from mae_ablation.bench.pairs import seconds

    return training.recipe.pretrain.batch_size / seconds(training.step, steps)


if __name__ == "__main__":
    main(*sys.argv[1:])
