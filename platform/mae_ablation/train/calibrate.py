"""Calibrate: time the real training steps of some shapes on this machine, side by side.

    python -m mae_ablation.train.calibrate THREADS DEVICE     one lane's part, told by its stdin

Lanes compete for the memory's bandwidth, so as many processes as there would be lanes measure the
same shape at the same time, each with a lane's threads. What is timed is the phases' own code, left
after a second by what asks it whether to stop.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from mae_ablation.errors import UserError, one_line
from mae_ablation.study.speed import TRAININGS, Machine, Measured, work_of
from mae_ablation.study.trial import Phase, Trial

SHAPES = 6  # of a kind, evenly spread over their FLOPs: the others are scaled from these
WARM_UP = 1  # steps that are not counted
STEPS_S = 0.8  # seconds of steps of each shape, and at least LEAST of them
LEAST = 3
ENCODED_IMAGES = 2048  # of the training split, to time encoding
PLAIN_TARGETS = ("pixel", "pixel_norm")  # others need a PCA or a tokeniser first: scaled


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One shape to be timed."""

    phase: Phase
    flops: float
    """per image"""
    images: int
    """of the training split"""
    others: int
    """validation and test images, which a classifier's phase encodes, too"""


class Enough(Exception):
    """The steps have been timed."""


def calibrate(trials: Sequence[Trial], machine: Machine, cores: int) -> list[Measured]:
    """Speed of every distinct shape of some trials, on a machine as a lane has it.

    Args:
        cores: of the machine, shared by its lanes.

    Raises:
        UserError: a training step fails.
    """
    probes = shapes_of(trials)
    if not probes:
        raise UserError("there is nothing to time from scratch", "--calibrate")
    side_by_side = max(1, min(machine.lanes, len(trials), cores))
    threads = max(1, cores // (machine.lanes * machine.workers))
    device = "cuda" if machine.gpus else "cpu"
    with ExitStack() as stack:
        lanes = [stack.enter_context(Lane(threads, device)) for _ in range(side_by_side)]
        for lane in lanes:
            lane.send(probes)
        for lane in lanes:  # importing torch beside a measurement would disturb it
            lane.hear()
        answers = [median(together(lanes)) for _ in probes]
    return [
        Measured(kind=probe.phase.kind, flops=probe.flops, flops_per_s=probe.flops * rate)
        for probe, rate in zip(probes, answers, strict=True)
    ]


def shapes_of(trials: Sequence[Trial]) -> list[Probe]:
    """One phase of every distinct shape, at most SHAPES of a kind."""
    found: dict[str, dict[int, Probe]] = {}
    for trial in trials:
        for phase in trial.phases:
            if not is_timed(phase, trial.source):
                continue
            work = work_of(phase, trial.source, trial.data)
            images = round(work.images / epochs_of(phase))
            others = trial.data.test_images + phase.recipe.data.validation_images
            probe = Probe(phase=phase, flops=work.flops, images=images, others=others)
            found.setdefault(phase.kind, {}).setdefault(round(work.flops), probe)
    return [probe for by_flops in found.values() for probe in spread(sorted(by_flops.items()))]


def is_timed(phase: Phase, source: str) -> bool:
    """Whether a phase can be timed from nothing: without what others have to train first."""
    if phase.kind == "pretrain":
        return phase.recipe.pretrain.target in PLAIN_TARGETS
    by_steps = phase.kind == "linear_probe" and phase.recipe.linear_probe.protocol != "converged"
    return phase.kind in TRAININGS or (by_steps and source != "pixels")


def epochs_of(phase: Phase) -> int:
    """Epochs that `Work.images` counts: a classifier's are in its FLOPs."""
    return getattr(phase.recipe, phase.kind).epochs if phase.kind in TRAININGS else 1


def spread(shapes: list[tuple[int, Probe]]) -> list[Probe]:
    """All of them, or SHAPES from the first to the last."""
    last = len(shapes) - 1
    chosen = {round(i * last / (SHAPES - 1)) for i in range(SHAPES)} if last >= SHAPES else None
    return [probe for i, (_, probe) in enumerate(shapes) if chosen is None or i in chosen]


class Lane:
    """A process that times shapes when it is told to."""

    def __init__(self, threads: int, device: str) -> None:
        self._words = [sys.executable, "-m", __name__, str(threads), device]

    def __enter__(self) -> "Lane":
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            self._words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=tempfile.gettempdir(),  # modules here are called `inspect`, in a clone `platform`
            env={**os.environ, "PYTHONPATH": path},
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def send(self, probes: list[Probe]) -> None:
        """Tell what is to be timed."""
        pickle.dump(probes, self._process.stdin)
        self._process.stdin.flush()

    def begin(self) -> None:
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()

    def hear(self) -> dict:
        """The process's next line. Raises UserError with the reason of a failure."""
        line = self._process.stdout.readline()
        said = json.loads(line) if line else {"failure": "its process ended"}
        if "failure" in said:
            raise UserError(said["failure"], "--calibrate")
        return said


def together(lanes: Sequence[Lane]) -> list[float]:
    """Images per second of every lane at the next shape, all at work at once."""
    with suppress(BrokenPipeError):  # a process has ended, as its answer says
        for lane in lanes:
            lane.begin()
    return [lane.hear()["images_per_s"] for lane in lanes]


# in the lane's process ---------------------------------------------------------------------------


def main(threads: str, device: str) -> None:
    """Time the shapes that stdin holds, each at the word "go"."""
    import torch

    from mae_ablation.train.memory import keep_freed_memory

    torch.set_num_threads(int(threads))
    keep_freed_memory()
    if device == "cuda" and not torch.cuda.is_available():
        device = "cpu"
    probes = pickle.load(sys.stdin.buffer)  # from our own parent
    print(json.dumps({"ready": True}), flush=True)
    for probe in probes:
        if not sys.stdin.buffer.readline():
            return  # whoever asked has ended
        try:
            said: dict[str, Any] = {"images_per_s": images_per_s(probe, device)}
        except Exception as error:
            said = {"failure": f"{probe.phase.kind}: {one_line(error)}"}
        print(json.dumps(said), flush=True)


def images_per_s(probe: Probe, device: str) -> float:
    """Images of one shape per second, as `speed.Work` counts them."""
    if probe.phase.kind == "linear_probe":
        return probe_images_per_s(probe, device)
    each = step_s(step_times(probe.phase, probe.phase.recipe, device), device)
    return getattr(probe.phase.recipe, probe.phase.kind).batch_size / each


def step_s(times: Sequence[float], device: str) -> float:
    """Seconds of a step, the first ones left out: the median, which a busy moment leaves alone; on
    a GPU, which is waited for only now and then, the mean."""
    first = min(WARM_UP, len(times) - 2)
    if device == "cpu":
        return median(b - a for a, b in zip(times[first:], times[first + 1 :], strict=False))
    return (times[-1] - times[first]) / (len(times) - 1 - first)


def probe_images_per_s(probe: Probe, device: str) -> float:
    """Of a classifier on frozen features: the whole phase, from some images and some steps."""
    from mae_ablation.data.dataset import load

    recipe = probe.phase.recipe
    settings, images = recipe.linear_probe, min(probe.images, ENCODED_IMAGES)
    few = replace(recipe, data=replace(recipe.data, train_images=images))
    load(few.data)  # kept for the phase: reading is not encoding
    began = time.perf_counter()
    times = step_times(probe.phase, few, device)
    encode_s = (times[0] - began) / (images + probe.others)
    steps = settings.epochs * (probe.images // min(settings.batch_size, probe.images))
    seconds = encode_s * (probe.images + probe.others) + steps * step_s(times, device)
    return probe.images / seconds


def step_times(phase: Phase, recipe, device: str) -> list[float]:
    """When each of the first steps of a phase ended."""
    from mae_ablation.store.folder import PhaseFolder
    from mae_ablation.train.linear_probe import linear_probe
    from mae_ablation.train.pretrain import pretrain
    from mae_ablation.train.run import PhaseRun
    from mae_ablation.train.supervised import supervised

    times: list[float] = []

    def stop() -> bool:
        times.append(time.perf_counter())
        if len(times) > WARM_UP + LEAST and times[-1] - times[WARM_UP] > STEPS_S:
            raise Enough
        return False

    section = getattr(recipe, phase.kind)
    never = replace(section, checkpoint_every_s=1e9)
    if phase.kind == "linear_probe":
        never = replace(never, labels=None)  # the images to be timed are chosen already
    recipe = replace(recipe, **{phase.kind: never})
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "phase").mkdir()
        run = PhaseRun(folder=PhaseFolder.at(Path(folder, "phase")), device=device, stop=stop)
        try:
            if phase.kind == "pretrain":
                pretrain(recipe, 0, run)
            elif phase.kind == "linear_probe":
                linear_probe(recipe, 0, run, source="random", upstream=None)
            else:
                supervised(recipe, phase.kind, 0, run, None)
        except Enough:
            pass
    return times


if __name__ == "__main__":
    main(*sys.argv[1:])
