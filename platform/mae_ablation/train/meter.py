"""Meter: where a training stands, and its losses, watched without waiting for them at every step.

Losses stay on the device; every few steps, and at the end of an epoch, they are looked at.
"""

import math
import time

import torch

from mae_ablation.train.run import Diverged, PhaseRun

BAD_STEPS = 10  # so many losses in a row that are not finite end the phase


class Meter:
    """Epochs and steps done, loss and seconds of the epoch in work.

    Args:
        epochs, steps: how many there are, and optimiser steps in each.
    """

    def __init__(self, run: PhaseRun, epochs: int, steps: int) -> None:
        self.epochs, self.steps, self._team = epochs, steps, run.team
        self.epoch = 0
        """finished"""
        self.step = 0
        """done in the epoch in work"""
        self._total = torch.zeros((), device=run.device)
        self._recent = torch.zeros(BAD_STEPS, device=run.device)
        self._looked = self._bad = self._row = 0
        self._first_bad: tuple[int, float] | None = None  # global step and loss
        self._seconds, self._since = 0.0, time.perf_counter()

    @property
    def global_step(self) -> int:
        """Optimiser steps done since the beginning."""
        return self.epoch * self.steps + self.step

    def begin(self) -> None:
        """An epoch begins, or the rest of one does."""
        self._since = time.perf_counter()

    def add(self, loss: torch.Tensor) -> None:
        """Take the loss of a step, a scalar on the device.

        Raises:
            Diverged: BAD_STEPS losses in a row were not finite.
        """
        self._total += loss
        self._recent[self.step - self._looked] = loss
        self.step += 1
        if self.step - self._looked == BAD_STEPS:
            self.look()

    def look(self) -> None:
        """Look at the losses since the last look; waits for the device. Raises as `add` does."""
        losses = self._team.mean(self._recent)[: self.step - self._looked].tolist()
        worst = 0
        for i, loss in enumerate(losses):
            if math.isfinite(loss):
                self._row = 0
                continue
            self._row, self._bad = self._row + 1, self._bad + 1
            worst = max(worst, self._row)
            if self._first_bad is None:
                self._first_bad = self.epoch * self.steps + self._looked + i + 1, loss
        self._looked = self.step
        if worst >= BAD_STEPS:
            raise self._diverged()

    @property
    def is_sound(self) -> bool:
        """No loss of this epoch that was looked at was bad: its state may be kept."""
        return self._first_bad is None

    def finish(self) -> tuple[float, float]:
        """The epoch's mean loss and its seconds; the next epoch may begin.

        Raises:
            Diverged: the mean is not finite.
        """
        self.look()
        loss, seconds = self._team.mean(self._total).item() / self.steps, self.seconds
        if not math.isfinite(loss):
            raise self._diverged(loss)
        self.epoch, self.step, self._looked = self.epoch + 1, 0, 0
        self._total, self._seconds = torch.zeros_like(self._total), 0.0
        return loss, seconds

    def _diverged(self, mean: float = math.nan) -> Diverged:
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
        """Of the epoch in work, over all attempts."""
        return self._seconds + time.perf_counter() - self._since

    def leave_out(self, seconds: float) -> None:
        """These seconds were not spent on training."""
        self._since += seconds

    def state(self) -> dict:
        """What `load_state` takes; all ranks have to ask."""
        total = self._team.mean(self._total).cpu()
        seconds = self.seconds if self.step else 0.0
        return {"steps": self.step, "total": total, "seconds": seconds}

    def load_state(self, epoch: int, state: dict) -> None:
        """Stand where another meter stood."""
        self.epoch, self.step, self._looked = epoch, state["steps"], state["steps"]
        self._total, self._seconds = state["total"].to(self._total.device), state["seconds"]
