"""Price: what a run costs, in words; before it, and against the truth after it."""

from collections.abc import Sequence
from statistics import median

from mae_ablation.study.estimate import Estimate


def in_time(seconds: float) -> str:
    """Minutes, or hours or days where those are many; seconds where it is not a minute and a
    half."""
    for unit, size in (("days", 86400), ("h", 3600)):
        if seconds >= 3 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def cost_lines(cost: Estimate, price: float | None = None) -> list[str]:
    """Time, disk, GPU-hours and money of what is missing, and what the time rests on."""
    if not cost.seconds:
        return []
    lanes = cost.machine.lanes
    lines = [
        f"estimate: {in_time(cost.seconds)} on {lanes} lane{'s' * (lanes > 1)} "
        f"({basis(cost)}), {size(cost.disk_bytes)} of checkpoints"
    ]
    if cost.gpus:
        lines.append(gpu_line(cost, price))
    return lines


def size(number: float) -> str:
    return f"{number / 1e6:,.0f} MB" if number < 1e10 else f"{number / 1e9:,.0f} GB"


def basis(cost: Estimate) -> str:
    """Say what the time rests on."""
    if not cost.known:
        whose = "a GPU's guess" if cost.machine.gpus else "by a matrix product of this machine"
        speed = f"at most {cost.machine.assumed / 1e9:,.0f} GFLOP/s a lane"
        return f"assumed {whose}, nothing like it measured yet: {speed}"
    total = sum(cost.basis.values()) or 1.0
    shares = {name: 100 * seconds / total for name, seconds in cost.basis.items()}
    words = {"measured": "measured at the same shape", "scaled": "scaled from other shapes"}
    words["assumed"] = "assumed"
    parts = [f"{share:.0f} % {words[name]}" for name, share in shares.items() if share >= 0.5]
    return f"from {cost.known} finished phases: {', '.join(parts)}"


def gpu_line(cost: Estimate, price: float | None) -> str:
    """Derive the GPU-hours, and the money."""
    m = cost.machine
    line = (
        f"GPU-hours: {m.lanes} lane{'s' * (m.lanes > 1)} x "
        f"{m.workers} worker{'s' * (m.workers > 1)} x {m.gpus:g} GPU "
        f"x {rounded(cost.seconds / 3600)} h = {rounded(cost.gpu_hours)}"
    )
    if price is None:
        return line
    return f"{line}; x {price:g} = {price * cost.gpu_hours:,.2f}"


def rounded(number: float) -> str:
    """Three digits or more."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def utilisation(results: Sequence[dict]) -> str:
    """Say how much of what a lane's device gives went into the models; "" if no result tells."""
    known = [result for result in results if result.get("mfu")]
    if not known:
        return ""
    rates = {name: median(r[name] for r in known) for name in ("mfu", "flops_per_s")}
    return (
        f"model FLOPs utilisation of pre-training {rates['mfu']:.0%}: "
        f"{rates['flops_per_s'] / 1e9:,.1f} GFLOP/s a lane, of "
        f"{rates['flops_per_s'] / rates['mfu'] / 1e9:,.0f} in matrix products"
    )


def against(cost: Estimate, seconds: float, price: float | None = None) -> str:
    """Hold the estimate against the truth, which says what the next one is worth."""
    line = (
        f"estimated {in_time(cost.seconds)} ({basis(cost)}), took {in_time(seconds)} "
        f"(x {seconds / cost.seconds:.2f})"
    )
    if cost.gpus:
        hours = cost.gpus * seconds / 3600
        line += f"; {rounded(hours)} GPU-hours"
        line += f" x {price:g} = {price * hours:,.2f}" if price is not None else ""
    return line
