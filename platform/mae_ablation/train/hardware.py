"""Errors of the hardware, told apart from a trial's own; and why there is no GPU where one was
promised."""

import re
from pathlib import Path

import torch

NVIDIA_VERSION = Path("/proc/driver/nvidia/version")
DRIVERS = {13: 580, 12: 525, 11: 450}
"""oldest Linux driver for each CUDA; https://docs.nvidia.com/deploy/cuda-compatibility"""

BROKEN = re.compile(
    r"uncorrectable ECC|unspecified launch failure|launch timed out|hardware stack error"
    r"|NVLink|NCCL|DistBackendError|CUBLAS_STATUS_(ALLOC_FAILED|NOT_INITIALIZED|EXECUTION_FAILED)"
    r"|CUDNN_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)"
    r"|CUDA error: (unknown error|initialization error|driver shutting down|system not yet)"
    r"|(is|are) (lost|busy or unavailable)|is/are busy|fallen off the bus"
    r"|no CUDA-capable device|CUDA driver initialization failed"
)
"""Words of the driver and of NVIDIA's libraries for a GPU, or a link, that does not work. An
illegal address or a failed assertion is none of them: a trial's code or data leads there."""
ECHO = re.compile(r"remote process exited|closed by remote peer|Connection (reset|refused|closed)")
"""NCCL's words on another worker that has died: this one's GPU is sound"""


def is_hardware_error(error: BaseException) -> bool:
    """Tell if an error is the GPU's or its links', so that the trial may do well on another."""
    text = f"{type(error).__name__}: {error}"
    return bool(BROKEN.search(text)) and not ECHO.search(text)


def explain_missing_gpu() -> str:
    """Say in a line why torch finds no GPU here, with its versions and what to do."""
    cuda = torch.version.cuda or torch.version.hip
    wheel = f"torch {torch.__version__}"
    try:
        driver = re.search(r"Module\s+(\d+)[\d.]*", NVIDIA_VERSION.read_text())
    except OSError:
        driver = None
    on_cpu = "or train on CPUs with --gpus 0"

    # no CUDA in torch, no driver on the machine, or one that is too old
    if cuda is None:
        return f"{wheel} is built without CUDA: install one that is built for it, {on_cpu}"
    if driver is None:
        found = f"no NVIDIA driver here, {wheel} is built for CUDA {cuda}"
        return f"{found}: install one, give the container its GPUs (--gpus all), {on_cpu}"
    version = driver[0].split()[-1]
    oldest = DRIVERS.get(int(cuda.split(".")[0]), 0)
    found = f"NVIDIA driver {version}, {wheel} is built for CUDA {cuda}"
    if int(driver[1]) < oldest:
        other = "install a torch that is built for an older CUDA"
        return (
            f"{found}, which needs driver {oldest} or newer: update the driver, {other}, {on_cpu}"
        )
    return f"{found}, and torch finds no GPU: see what `nvidia-smi` says, {on_cpu}"
