"""Looks: the trials that growing studies ask for at a moment, in the order they are to be run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mae_ablation.study.plan import Plan
from mae_ablation.study.trial import Trial

Told = tuple[str, int]
"""a study's name and how many of its looks are complete"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Phases that some studies ask for, by identity, as far as rows are decided."""

    now: frozenset[str]
    """of the look that is under way, and of the next one, which fills lanes that would wait"""
    later: frozenset[str] = frozenset()
    """of all looks that may still come"""
    lines: Mapping[Told, str] = field(default_factory=dict)
    """what the last complete look of each study decided"""


def asked_of(trials: Iterable[Trial], identities: frozenset[str]) -> list[Trial]:
    """Return the trials with some of these phases, without their other evaluations."""
    found = []
    for trial in trials:
        phases = tuple(p for p in trial.phases if p.identity in identities)
        if phases:
            found.append(replace(trial, phases=phases))
    return found


def by_round(trials: Sequence[Trial], plans: Sequence[Plan]) -> list[Trial]:
    """Trials seed by seed where a study grows, the longest first in each round; else as they are.

    What others need comes first.
    """
    if not any(plan.study.grows for plan in plans):
        return list(trials)
    rounds: dict[str, int] = {}
    for plan in plans:
        place = {seed: number for number, seed in enumerate(plan.study.seeds)}
        for trial in plan.cells:
            for identity in trial.result_id:
                rounds[identity] = min(place[trial.seed], rounds.get(identity, place[trial.seed]))

    def order(trial: Trial) -> tuple[bool, int, float]:
        first = min(rounds.get(identity, 0) for identity in trial.result_id)
        return trial.source != "prepare", first, -trial.flops

    return sorted(trials, key=order)
