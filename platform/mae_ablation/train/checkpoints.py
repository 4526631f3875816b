"""Checkpoints: everything a training needs to resume bit for bit, saved after any step.

There are two kinds of generators. Those drawn in the training loop are saved as they are. Those
behind the order and the augmentation of images may be batches ahead of the loop: they are saved as
they were when the epoch began, and the draws of the finished steps are made again.
"""

import io
import time
from dataclasses import dataclass, field

import torch

from mae_ablation.store.checkpoint import Checkpoint
from mae_ablation.train.meter import BAD_STEPS, Meter
from mae_ablation.train.run import PhaseRun, Stopped

SAVING_SHARE = 0.05  # largest share of the time spent on saving, unless every step is saved
AGREE_EVERY = BAD_STEPS  # steps between two broadcasts of whether to stop or save


@dataclass(slots=True)
class Checkpoints:
    """Saves and restores a training; `parts` have `state_dict` and `load_state_dict`."""

    run: PhaseRun
    meter: Meter
    parts: dict[str, torch.nn.Module | torch.optim.Optimizer]
    every_s: float
    """seconds between two checkpoints; 0: one after every step"""
    replayed: dict[str, torch.Generator]
    """generators drawn for the whole epoch, or ahead of the loop"""
    generators: dict[str, torch.Generator] = field(default_factory=dict)
    """generators drawn in the loop, step by step"""
    _at_begin: dict[str, torch.Tensor] = field(default_factory=dict)
    _saved_at: float = field(default_factory=time.monotonic)
    _took: float = 0.0

    def resume(self) -> None:
        """Restore the newest sound checkpoint, if there is one, and the meter with it.

        Points of the journal that come after it are removed.
        """
        data = self._read_newest()
        if data is None:
            self.run.workers.on_rank_zero(lambda: self.run.folder.journal.cut(after_step=-1))
            return
        # every state back to where the checkpoint found it, the journal too
        state = load_checkpoint(data, self.run.device)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        for name, generator in (self.generators | self.replayed).items():
            generator.set_state(state["generators"][name].cpu())
        self.meter.train_seconds = state["seconds"]
        self.meter.load_state(state["epoch"], state["in_epoch"])
        self.run.workers.on_rank_zero(lambda: self.run.folder.journal.cut(after_step=state["step"]))

    def begin_epoch(self) -> None:
        """Remember the generators before anything of an epoch is drawn, or drawn again."""
        self._at_begin = {name: g.get_state() for name, g in self.replayed.items()}
        self.meter.begin()

    def after_step(self) -> None:
        """Save if it is time to.

        Raises:
            Stopped: the run is to stop; a checkpoint has been written.
        """
        if self.meter.step == self.meter.steps:
            return  # the epoch's end follows, with its point in the journal
        if self.run.workers.size == 1 or self.meter.step % AGREE_EVERY == 0:
            self._save_if_due()

    def after_epoch(self) -> None:
        """Save if it is time to, or after the last epoch. Raises as `after_step` does."""
        self._save_if_due(last=self.meter.epoch == self.meter.epochs)

    def _save_if_due(self, last: bool = False) -> None:
        # rank zero's clock counts: a broadcast, which costs a round trip
        waited = time.monotonic() - self._saved_at
        paid = not self.every_s or waited * SAVING_SHARE >= self._took
        due = last or (waited >= self.every_s and paid)
        stop, due = self.run.workers.broadcast((self.run.stop(), due))
        if stop or due:
            self._save()
        if stop:
            raise Stopped(f"stopped after step {self.meter.global_step}")

    def _save(self) -> None:
        self.meter.check()
        if not self.meter.is_sound:
            return  # nothing good comes of it: the last good one stays the newest
        # seconds spent on it are not the training's
        began = time.perf_counter()
        in_epoch = self.meter.state()
        self.run.workers.on_rank_zero(lambda: self._write(in_epoch))
        self.run.report_checkpoint(self.meter.global_step)
        self._took = time.perf_counter() - began
        self._saved_at = time.monotonic()
        self.meter.leave_out(self._took)

    def _write(self, in_epoch: dict) -> None:
        # generators that run ahead are saved as they were when the epoch began
        now = {name: g.get_state() for name, g in (self.generators | self.replayed).items()}
        step = self.meter.global_step
        state = {
            **{name: part.state_dict() for name, part in self.parts.items()},
            "generators": now | (self._at_begin if self.meter.step else {}),
            "epoch": self.meter.epoch,
            "step": step,
            "seconds": self.meter.train_seconds,
            "in_epoch": in_epoch,
        }
        self.run.folder.save_checkpoint(step, checkpoint_bytes(state))

    def _read_newest(self) -> bytes | None:
        """Read the newest sound checkpoint: rank zero chooses, the others read the same."""
        folder, workers = self.run.folder, self.run.workers
        found = None

        def choose() -> str | None:
            nonlocal found
            found = folder.sound_checkpoint()
            # damaged ones that are newer would outlive better ones
            for checkpoint in folder.checkpoints():
                if found and checkpoint == found[0]:
                    break
                folder.files.remove(checkpoint.name)
            return found[0].name if found else None

        name = workers.on_rank_zero(choose)
        if name is not None and workers.rank > 0:
            folder.files.refresh()
            return Checkpoint(folder.files, folder.name, name.rsplit("/", 1)[-1]).read()
        return found[1] if found else None


def checkpoint_bytes(state: dict) -> memoryview:
    """Serialise a checkpoint."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getbuffer()


def load_checkpoint(data: bytes, device: str) -> dict:
    """Read a checkpoint as plain tensors and numbers; nothing in it is executed."""
    return torch.load(io.BytesIO(data), map_location=device, weights_only=True)
