"""Tries: a row's trials with each combination of the tuned values, and which may be stopped."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from mae_ablation.recipe.recipe import Recipe
from mae_ablation.store.folder import Store
from mae_ablation.study.identity import identity
from mae_ablation.study.study import Study
from mae_ablation.study.trial import Phase, Trial
from mae_ablation.study.tune import applied


@dataclass(frozen=True, kw_only=True, slots=True)
class Try:
    """A row with one combination of the tuned values; where nothing is tuned, the row itself."""

    values: tuple[tuple[str, Any], ...]
    """name and value of each tuned field"""
    trials: dict[int, Trial]
    """by seed, with the evaluations of this row only"""

    @property
    def some(self) -> Trial:
        """One of its trials: seeds differ in nothing else."""
        return next(iter(self.trials.values()))

    @property
    def id(self) -> tuple[tuple[str, ...], ...]:
        """Identities of all its phases: tries of the same are one."""
        return tuple(trial.result_id for trial in self.trials.values())


def combinations_of(
    study: Study, recipe: Recipe
) -> list[tuple[tuple[tuple[str, Any], ...], Recipe]]:
    """Return what is tuned of a recipe, by names, and the recipe with it; itself where nothing
    is."""
    if study.tune is None:
        return [((), recipe)]
    return [
        (tuple((study.tune.name_of(s.field), s.value) for s in values), applied(recipe, values))
        for values in study.tune.combinations
    ]


def words(values: Iterable[tuple[str, Any]], equals: str = " ") -> str:
    """Tuned values for people: "base_lr 0.1, weight_decay 0"."""
    return ", ".join(f"{name}{equals}{value}" for name, value in values)


def labelled(tries: list[Try]) -> list[Try]:
    """Return the tries with their values told by their trials, where these make a difference."""
    counts = Counter(each.id for each in tries)

    def told(each: Try) -> Try:
        tried = words(each.values) if counts[each.id] == 1 else ""
        trials = {seed: replace(trial, tried=tried) for seed, trial in each.trials.items()}
        return replace(each, trials=trials)

    return [told(each) for each in tries]


def searched(study: Study, tries: list[Try]) -> tuple[Try, ...]:
    """Return a row's tries; where a scheduler may stop some, their own phases say of which search.

    A phase that all tries share, such as their pre-training, is never stopped.
    """
    if study.tune is None or study.tune.scheduler == "none" or len({t.id for t in tries}) < 2:
        return tuple(tries)
    search = identity({"scheduler": study.tune.scheduler, "tries": [t.id for t in tries]})
    counts = Counter(i for t in {t.id: t for t in tries}.values() for ids in t.id for i in ids)

    def marked(trial: Trial) -> Trial:
        phases = (replace(p, search=search) if counts[p.identity] == 1 else p for p in trial.phases)
        return replace(trial, phases=tuple(phases))

    return tuple(
        replace(t, trials={seed: marked(trial) for seed, trial in t.trials.items()}) for t in tries
    )


def settled(phase: Phase, store: Store) -> bool:
    """Tell whether nothing is to be run of a phase."""
    folder = phase.folder(store)
    return folder.finished() or stopped(phase, store)


def stopped(phase: Phase, store: Store) -> bool:
    """Tell whether the search that a phase belongs to has stopped it."""
    return bool(phase.search) and stopped_by(phase, phase.folder(store).stopped())


def stopped_by(phase: Phase, record: dict | None) -> bool:
    """Tell whether a record of a stop is of the phase's search."""
    return bool(phase.search and record) and record.get("search") == phase.search
