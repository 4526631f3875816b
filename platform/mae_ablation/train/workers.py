"""Workers: the processes of a lane that train one trial together, data-parallel.

Every worker draws the random numbers of the whole batch and takes its own micro-batches of it, so
two workers see the batches that one would see. Only rank zero writes to the store; what it reads
there or decides is broadcast to the others.

Several workers differ from one in two ways. Sums of gradients have another order (the last bits of
a float). Drop path and random erasing draw while a micro-batch passes through the model, so every
micro-batch but the first meets other numbers of the same distribution.
"""

import pickle
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
from torch import distributed, nn

from mae_ablation.errors import UserError
from mae_ablation.recipe.batch import split_batch
from mae_ablation.train.device import share_gpu

T = TypeVar("T")
TIMEOUT = timedelta(days=30)  # the others wait while rank zero trains a tokeniser


class MicroBatch(NamedTuple):
    """The part of a batch that goes through the model in one forward pass."""

    number: int
    """position among all micro-batches of the batch"""
    rows: torch.Tensor | slice
    """positions of its images in the batch"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """All workers, seen from one of them. The default is a single process."""

    rank: int = 0
    size: int = 1
    micro_batch: int | None = None
    """largest number of images per forward pass; None: the worker's whole part of the batch"""
    gpu_share: float = 1.0
    """part of its GPU's memory that a worker may fill"""
    control: Any = field(default=None, compare=False)
    """process group on the CPU, for broadcasts and small tensors"""

    @staticmethod
    def connect(micro_batch: int | None = None, gpu_share: float = 1.0) -> "Workers":
        """Connect to the other processes of torch.distributed, if there are any.

        Every process calls this once: it makes a process group, and holds to its share of a GPU.
        """
        share_gpu(gpu_share)
        own = {"micro_batch": micro_batch, "gpu_share": gpu_share}
        if not distributed.is_initialized() or distributed.get_world_size() == 1:
            return Workers(**own)
        rank, size = distributed.get_rank(), distributed.get_world_size()
        control = distributed.new_group(backend="gloo", timeout=TIMEOUT)
        return Workers(rank=rank, size=size, control=control, **own)

    # communication

    def broadcast(self, value: T) -> T:
        """Return rank zero's value on every rank. It must be small and picklable."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def on_rank_zero(self, work: Callable[[], T]) -> T:
        """Run a function on rank zero, and return its result or raise its error on every rank."""
        if self.size == 1:
            return work()
        # an error travels like a value, so that no rank waits for another for ever
        value, error = None, None
        if self.rank == 0:
            try:
                value = work()
            except Exception as raised:
                error = raised
                error.on_all_ranks = True
        value, sent = self.broadcast((value, None if error is None else make_picklable(error)))
        if sent is not None:
            raise error or sent
        return value

    def is_raised_everywhere(self, error: Exception) -> bool:
        """Tell whether every rank has raised this error, so that none waits for another."""
        return self.size == 1 or getattr(error, "on_all_ranks", False)

    def average(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over all ranks."""
        if self.size == 1:
            return values
        total = values.detach().cpu().clone()
        distributed.all_reduce(total, group=self.control)
        return (total / self.size).to(values.device)

    def agree_on_least(self, value: int) -> int:
        """Return the smallest of all ranks' values."""
        if self.size == 1:
            return value
        least = torch.tensor(value)
        distributed.all_reduce(least, distributed.ReduceOp.MIN, group=self.control)
        return int(least)

    def gather_rows(
        self, rows: list[torch.Tensor], parts: list[torch.Tensor], n: int
    ) -> torch.Tensor:
        """Put together a matrix of n rows that the workers computed in parts.

        With several workers the result is on the CPU, whole on every rank. Rank zero must have
        computed some rows if anybody has.

        Args:
            rows: for each of this worker's parts, where its rows belong.
        """
        if self.size == 1:
            return torch.cat(parts)
        # every rank fills in its rows; the sum adds one number and zeros, which is exact
        whole = torch.zeros(n, self.broadcast(parts[0].shape[1] if parts else 0))
        for where, part in zip(rows, parts, strict=True):
            whole[where] = part.cpu()
        distributed.all_reduce(whole, group=self.control)
        return whole

    # division of the work

    @property
    def own_batches(self) -> slice:
        """Every size-th batch, for work that is dealt out batch by batch."""
        return slice(self.rank, None, self.size)

    def micro_batches(self, batch: int, at_most: int | None = None) -> list[MicroBatch]:
        """Divide a batch, and return this worker's micro-batches in order.

        A micro-batch is a stretch of the first half of the batch and its mirror image in the
        second: timm's mixup pairs image i with image n - 1 - i, so it pairs the same images as in
        the whole batch.

        Args:
            at_most: largest number of images per forward pass; None: `micro_batch` says.

        Raises:
            UserError: the batch cannot be divided evenly.
        """
        # every rank meets the same error, so none waits for another
        try:
            _, times = split_batch(batch, self.size, at_most or self.micro_batch)
        except UserError as error:
            error.on_all_ranks = True
            raise
        # numbered over all workers: what is drawn for a micro-batch follows from its number
        parts = self.size * times
        if parts == 1:
            return [MicroBatch(0, slice(None))]
        numbers = range(self.rank * times, (self.rank + 1) * times)
        return [MicroBatch(number, mirrored_rows(batch, number, parts)) for number in numbers]

    # gradients

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model to be trained; with several workers it averages their gradients."""
        if self.size == 1:
            return model
        # buffers are constants here (positions, targets), equal on every rank by the seed
        on_gpu = next(model.parameters()).is_cuda
        with warnings.catch_warnings():  # torch 2.14 has a new name for broadcast_buffers, 2.6 not
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return nn.parallel.DistributedDataParallel(
                model,
                device_ids=[torch.cuda.current_device()] if on_gpu else None,
                gradient_as_bucket_view=True,
                broadcast_buffers=False,
            )

    def synchronise(self, model: nn.Module, *, last: bool) -> AbstractContextManager:
        """Average gradients in this block only if it holds the last micro-batch of a step."""
        return nullcontext() if self.size == 1 or last else model.no_sync()


def mirrored_rows(batch: int, number: int, parts: int) -> torch.Tensor:
    """Return the rows of a micro-batch: a stretch of the first half, then its mirror image."""
    pairs = batch // parts // 2
    first = torch.arange(number * pairs, (number + 1) * pairs)
    return torch.cat([first, batch - 1 - first.flip(0)])


def make_picklable(error: Exception) -> Exception:
    """Return the error, or one with the same text that other processes can unpickle."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # some exceptions cannot be built from their own arguments
        other = RuntimeError(f"{type(error).__name__}: {error}")
        other.on_all_ranks = True
        return other
