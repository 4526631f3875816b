"""Estimate: wall clock and disk of a plan's missing trials, before anything is started."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mae_ablation.recipe.cost import encoder_parameters, parameters
from mae_ablation.registry import find
from mae_ablation.store.folder import Store
from mae_ablation.study.packing import makespan
from mae_ablation.study.plan import Plan, open_phases, trials_of
from mae_ablation.study.speed import Machine, Measured, Speeds, measured, work_of
from mae_ablation.study.trial import Phase, Trial

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

    seconds = start + the lanes' last end, each taking the longest trial left + end. A phase takes
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
    numbers = sum(_kept(trial, phase) for trial, phases in todo for phase in phases)
    return Estimate(
        seconds=START_S + packed([t for t, _ in todo], by_trial, machine.lanes) + END_S
        if todo
        else 0.0,
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
            encoded = encoded or find("evaluation", phase.kind).cls.lends_features
        basis[rests_on] += seconds
        found[phase.identity] = seconds
    return found


def _kept(trial: Trial, phase: Phase) -> int:
    """Numbers in the model of a phase's checkpoint; what is small does not count."""
    if phase.kind == "pretrain":
        return parameters(phase.recipe, trial.data.channels)
    if phase.is_evaluation and find("evaluation", phase.kind).cls.trains_encoder:
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
