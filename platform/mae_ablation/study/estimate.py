"""Estimate: wall clock, disk and money of a plan's missing trials, before anything is started."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mae_ablation.recipe.cost import encoder_parameters, parameters
from mae_ablation.registry import find_component
from mae_ablation.study import machine as here
from mae_ablation.study.plan import Plan, open_phases, trials_of
from mae_ablation.study.speed import Machine, Measured, Speeds, phase_work, read_speed
from mae_ablation.study.trial import Phase, Trial
from mae_ablation.study.work import order_trials

START_S = 32.0  # Ray, torch and the lanes, until the first training step; measured on two cores
TRIAL_S = 1.0  # between two trials of a lane: data, model, writing
END_S = 8.0  # the reports, and MLflow's last points
KNOWN_AT_MOST = 1000  # finished phases of a kind that are read: a store may hold many more
BYTES_PER_WEIGHT = 4 * 3 * 2  # itself and two moments of AdamW in float32, in two checkpoints


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """The time and the disk that missing trials will take."""

    seconds: float
    """wall clock, from the command to its end; 0: nothing is missing"""
    disk_bytes: float
    machine: Machine
    by_phase: dict[str, float]
    """seconds of each missing phase, by identity"""
    basis: dict[str, float]
    """seconds of training that rest on the same shape ("measured"), on other shapes ("scaled")
    and on nothing ("assumed")"""
    known: int
    """phases whose time is known"""

    @property
    def gpus(self) -> float:
        return self.machine.lanes * self.machine.workers * self.machine.gpus


def estimate(
    plans: Sequence[Plan], lanes: int | None = None, *, machine: Machine | None = None
) -> Estimate:
    """Estimate seconds and bytes of the missing trials of some studies.

    seconds = start + the lanes' last end, each taking the next trial in order + end. A phase takes
    as long as those of its shape took that the store has; see study/speed.py for the others.

    Args:
        lanes: short for Machine(lanes=lanes).
        machine: the one that the studies would run on.
    """
    # the unfinished phases, and how fast finished ones of their shapes were
    machine = machine or Machine(lanes=lanes or 1)
    todo = open_phases(trials_of(plans), plans[0].store)
    speeds = Speeds(_known_speeds(plans[0], todo, machine) if todo else [], machine)

    # each phase, and by them each trial
    basis = {"measured": 0.0, "scaled": 0.0, "assumed": 0.0}
    by_phase: dict[str, float] = {}
    by_trial: dict[str, float] = {}
    weights = 0
    for trial, phases in todo:
        encoded = False  # features that one evaluation keeps for the next
        for phase in phases:
            work = phase_work(phase, trial.source, trial.data, encoded=encoded)
            seconds, rests_on = speeds.seconds(work)
            basis[rests_on] += seconds
            by_phase[phase.identity] = seconds
            if phase.is_evaluation:
                encoded = encoded or find_component("evaluation", phase.kind).cls.lends_features
            weights += _count_weights(trial, phase)
        by_trial[trial.id] = TRIAL_S + sum(by_phase[phase.identity] for phase in phases)

    # a trial waits for the tokeniser that it needs, where that is missing, too
    trials = order_trials([trial for trial, _ in todo], plans, by_phase)
    place = {trial.id: number for number, trial in enumerate(trials)}
    needs = {
        number: place[trial.needs.id]
        for number, trial in enumerate(trials)
        if trial.needs and trial.needs.id in place
    }
    lanes_s = makespan([by_trial[t.id] for t in trials], machine.lanes, needs=needs)
    return Estimate(
        seconds=START_S + lanes_s + END_S if todo else 0.0,
        disk_bytes=weights * BYTES_PER_WEIGHT,
        machine=machine,
        by_phase=by_phase,
        basis=basis,
        known=speeds.count,
    )


def _known_speeds(
    plan: Plan, todo: Sequence[tuple[Trial, list[Phase]]], machine: Machine
) -> list[Measured]:
    """Return the speeds of the store's finished phases of the kinds to come, on such a machine."""
    kinds = {"pretrain", *(phase.kind for _, phases in todo for phase in phases)}
    results = []
    for kind in sorted(kinds):
        # of very many folders some, evenly spread over their sorted names
        folders = plan.store.folders(kind)
        every = -(-len(folders) // KNOWN_AT_MOST) or 1
        results += [result for each in folders[::every] if (result := each.result())]
    results = [result for result in results if machine.like(result)]

    # another processor's only where there are none of this one
    ours = [r for r in results if r.get("processor") in (machine.processor, None)]
    return [speed for result in ours or results if (speed := read_speed(result))]


def _count_weights(trial: Trial, phase: Phase) -> int:
    """Return the numbers in the model of a phase's checkpoint; what is small does not count."""
    if phase.kind == "pretrain":
        return parameters(phase.recipe, trial.data.channels)
    if phase.is_evaluation and find_component("evaluation", phase.kind).cls.trains_encoder:
        return encoder_parameters(phase.recipe, trial.data.channels)
    return 0


def makespan(
    seconds: Sequence[float],
    lanes: int,
    *,
    needs: dict[int, int] | None = None,
    busy: Sequence[float] = (),
) -> float:
    """Return the seconds until the last trial has ended, each lane taking the first that can start.

    Args:
        seconds: of each trial, in the order of the queue.
        needs: by number the trial that has to have ended first.
        busy: seconds for which lanes are at work already.
    """
    # the sum divided by the lanes would be too short: the last trials leave some idle
    needs = needs or {}
    free = sorted([*busy, *[0.0] * (lanes - len(busy))])
    ended: dict[int, float] = {}
    ready = [(0.0, number) for number in range(len(seconds)) if number not in needs]
    blocked: dict[int, list[int]] = {}
    for number, first in needs.items():
        blocked.setdefault(first, []).append(number)
    # the first lane that is free takes the first trial, and with its end others may start
    while ready:
        now = heapq.heappop(free)
        start, number = heapq.heappop(ready)
        ended[number] = max(now, start) + seconds[number]
        heapq.heappush(free, ended[number])
        for other in blocked.get(number, ()):
            heapq.heappush(ready, (ended[number], other))
    return max([*ended.values(), *busy], default=0.0)


# in words ---------------------------------------------------------------------------------------


def cost_lines(cost: Estimate, price: float | None = None) -> list[str]:
    """Say time, disk, GPU-hours and money of what is missing, and what the time rests on.

    Args:
        price: of a GPU-hour, in any currency.
    """
    if not cost.seconds:
        return []
    # time and disk, in units that a person reads at a glance
    m = cost.machine
    disk = cost.disk_bytes
    room = f"{disk / 1e6:,.0f} MB" if disk < 1e10 else f"{disk / 1e9:,.0f} GB"
    # how fast this machine is just now, beside what it was when those phases ran
    rate = here.product_flops_per_s() / 1e9 if m.processor else 0.0
    product = f"; matrix products here reach {rate:,.0f} GFLOP/s a thread" if m.processor else ""
    lines = [
        f"estimate: {_in_time(cost.seconds)} on {m.lanes} lane{'s' * (m.lanes > 1)} "
        f"({_basis(cost)}), {room} of checkpoints{product}"
    ]

    # money is what GPUs cost that are held, at work or not
    if cost.gpus:
        hours = cost.gpus * cost.seconds / 3600
        money = "" if price is None else f"; x {price:g} = {price * hours:,.2f}"
        lines.append(
            f"GPU-hours: {m.lanes} lane{'s' * (m.lanes > 1)} x {m.workers} "
            f"worker{'s' * (m.workers > 1)} x {m.gpus:g} GPU x {_rounded(cost.seconds / 3600)} h "
            f"= {_rounded(hours)}{money}"
        )
    return lines


def against(cost: Estimate, seconds: float, price: float | None = None) -> str:
    """Hold the estimate against the truth, which says what the next one is worth."""
    line = (
        f"estimated {_in_time(cost.seconds)} ({_basis(cost)}), took {_in_time(seconds)} "
        f"(x {seconds / cost.seconds:.2f})"
    )
    if not cost.gpus:
        return line
    hours = cost.gpus * seconds / 3600
    money = "" if price is None else f" x {price:g} = {price * hours:,.2f}"
    return f"{line}; {_rounded(hours)} GPU-hours{money}"


def utilisation(results: Sequence[dict]) -> str:
    """Say how much of what a lane's device gives went into the models; "" if no result tells."""
    known = [result for result in results if result.get("mfu")]
    if not known:
        return ""
    mfu, rate = (median(result[name] for result in known) for name in ("mfu", "flops_per_s"))
    return (
        f"model FLOPs utilisation of pre-training {mfu:.0%}: {rate / 1e9:,.1f} GFLOP/s a lane, "
        f"of {rate / mfu / 1e9:,.0f} in matrix products"
    )


def _basis(cost: Estimate) -> str:
    """Say what the time rests on."""
    if not cost.known:
        whose = "a GPU's guess" if cost.machine.gpus else "by a matrix product of this machine"
        speed = f"at most {cost.machine.assumed / 1e9:,.0f} GFLOP/s a lane"
        return f"assumed {whose}, nothing like it measured yet: {speed}"
    words = {
        "measured": "measured at the same shape",
        "scaled": "scaled from other shapes",
        "assumed": "assumed",
    }
    total = sum(cost.basis.values()) or 1.0
    shares = {name: 100 * seconds / total for name, seconds in cost.basis.items()}
    parts = [f"{share:.0f} % {words[name]}" for name, share in shares.items() if share >= 0.5]
    return f"from {cost.known} finished phases: {', '.join(parts)}"


def _in_time(seconds: float) -> str:
    """Say seconds up to a minute and a half, then minutes, then hours or days from three on."""
    for unit, size in (("days", 86400), ("h", 3600)):
        if seconds >= 3 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _rounded(number: float) -> str:
    """Write three digits or more."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
