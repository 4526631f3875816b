"""Device: what torch has to train on, for a person."""

import torch


def described() -> str:
    """The GPUs by name, Apple's, or the CPU with its threads."""
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return f"CUDA: {', '.join(names)}"
    if torch.backends.mps.is_available():
        return "MPS is there, studies use the CPU: " + threads()
    return "CPU, " + threads()


def threads() -> str:
    number = torch.get_num_threads()
    return f"{number} thread{'s' * (number > 1)}"
