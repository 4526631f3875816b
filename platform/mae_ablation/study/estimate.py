"""Estimate: wall clock and disk of a plan's missing trials, before anything is started."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from mae_ablation.recipe.cost import encoder_parameters, parameters
from mae_ablation.registry import find_component
from mae_ablation.store.folder import Store
from mae_ablation.study.plan import Plan, open_phases, trials_of
from mae_ablation.study.speed import Machine, Measured, Speeds, measured, work_of
from mae_ablation.study.trial import Phase, Trial
from mae_ablation.study.work import order_trials


def makespan(
    seconds: Sequence[float],
    lanes: int,
    *,
    needs: dict[int, int] | None = None,
    busy: Sequence[float] = (),
) -> float:
    """Seconds until the last trial has ended, each lane taking the first one that can start.

    Args:
        seconds: of each trial, in the order of the queue.
        needs: by number the trial that has to have ended first.
        busy: seconds for which lanes are at work already.
    """
    needs = needs or {}
    free = sorted([*busy, *[0.0] * (lanes - len(busy))])  # sorted lists are heaps
    ended: dict[int, float] = {}
    ready = [(0.0, number) for number in range(len(seconds)) if number not in needs]
    blocked: dict[int, list[int]] = {}
    for number, first in needs.items():
        blocked.setdefault(first, []).append(number)
    while ready:
        now = heapq.heappop(free)
        start, number = heapq.heappop(ready)
        ended[number] = max(now, start) + seconds[number]
        heapq.heappush(free, ended[number])
        for other in blocked.get(number, ()):
            heapq.heappush(ready, (ended[number], other))
    return max([*ended.values(), *busy], default=0.0)


START_S = 32.0  # Ray, torch and the lanes, until the first training step; measured on two cores
TRIAL_S = 1.0  # between two trials of a lane: data, model, writing
END_S = 8.0  # the reports, and MLflow's last points
KNOWN_AT_MOST = 1000  # finished phases of a kind that are read: a store may hold many more
CHECKPOINT_COPIES = 3 * 2  # weights and two moments of AdamW, in two checkpoints
BYTES_PER_NUMBER = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What the missing trials will take."""

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

    @property
    def gpu_hours(self) -> float:
        """Of all the GPUs the lanes hold, for as long as the run takes."""
        return self.gpus * self.seconds / 3600


def estimate(
    plans: Sequence[Plan],
    lanes: int | None = None,
    *,
    machine: Machine | None = None,
) -> Estimate:
    """Seconds and bytes of the missing trials of some studies.

    seconds = start + the lanes' last end, each taking the next trial in order + end. A phase takes
    as long as those of its shape took that the store has; see study/speed.py for the others.

    Args:
        lanes: short for Machine(lanes=lanes).
        machine: what the studies would run on.
    """
    machine = machine or Machine(lanes=lanes or 1)
    store = plans[0].store
    todo = open_phases(trials_of(plans), store)
    kinds = {phase.kind for _, phases in todo for phase in phases}
    speeds = Speeds(known_in(store, kinds, machine) if todo else [], machine)
    basis = {"measured": 0.0, "scaled": 0.0, "assumed": 0.0}
    by_phase: dict[str, float] = {}
    for trial, phases in todo:
        by_phase |= _phase_seconds(trial, phases, speeds, basis)
    by_trial = {
        trial.id: TRIAL_S + sum(by_phase[phase.identity] for phase in phases)
        for trial, phases in todo
    }
    trials = order_trials([trial for trial, _ in todo], plans, by_phase)
    numbers = sum(_kept(trial, phase) for trial, phases in todo for phase in phases)
    return Estimate(
        seconds=START_S + packed(trials, by_trial, machine.lanes) + END_S if todo else 0.0,
        disk_bytes=numbers * CHECKPOINT_COPIES * BYTES_PER_NUMBER,
        machine=machine,
        by_phase=by_phase,
        basis=basis,
        known=speeds.count,
    )


def packed(trials: Sequence[Trial], seconds: dict[str, float], lanes: int) -> float:
    """Seconds until lanes are done with some trials, in their order."""
    place = {trial.id: number for number, trial in enumerate(trials)}
    needs = {
        place[trial.id]: place[trial.needs.id]
        for trial in trials
        if trial.needs and trial.needs.id in place
    }
    return makespan([seconds[trial.id] for trial in trials], lanes, needs=needs)


def _phase_seconds(
    trial: Trial, phases: Iterable[Phase], speeds: Speeds, basis: dict[str, float]
) -> dict[str, float]:
    """Seconds of a trial's open phases, by identity; adds them to what they rest on."""
    found, encoded = {}, False
    for phase in phases:
        work = work_of(phase, trial.source, trial.data, encoded=encoded)
        seconds, rests_on = speeds.seconds(work)
        if phase.is_evaluation:  # features that are kept for the next one
            encoded = encoded or find_component("evaluation", phase.kind).cls.lends_features
        basis[rests_on] += seconds
        found[phase.identity] = seconds
    return found


def _kept(trial: Trial, phase: Phase) -> int:
    """Numbers in the model of a phase's checkpoint; what is small does not count."""
    if phase.kind == "pretrain":
        return parameters(phase.recipe, trial.data.channels)
    if phase.is_evaluation and find_component("evaluation", phase.kind).cls.trains_encoder:
        return encoder_parameters(phase.recipe, trial.data.channels)
    return 0


def known_in(store: Store, kinds: Iterable[str], machine: Machine) -> list[Measured]:
    """Speeds of a store's finished phases of some kinds, and of pre-trainings, on such a machine.

    On a processor of another name only where there are none of this one.
    """
    results = [
        result
        for kind in sorted({"pretrain", *kinds})
        for result in some_results(store, kind)
        if machine.like(result)
    ]
    here = [r for r in results if r.get("processor") in (machine.processor, None)]
    return [each for result in here or results if (each := measured(result))]


def some_results(store: Store, kind: str) -> list[dict]:
    """Results of a kind, of folders evenly spread over the sorted names where there are many."""
    folders = store.folders(kind)
    every = -(-len(folders) // KNOWN_AT_MOST) or 1
    return [result for folder in folders[::every] if (result := folder.result())]


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
