"""Work: trials as they are handed to lanes, where looks or a search decide which of them start.

Without a search a trial is handed out as it is. Of one whose evaluations are tuned the pre-training
is handed out first, for all, and then every try's evaluations by themselves, as the search asks for
them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mae_ablation.store.folder import Store
from mae_ablation.study.plan import Plan, Try, unfinished
from mae_ablation.study.trial import Phase, Trial

TryId = tuple[tuple[str, ...], ...]
"""identities of all phases of a try"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Searched:
    """One try of a search: a row with one combination of the tuned values."""

    name: str
    row: int
    """only tries of one row are compared"""
    phases: tuple[Phase, ...]
    """this try's alone, of all seeds, the first seed's first; they end if it is stopped"""
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
        """Epochs of the phase that is watched."""
        return getattr(self.watched.recipe, self.watched.kind).epochs

    @property
    def may_be_stopped(self) -> bool:
        return bool(self.watched.search)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenWork:
    """The trials to be run, numbered by their place, and the searches among them."""

    trials: list[Trial]
    searched: list[Searched] = field(default_factory=list)
    """every try of the rows whose search is not finished, in the study's order"""

    @property
    def held(self) -> frozenset[int]:
        """Numbers of the trials that wait until the search asks for them."""
        return frozenset(n for each in self.searched for n in (*each.first, *each.rest))


def work_of(plans: Sequence[Plan], todo: Iterable[Trial], store: Store) -> OpenWork:
    """Return the work of some open trials, as `missing` gives them."""
    rows = _searching_rows(plans)
    if not rows:
        return OpenWork(trials=list(todo))

    # trials in parts, each of one try or shared; what is shared comes first
    owners = _owners(plans)
    names = {(t.id, seed): one.name for ts in rows for t in ts for seed, one in t.trials.items()}
    parts = [part for part in _split(todo, owners, names) if unfinished(part, store)]
    parts.sort(key=lambda part: owners[part.id] is not None)
    mine: dict[TryId, list[int]] = {}
    for number, part in enumerate(parts):
        if owners[part.id] is not None:
            mine.setdefault(owners[part.id], []).append(number)

    # every try of a row that has open work takes part in its search, finished ones too
    owned, searched = set(owners.values()), []
    for i, tries in enumerate(rows):
        if not any(each.id in mine for each in tries):
            continue
        for each in tries:
            if each.id not in owned:
                continue
            numbers, seed = mine.get(each.id, ()), next(iter(each.trials))
            phases = (phase for trial in each.trials.values() for phase in trial.phases)
            searched.append(
                Searched(
                    name=each.some.name,
                    row=i,
                    phases=tuple(p for p in phases if owners[p.identity] == each.id),
                    first=tuple(n for n in numbers if parts[n].seed == seed),
                    rest=tuple(n for n in numbers if parts[n].seed != seed),
                )
            )
    return OpenWork(trials=parts, searched=searched)


def _searching_rows(plans: Sequence[Plan]) -> list[list[Try]]:
    """Return the tries of every row that searches, once: as a study has it that stops none."""
    found: dict[tuple[TryId, ...], list[Try]] = {}
    for plan in plans:
        for row in (*plan.rows, *plan.references):
            tries = {each.id: each for each in reversed(row.tries)}
            inside = [each for each in row.tries if tries[each.id] is each]
            # a field that does not concern the row leaves one try, and nothing to search
            if len(inside) < 2:
                continue
            key = tuple(each.id for each in inside)
            trials = (trial for each in inside for trial in each.trials.values())
            if key not in found or not any(p.search for trial in trials for p in trial.phases):
                found[key] = inside
    return list(found.values())


def _owners(plans: Sequence[Plan]) -> dict[str, TryId | None]:
    """Return each phase's try; None where the phase is wanted by several, or without one."""
    owners: dict[str, TryId | None] = {}
    for plan in plans:
        for row in (*plan.rows, *plan.references):
            searches = len({each.id for each in row.tries}) > 1
            for each in row.tries:
                owner = each.id if searches else None
                for identity in (i for ids in each.id for i in ids):
                    if owners.setdefault(identity, owner) != owner:
                        owners[identity] = None
    return owners


def _split(
    todo: Iterable[Trial], owners: dict[str, TryId | None], names: dict[tuple[TryId, int], str]
) -> Iterator[Trial]:
    """Yield a trial as it is, or its pre-training, its shared rest, and a part for every try."""
    seen: set[str] = set()
    for trial in todo:
        # by whom its phases are wanted; references share some, which the first one's part has
        phases = [phase for phase in trial.phases if phase.identity not in seen]
        seen.update(phase.identity for phase in phases)
        by_owner: dict[TryId | None, list[Phase]] = {}
        for phase in phases:
            by_owner.setdefault(owners.setdefault(phase.identity, None), []).append(phase)
        if len(by_owner) == 1 and len(phases) == len(trial.phases):
            yield replace(trial, label=trial.name)
            continue

        # the pre-training goes first: the parts wait for it, on whatever lane they are
        needs = None
        if trial.source == "pretrain":
            needs = replace(trial, phases=trial.phases[:1])
            yield needs
            by_owner[owners[trial.id]].remove(trial.phases[0])
        for owner, mine in by_owner.items():
            if mine:
                name = names.get((owner, trial.seed), trial.name)
                yield replace(trial, label=name, phases=tuple(mine), needs=needs)


# looks of growing studies -------------------------------------------------------------------------

Told = tuple[str, int]
"""a study's name and how many of its looks are complete"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Phases that some studies ask for, by identity, as far as rows are decided."""

    now: frozenset[str]
    """phases of the look under way, and of the next one, which fills lanes that would wait"""
    later: frozenset[str] = frozenset()
    """phases of all looks that may still come"""
    lines: Mapping[Told, str] = field(default_factory=dict)
    """a line for each study: the decisions of its last complete look"""


def asked_of(trials: Iterable[Trial], identities: frozenset[str]) -> list[Trial]:
    """Return the trials with some of these phases, without their other evaluations."""
    found = ((t, tuple(p for p in t.phases if p.identity in identities)) for t in trials)
    return [replace(trial, phases=phases) for trial, phases in found if phases]


def order_trials(
    trials: Sequence[Trial], plans: Sequence[Plan], seconds: Mapping[str, float]
) -> list[Trial]:
    """Order trials seed by seed, the longest first in each round; what others need comes first.

    After the first round every row and every reference has a number: a provisional table, a broken
    level and a look come early. Short trials fill the gaps at the end of a round.

    Args:
        seconds: estimated, by identity of a phase; FLOPs decide where nothing is.
    """
    rounds: dict[str, int] = {}  # the earliest round in which a study takes a phase's seed
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
