"""Meter: progress and losses of a training, read without waiting for the device at every step.

Losses stay on the device; they are read every few steps and at the end of an epoch.
"""

import math
import time

import torch

from mae_ablation.train.run import Diverged, PhaseRun

BAD_STEPS = 10  # number of losses in a row, none finite, that ends the phase


class Meter:
    """Counts epochs, steps, loss and seconds of a training.

    Args:
        epochs: number of epochs.
        steps: optimiser steps in each.
    """

    def __init__(self, run: PhaseRun, epochs: int, steps: int) -> None:
        self.epochs, self.steps, self._workers = epochs, steps, run.workers
        self.epoch = 0
        """finished epochs"""
        self.step = 0
        """finished steps of the current epoch"""
        self.train_seconds = 0.0
        """seconds of finished epochs, over all attempts"""
        self._total = torch.zeros((), device=run.device)
        self._recent = torch.zeros(BAD_STEPS, device=run.device)
        self._checked = self._bad = self._row = 0
        self._first_bad: tuple[int, float] | None = None  # global step and loss
        self._seconds, self._since = 0.0, time.perf_counter()

    @property
    def global_step(self) -> int:
        """Number of optimiser steps since the beginning."""
        return self.epoch * self.steps + self.step

    def begin(self) -> None:
        """Start the clock of an epoch, or of the rest of one."""
        self._since = time.perf_counter()

    def add(self, loss: torch.Tensor) -> None:
        """Add the loss of a step, a scalar on the device, without waiting for it.

        Raises:
            Diverged: BAD_STEPS losses in a row were not finite.
        """
        self._total += loss
        self._recent[self.step - self._checked] = loss
        self.step += 1
        if self.step - self._checked == BAD_STEPS:
            self.check()

    def check(self) -> None:
        """Read the losses since the last check; waits for the device. Raises as `add` does."""
        # ranks agree on the mean, so that all of them go on or none
        losses = self._workers.average(self._recent)[: self.step - self._checked].tolist()
        worst = 0
        for i, loss in enumerate(losses):
            if math.isfinite(loss):
                self._row = 0
                continue
            self._row, self._bad = self._row + 1, self._bad + 1
            worst = max(worst, self._row)
            if self._first_bad is None:
                self._first_bad = self.epoch * self.steps + self._checked + i + 1, loss
        self._checked = self.step
        if worst >= BAD_STEPS:
            raise self._diverged()

    @property
    def is_sound(self) -> bool:
        """Says that every loss checked so far is finite, so that the state is worth saving."""
        return self._first_bad is None

    def finish_epoch(self) -> tuple[float, float]:
        """Return the epoch's mean loss and its seconds, and get ready for the next one.

        Raises:
            Diverged: the mean is not finite.
        """
        self.check()
        # the mean may overflow where no loss does
        loss, seconds = self._workers.average(self._total).item() / self.steps, self.seconds
        if not math.isfinite(loss):
            raise self._diverged(loss)
        self.train_seconds += seconds
        self.epoch, self.step, self._checked = self.epoch + 1, 0, 0
        self._total, self._seconds = torch.zeros_like(self._total), 0.0
        return loss, seconds

    def _diverged(self, mean: float = math.nan) -> Diverged:
        # the first bad step, and how long it went on, tell a spike from a blow-up
        epoch = f"epoch {self.epoch + 1} of {self.epochs}"
        if self._first_bad is None:
            return Diverged(f"mean loss of {epoch} is {mean}, each step's is finite: stopped")
        step, loss = self._first_bad
        after, bad = self.global_step - step, self._bad - 1
        steps = "step" if after == 1 else f"{after} steps"
        part = f"{bad} of " if bad < after else ""
        more = f" and in {part}the {steps} after it" if bad else ""
        return Diverged(f"loss is {loss} at step {step} ({epoch}){more}: stopped")

    # its part of a checkpoint

    @property
    def seconds(self) -> float:
        """Seconds of the current epoch, over all attempts."""
        return self._seconds + time.perf_counter() - self._since

    def leave_out(self, seconds: float) -> None:
        """Subtract seconds that were not spent on training."""
        self._since += seconds

    def state(self) -> dict:
        """Return what `load_state` takes; every rank must call it."""
        total = self._workers.average(self._total).cpu()
        seconds = self.seconds if self.step else 0.0
        return {"steps": self.step, "total": total, "seconds": seconds}

    def load_state(self, epoch: int, state: dict) -> None:
        """Continue where another meter stood."""
        self.epoch, self.step, self._checked = epoch, state["steps"], state["steps"]
        self._total, self._seconds = state["total"].to(self._total.device), state["seconds"]
