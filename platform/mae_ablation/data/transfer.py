"""Numbers on their way to a GPU, which no step of a training waits for."""

from functools import lru_cache

import torch


def send(tensor: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """Copy a tensor to a device without waiting for it.

    Only a copy from pinned memory runs beside the step's kernels: any other waits for all of them.
    """
    device = torch.device(device)
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@lru_cache(maxsize=64)
def channel_constants(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Make one number per channel (c, 1, 1), once for each device: making it there waits."""
    return torch.tensor(values, device=device)[:, None, None]
