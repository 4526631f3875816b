"""Kernels: whether a training's step is compiled, which is decided by measurement.

Compiling takes half a minute to minutes and makes a step faster, or not; both are measured once for
each device and shape, on the training's own step, and kept for the machine. On a CPU with fused
functions (mae/fused.py) it is not tried: they are as fast or faster at every size measured, and
take two seconds (reports/performance.md). Results are the same within a float's last bits, so it is
no part of an identity; but what a training began with it goes on with, so that it resumes bit for
bit.

Along the way a step in bfloat16 is timed where the device promises more in it. That is told, not
done: precision is part of what a training is, and the same for all levels of a study.
"""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import nn

from mae_ablation import machine
from mae_ablation.phases.ceiling import ceiling_flops_per_s
from mae_ablation.phases.facts import processor
from mae_ablation.phases.precision import Precision
from mae_ablation.store.atomic import replacing, to_json
from mae_ablation.study.errors import one_line

SHORT_S = 600.0
"""a training that would take less is not worth the test"""
THREAD_FLOPS_PER_S, GPU_FLOPS_PER_S = 1e11, 5e13
STEPS = 3  # timed of each kind, after one that is not


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Seconds of a step as it is and compiled, and of compiling it."""

    plain_s: float
    compiled_s: float | None = None
    """null: not tried"""
    compiling_s: float = 0.0
    failure: str = ""
    """why it could not be compiled: no C++ compiler, say"""
    bfloat16_s: float | None = None
    """of a plain step in bfloat16, where the device multiplies faster in it; null: not measured"""

    def pays(self, steps: int) -> bool:
        """Whether so many steps win back twice what compiling costs."""
        if self.failure or self.compiled_s is None:
            return False
        return (self.plain_s - self.compiled_s) * steps > 2 * self.compiling_s


class Kernels:
    """The choice for one training; a part of its checkpoints.

    Args:
        setting: "auto", "always" or "never".
        device: where it trains.
        shape: whatever the speed of a step depends on, as JSON has it.
        fused: whether steps that are not compiled use fused functions.
    """

    def __init__(self, setting: str, device: str, shape: dict, *, fused: bool = False) -> None:
        self.setting, self._device, self._fused = setting, device, fused
        self._key = json.dumps(
            {
                "processor": processor(device),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "fused": fused,
                **shape,
            },
            sort_keys=True,
        )
        self.compiled: bool | None = None
        """None: not decided yet; a checkpoint says how its training began"""
        self.measured: Measured | None = None

    def decided(
        self,
        model: nn.Module,
        arguments: tuple,
        precision: Precision,
        *,
        steps: int,
        flops: float,
    ) -> bool:
        """Whether to compile; it is measured where that is worth it.

        Args:
            model: gives a loss, and has no gradients yet.
            arguments: of the model, for a batch of the shape.
            steps: still to be done.
            flops: of one step.
        """
        if self.setting != "auto":
            return self.setting == "always"
        if self.compiled is not None:
            return self.compiled
        self.measured = recall(self._key)
        if self.measured is None and flops * steps > SHORT_S * self._flops_per_s():
            self.measured = measure(model, arguments, precision, self._device, not self._fused)
            remember(self._key, self.measured)
        return self.measured is not None and self.measured.pays(steps)

    def _flops_per_s(self) -> float:
        """More than the device is likely to reach."""
        on_gpu = self._device.startswith("cuda")
        return GPU_FLOPS_PER_S if on_gpu else THREAD_FLOPS_PER_S * torch.get_num_threads()

    def applied(self, model: nn.Module) -> nn.Module:
        """The module as the choice has it."""
        return torch.compile(model) if self.compiled else model

    def facts(self) -> dict:
        """For the result."""
        measured = {"measured": asdict(self.measured)} if self.measured else {}
        fused = self._fused and not self.compiled
        return {"compiled": bool(self.compiled), "fused": fused, **measured}

    def state_dict(self) -> dict:
        return {"compiled": self.compiled}

    def load_state_dict(self, state: dict) -> None:
        self.compiled = state["compiled"]


def measure(
    model: nn.Module, arguments: tuple, precision: Precision, device: str, compiling: bool = True
) -> Measured:
    """Time a step as it is and, if asked, compiled. Its gradients are thrown away."""

    def step_s(module: nn.Module, numbers: Precision = precision) -> float:
        model.zero_grad(set_to_none=True)
        wait_for(device)
        began = time.perf_counter()
        with numbers.forward():
            loss = module(*arguments)
        loss.backward()
        wait_for(device)
        return time.perf_counter() - began

    plain_s = median(step_s(model) for _ in range(STEPS + 1))
    compiled_s, compiling_s, failure = None, 0.0, ""
    if compiling:
        began = time.perf_counter()
        try:
            compiled = torch.compile(model)
            step_s(compiled)
            compiling_s = time.perf_counter() - began
            compiled_s = median(step_s(compiled) for _ in range(STEPS))
        except Exception as error:  # of many types; the training can do without
            compiling_s = time.perf_counter() - began
            failure = one_line(error)
    bfloat16_s = None
    if precision.name == "float32" and promises_more(device):
        half = Precision("bfloat16", device)
        bfloat16_s = median(step_s(model, half) for _ in range(STEPS))
    model.zero_grad(set_to_none=True)
    return Measured(
        plain_s=plain_s,
        compiled_s=compiled_s,
        compiling_s=compiling_s,
        failure=failure,
        bfloat16_s=bfloat16_s,
    )


def promises_more(device: str) -> bool:
    """Whether matrix products are clearly faster in bfloat16; a CPU without its instructions takes
    many times as long."""
    threads = torch.get_num_threads()
    full, half = (ceiling_flops_per_s(device, name, threads) for name in ("float32", "bfloat16"))
    return half > 1.2 * full


def wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


# what this machine has measured -------------------------------------------------------------------


def notes() -> Path:
    """The machine's file of measurements; one that is lost is measured again."""
    return machine.cache() / "kernels.json"


def recall(key: str) -> Measured | None:
    try:
        return Measured(**json.loads(notes().read_text())[key])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(key: str, measured: Measured) -> None:
    """Keep a measurement. Of two that are kept at the same moment one may be lost."""
    try:
        known = json.loads(notes().read_text())
    except (OSError, ValueError):
        known = {}
    with suppress(OSError), replacing(notes()) as file:
        file.write(to_json({**known, key: asdict(measured)}))
