"""Team: the workers of a lane that train one trial together, and what they agree on.

Every worker draws the random numbers of the whole batch and takes its own shares of it, so that
two workers see the batches that one would see. Only the first (rank 0) writes to the store; what it
finds there or decides is told the others.

What differs between one worker and several: sums of gradients have another order (the last bits of
a float), and drop path and random erasing, which draw while a share is on its way through the
model, draw other numbers of the same distribution for every share but the first.
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

T = TypeVar("T")
PATIENCE = timedelta(days=30)  # the others wait while rank 0 trains a tokeniser


class Share(NamedTuple):
    """A part of a batch that one worker takes at a time."""

    number: int
    """of all shares of the batch"""
    rows: torch.Tensor | slice
    """positions in the batch"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """This process's place among the workers. The default is a process of its own."""

    rank: int = 0
    size: int = 1
    batch_per_worker: int | None = None
    """images that a worker takes at a time; None: its whole share"""
    control: Any = field(default=None, compare=False)
    """process group on the CPU, for agreements and small tensors"""

    @staticmethod
    def here(batch_per_worker: int | None = None) -> "Team":
        """The team of torch.distributed's processes, if there are several.

        To be called by all of them, once: it makes a process group.
        """
        if not distributed.is_initialized() or distributed.get_world_size() == 1:
            return Team(batch_per_worker=batch_per_worker)
        return Team(
            rank=distributed.get_rank(),
            size=distributed.get_world_size(),
            batch_per_worker=batch_per_worker,
            control=distributed.new_group(backend="gloo", timeout=PATIENCE),
        )

    # agreements

    def agree(self, value: T) -> T:
        """Rank 0's value, on all ranks; a small one that can be pickled."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def alone(self, work: Callable[[], T]) -> T:
        """What rank 0 does while the others wait: its result, or its exception, is everyone's."""
        if self.size == 1:
            return work()
        value, error = None, None
        if self.rank == 0:
            try:
                value = work()
            except Exception as raised:
                error = raised
                error.on_all_ranks = True
        value, sent = self.agree((value, None if error is None else portable(error)))
        if sent is not None:
            raise error or sent
        return value

    def raised_by_all(self, error: Exception) -> bool:
        """Whether the other ranks have met this exception, too, and none waits for this one."""
        return self.size == 1 or getattr(error, "on_all_ranks", False)

    # shares of the work

    def shares(self, batch: int, at_most: int | None = None) -> list[Share]:
        """This worker's shares of a batch; one that is the whole batch if it need not be shared.

        A share is a stretch of the first half and its mirror image in the second, so that timm's
        mixup, which pairs image i with image n - 1 - i, pairs within a share the same images.

        Args:
            at_most: images taken at a time; None: as many as `batch_per_worker` allows.

        Raises:
            UserError: the batch cannot be shared evenly.
        """
        try:
            _, times = split_batch(batch, self.size, at_most or self.batch_per_worker)
        except UserError as error:
            error.on_all_ranks = True
            raise
        parts = self.size * times
        if parts == 1:
            return [Share(0, slice(None))]
        numbers = range(self.rank * times, (self.rank + 1) * times)
        return [Share(number, mirrored(batch, number, parts)) for number in numbers]

    @property
    def turns(self) -> slice:
        """Which of many batches this worker computes, where they are dealt out."""
        return slice(self.rank, None, self.size)

    def assemble(self, rows: list[torch.Tensor], parts: list[torch.Tensor], n: int) -> torch.Tensor:
        """All n rows of a matrix of which each worker has computed some, rank 0 the first of them.

        With several workers it comes out on the CPU.
        """
        if self.size == 1:
            return torch.cat(parts)
        whole = torch.zeros(n, self.agree(parts[0].shape[1] if parts else 0))
        for where, part in zip(rows, parts, strict=True):
            whole[where] = part.cpu()
        distributed.all_reduce(whole, group=self.control)  # one number and zeros: exact
        return whole

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean of every rank's values."""
        if self.size == 1:
            return values
        total = values.detach().cpu().clone()
        distributed.all_reduce(total, group=self.control)
        return (total / self.size).to(values.device)

    # training

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as it is trained: with several workers its gradients are averaged."""
        if self.size == 1:
            return model
        on_gpu = next(model.parameters()).is_cuda
        with warnings.catch_warnings():  # torch 2.14 has a new name for broadcast_buffers, 2.6 not
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return nn.parallel.DistributedDataParallel(
                model,
                device_ids=[torch.cuda.current_device()] if on_gpu else None,
                gradient_as_bucket_view=True,
                broadcast_buffers=False,
            )

    def averaging(self, model: nn.Module, *, last: bool) -> AbstractContextManager:
        """For forward and backward of a share: gradients are averaged with the last one only."""
        return nullcontext() if self.size == 1 or last else model.no_sync()


def mirrored(batch: int, number: int, parts: int) -> torch.Tensor:
    """Positions of a share: a stretch of the first half, then its mirror image in the second."""
    pairs = batch // parts // 2
    first = torch.arange(number * pairs, (number + 1) * pairs)
    return torch.cat([first, batch - 1 - first.flip(0)])


def portable(error: Exception) -> Exception:
    """The exception, or one that says the same, as other processes can read it."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # some exceptions cannot be built from their own arguments
        other = RuntimeError(f"{type(error).__name__}: {error}")
        other.on_all_ranks = True
        return other
