"""Work: trials as they are handed to lanes, where a search decides which of them start.

Without a search a trial is handed out as it is. Of one whose evaluations are tuned the pre-training
is handed out first, for all, and then every try's evaluations by themselves, as the search asks for
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mae_ablation.store.folder import Store
from mae_ablation.study.plan import Plan, unfinished
from mae_ablation.study.trial import Phase, Trial


@dataclass(frozen=True, kw_only=True, slots=True)
class Searched:
    """One try of a search: a row with one combination of the tuned values."""

    label: str
    group: str
    """the row's: only tries of one row are compared"""
    metric: str
    """name in the journal of what a scheduler watches"""
    watched: Phase
    """the first seed's phase that a scheduler watches"""
    epochs: int
    """of that phase"""
    phases: tuple[Phase, ...]
    """that are only this try's, of all seeds: a stop ends these"""
    numbers: tuple[int, ...]
    """of its work in the list, the first seed's first; empty where all of it is finished"""
    stopped: bool = False
    """by an earlier run"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What is to be run."""

    trials: list[Trial]
    searched: list[Searched] = field(default_factory=list)
    """every try of the searches that have some left to run, in the study's order"""
    scheduled: bool = False
    """whether a scheduler may stop some"""

    @property
    def held(self) -> frozenset[int]:
        """Numbers of the trials that wait until the search asks for them."""
        return frozenset(number for each in self.searched for number in each.numbers)


def work_of(plans: Sequence[Plan], todo: Sequence[Trial], store: Store) -> Work:
    """The work of some open trials (`plan.missing`)."""
    tries = tries_of(plans)
    owners = owners_of(plans, tries)
    trials = [part for trial in todo for part in parts(trial, owners)]
    trials = [trial for trial in trials if unfinished(trial, store)]
    mine = {key: [] for key in tries}
    shared = [t for t in trials if owners.get(t.phases[0].identity) is None]
    trials = shared + [t for t in trials if owners.get(t.phases[0].identity) is not None]
    for number, trial in enumerate(trials):
        owner = owners.get(trial.phases[0].identity)
        if owner is not None:
            mine[owner].append(number)
    searched = [
        describe(plan, row, each, owners, sorted(mine[key], key=seed_order(plan, trials)), store)
        for key, (plan, row, each) in tries.items()
        if any(mine[other] for other in group_of(tries, key))
    ]
    scheduled = any(plan.study.tune and plan.study.tune.scheduler != "none" for plan in plans)
    return Work(trials=trials, searched=searched, scheduled=scheduled)
