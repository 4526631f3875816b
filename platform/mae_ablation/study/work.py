"""Work: trials as they are handed to lanes, where a search decides which of them start.

Without a search a trial is handed out as it is. Of one whose evaluations are tuned the pre-training
is handed out first, for all, and then every try's evaluations by themselves, as the search asks for
them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mae_ablation.store.folder import Store
from mae_ablation.study.plan import Plan, Try, unfinished
from mae_ablation.study.trial import Phase, Trial

Key = tuple[tuple[str, ...], ...]
"""of a try: identities of all its phases"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Searched:
    """One try of a search: a row with one combination of the tuned values."""

    name: str
    row: int
    """only tries of one row are compared"""
    phases: tuple[Phase, ...]
    """of this try alone, of all seeds, the first seed's first; they end if it is stopped"""
    first: tuple[int, ...]
    """numbers of the first seed's open work"""
    rest: tuple[int, ...]
    """those of the other seeds"""

    @property
    def watched(self) -> Phase:
        """The phase whose journal tells how the try is doing: the first seed's last one."""
        seed = self.phases[0].document["seed"]
        return [phase for phase in self.phases if phase.document["seed"] == seed][-1]

    @property
    def epochs(self) -> int:
        """Of the phase that is watched."""
        return getattr(self.watched.recipe, self.watched.kind).epochs

    @property
    def may_be_stopped(self) -> bool:
        return bool(self.watched.search)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What is to be run."""

    trials: list[Trial]
    searched: list[Searched] = field(default_factory=list)
    """every try of the rows whose search is not finished, in the study's order"""

    @property
    def held(self) -> frozenset[int]:
        """Numbers of the trials that wait until the search asks for them."""
        return frozenset(n for each in self.searched for n in (*each.first, *each.rest))


def work_of(plans: Sequence[Plan], todo: Iterable[Trial], store: Store) -> Work:
    """Return the work of some open trials, as `missing` gives them."""
    rows = rows_of(plans)
    if not rows:
        return Work(trials=list(todo))
    owners = owners_of(plans)
    names = {(t.id, seed): one.name for ts in rows for t in ts for seed, one in t.trials.items()}
    parts = [part for part in split(todo, owners, names) if unfinished(part, store)]
    parts.sort(key=lambda part: owners[part.id] is not None)  # what is shared comes first
    mine: dict[Key, list[int]] = {}
    for number, part in enumerate(parts):
        if owners[part.id] is not None:
            mine.setdefault(owners[part.id], []).append(number)
    owned = set(owners.values())
    searched = [
        describe(each, i, owners, [(n, parts[n].seed) for n in mine.get(each.id, ())])
        for i, tries in enumerate(rows)
        if any(each.id in mine for each in tries)
        for each in tries
        if each.id in owned
    ]
    return Work(trials=parts, searched=searched)


def rows_of(plans: Sequence[Plan]) -> list[list[Try]]:
    """Return the tries of every row that searches, each row once: as the study has it that stops
    none of them, where several have it."""
    found: dict[tuple[Key, ...], list[Try]] = {}
    for plan in plans:
        for row in (*plan.rows, *plan.references):
            tries = {each.id: each for each in reversed(row.tries)}
            if len(tries) > 1:
                inside = [each for each in row.tries if tries[each.id] is each]
                key = tuple(each.id for each in inside)
                if key not in found or not may_be_stopped(inside):
                    found[key] = inside
    return list(found.values())


def may_be_stopped(tries: Iterable[Try]) -> bool:
    """Tell whether a scheduler may stop some of them."""
    trials = (trial for each in tries for trial in each.trials.values())
    return any(phase.search for trial in trials for phase in trial.phases)


def owners_of(plans: Sequence[Plan]) -> dict[str, Key | None]:
    """Return the try that each phase belongs to; None where it is wanted by several, or without
    one."""
    owners: dict[str, Key | None] = {}
    for plan in plans:
        for row in (*plan.rows, *plan.references):
            searches = len({each.id for each in row.tries}) > 1
            for each in row.tries:
                owner = each.id if searches else None
                for identity in (i for ids in each.id for i in ids):
                    if owners.setdefault(identity, owner) != owner:
                        owners[identity] = None
    return owners


def split(
    todo: Iterable[Trial], owners: dict[str, Key | None], names: dict[tuple[Key, int], str]
) -> Iterator[Trial]:
    """Yield each trial as it is, or as its pre-training, what else is shared, and a part for every
    try.

    A phase that is in several trials without a pre-training is in the first one's part only.
    """
    seen: set[str] = set()
    for trial in todo:
        phases = [phase for phase in trial.phases if phase.identity not in seen]
        seen.update(phase.identity for phase in phases)
        by_owner: dict[Key | None, list[Phase]] = {}
        for phase in phases:
            by_owner.setdefault(owners.setdefault(phase.identity, None), []).append(phase)
        if len(by_owner) == 1 and len(phases) == len(trial.phases):
            yield replace(trial, label=trial.name)
            continue
        needs = None
        if trial.source == "pretrain":
            needs = replace(trial, phases=trial.phases[:1])
            yield needs
            by_owner[owners[trial.id]].remove(trial.phases[0])
        for owner, mine in by_owner.items():
            if mine:
                name = names.get((owner, trial.seed), trial.name)
                yield replace(trial, label=name, phases=tuple(mine), needs=needs)


def describe(
    each: Try, row: int, owners: dict[str, Key | None], numbers: Sequence[tuple[int, int]]
) -> Searched:
    """Return a try with its open work, `numbers` with their seeds."""
    first = next(iter(each.trials))
    phases = (phase for trial in each.trials.values() for phase in trial.phases)
    return Searched(
        name=each.some.name,
        row=row,
        phases=tuple(phase for phase in phases if owners[phase.identity] == each.id),
        first=tuple(n for n, seed in numbers if seed == first),
        rest=tuple(n for n, seed in numbers if seed != first),
    )


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


def order_trials(
    trials: Sequence[Trial], plans: Sequence[Plan], seconds: Mapping[str, float]
) -> list[Trial]:
    """Order trials seed by seed, the longest first in each round; what others need comes first.

    After the first round every row and every reference has a number: a provisional table, a broken
    level and a look come early. Short trials fill the gaps at the end of a round.

    Args:
        seconds: estimated, by identity of a phase; FLOPs decide where nothing is.
    """
    rounds: dict[str, int] = {}
    for plan in plans:
        place = {seed: number for number, seed in enumerate(plan.study.seeds)}
        for trial in plan.cells:
            for identity in trial.result_id:
                rounds[identity] = min(place[trial.seed], rounds.get(identity, place[trial.seed]))

    def order(trial: Trial) -> tuple[bool, int, float, float]:
        first = min(rounds.get(identity, 0) for identity in trial.result_id)
        length = sum(seconds.get(identity, 0.0) for identity in trial.result_id)
        return trial.source != "prepare", first, -length, -trial.flops

    return sorted(trials, key=order)
