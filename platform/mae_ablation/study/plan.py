"""Plan: the trials of a study, each once, what of them is in the store, and what the rest costs."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mae_ablation.recipe.recipe import Data, Recipe
from mae_ablation.store.folder import Store
from mae_ablation.study.factors import Factor, Level
from mae_ablation.study.identity import identity
from mae_ablation.study.study import Study
from mae_ablation.study.trial import DataFacts, Phase, Trial, evaluations, make_trial, merge
from mae_ablation.study.tune import applied
from mae_ablation.study.values import format_value


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


REFERENCES = {"random": "random encoder", "pixels": "raw pixels", "scratch": "from scratch"}
"""Reference rows under every table: the evaluations without any pre-training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the table: a level, or a reference, and its trials for every seed."""

    label: str
    tries: tuple[Try, ...]
    factor: Factor | None = None
    level: Level | None = None
    """None: the baseline where no level equals it, or a reference"""
    is_baseline: bool = False
    same_as: str | None = None
    """label of an earlier row of the same factor that is the same training"""

    @property
    def trials(self) -> dict[int, Trial]:
        """By seed; where the study tunes, those of the first try."""
        return self.tries[0].trials

    @property
    def every_trial(self) -> list[Trial]:
        return [trial for each in self.tries for trial in each.trials.values()]

    @property
    def recipe(self) -> Recipe:
        return next(iter(self.trials.values())).recipe

    def with_seeds(self, seeds: Sequence[int]) -> "Row":
        """Return the row with the trials of some of its seeds."""
        tries = (replace(t, trials={seed: t.trials[seed] for seed in seeds}) for t in self.tries)
        return replace(self, tries=tuple(tries))

    def why_same(self) -> str:
        """Return why it is the same training, where rounding is the reason."""
        if self.factor.field != "pretrain.mask_ratio":
            return ""
        kept = self.level.recipe
        return f": both keep {kept.kept_patches} of {kept.patches} patches"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study needs. `rows` are in the study's order, `references` stand below them."""

    study: Study
    rows: tuple[Row, ...]
    references: tuple[Row, ...]
    store: Store
    data: DataFacts

    @cached_property
    def cells(self) -> list[Trial]:
        """Return what the table's cells show, each once: rows that differ in an evaluation are
        two."""
        rows = (*self.rows, *self.references)
        return list({t.result_id: t for row in rows for t in row.every_trial}.values())

    @cached_property
    def trials(self) -> list[Trial]:
        """Every trial once, with the evaluations of all rows, the longest first."""
        return joined(self.cells)

    @property
    def needed_phases(self) -> list[Phase]:
        """Every phase that the plan's results rest on, some of them several times."""
        return [p for t in self.trials for p in (*(t.needs.phases if t.needs else ()), *t.phases)]

    def missing(self) -> list[Trial]:
        """Trials with an unfinished phase, after what they need."""
        return missing(self.trials, self.store)

    def up_to(self, seeds: int) -> "Plan":
        """Return the plan of the study's first seeds."""
        kept = self.study.seeds[:seeds]
        return replace(
            self,
            study=replace(self.study, seeds=kept),
            rows=tuple(row.with_seeds(kept) for row in self.rows),
            references=tuple(row.with_seeds(kept) for row in self.references),
        )

    def chosen(self, trial: Trial, column: str) -> tuple[Phase, dict] | None:
        """Return the phase behind a cell and its result; None while one of its phases has none.

        Where several epochs were tried it is the one best on validation, the shortest of equals.
        """
        phases = [phase for phase in trial.phases if phase.column == column]
        results = [phase.folder(self.store).result() for phase in phases]
        if not phases or None in results:
            return None
        return best(list(zip(phases, results, strict=True)))

    def level_label(self, trial: Trial, factor: Factor) -> str:
        """Level of a factor that a trial has, in the study's words: its row's, or the baseline's.

        A stand-in says so.
        """
        names = self._level_names[factor.name]
        base = names.get(None) or format_value(_value(self.study.baseline, factor.field))
        return names.get(trial.result_id, base)

    def tuned(self, trial: Trial) -> tuple[tuple[str, Any], ...]:
        """Name and value of what is tuned and concerns the trial."""
        return self._tuned_values.get(trial.result_id, ())

    @cached_property
    def _tuned_values(self) -> dict[tuple[str, ...], tuple[tuple[str, Any], ...]]:
        """By a trial's result_id. A field whose values are one training does not concern it."""
        found: dict = {}
        for row in (*self.rows, *self.references):
            for each in row.tries:
                for trial in each.trials.values():
                    known = found.setdefault(trial.result_id, each.values)
                    same = tuple(pair for pair in known if pair in each.values)
                    found[trial.result_id] = same
        return found

    @cached_property
    def _level_names(self) -> dict[str, dict[tuple[str, ...] | None, str]]:
        """By factor and a trial's result_id the level's name; the baseline's under None."""
        found: dict = {factor.name: {} for factor in self.study.factors}
        for row in self.rows:
            if row.level:
                names = found[row.factor.name]
                for trial in row.every_trial:
                    names.setdefault(trial.result_id, row.level.name)
                if row.is_baseline:
                    names.setdefault(None, row.level.name)
        return found


def best(tried: list[tuple[Phase, dict]]) -> tuple[Phase, dict]:
    """Of phases with their results the one best on validation, the shortest of equals."""
    if len(tried) == 1:
        return tried[0]
    return max(tried, key=lambda pair: (pair[1]["validation_acc1"], -pair[1].get("epochs", 0)))


def _value(recipe: Recipe, field: str | None) -> Any:
    if field is None or field.endswith(".preset"):
        return "baseline"
    section, name = field.split(".")
    return getattr(getattr(recipe, section), name)


def trials_of(plans: Sequence[Plan]) -> list[Trial]:
    """Trials of some studies, each once, labelled with its study where they are several."""

    def cells() -> Iterable[Trial]:
        for plan in plans:
            name = f"{plan.study.name} " if len(plans) > 1 else ""
            yield from (replace(cell, label=name + cell.label) for cell in plan.cells)

    return joined(cells())


def joined(cells: Iterable[Trial]) -> list[Trial]:
    """Trials of one plan or of many, each once with all its evaluations, the longest first.

    Short ones fill the gaps at the end.
    """
    merged: dict[str, Trial] = {}
    for cell in cells:
        merged[cell.id] = merge(merged[cell.id], cell) if cell.id in merged else cell
    return sorted(merged.values(), key=lambda trial: -trial.flops)


def unfinished(trial: Trial, store: Store) -> list[Phase]:
    """Phases of a trial that have no result in the store, and were not stopped by their search."""
    return [phase for phase in trial.phases if not settled(phase, store)]


def missing(trials: Iterable[Trial], store: Store) -> list[Trial]:
    """Trials with an unfinished phase, and first what their pre-trainings need."""
    return [trial for trial, _ in open_phases(trials, store)]


def open_phases(trials: Iterable[Trial], store: Store) -> list[tuple[Trial, list[Phase]]]:
    """Return the missing trials with their unfinished phases. The store is asked once for each
    phase."""
    wanted = [(trial, unfinished(trial, store)) for trial in trials]
    wanted = [(trial, phases) for trial, phases in wanted if phases]
    first = {
        trial.needs.id: trial.needs
        for trial, phases in wanted
        if trial.needs and phases[0].kind == "pretrain"
    }
    needed = [(trial, unfinished(trial, store)) for trial in first.values()]
    waiting = [
        (trial if phases[0].kind == "pretrain" else replace(trial, needs=None), phases)
        for trial, phases in wanted
    ]
    return [(trial, phases) for trial, phases in needed if phases] + waiting


def make_plan(study: Study, store: Store, facts_of: Callable[[Data], DataFacts]) -> Plan:
    """Expand a study into rows and trials. Equal trainings become one trial."""
    data = facts_of(study.baseline.data)
    known: dict[str, Trial] = {}

    def once(trial: Trial) -> Trial:
        return known.setdefault(trial.result_id, trial)

    def tries(recipe: Recipe, source: str, label: str) -> tuple[Try, ...]:
        facts = facts_of(recipe.data)
        found = []
        for values, tuned in combinations_of(study, recipe):
            made = [make_trial(study, tuned, seed, source, label, facts) for seed in study.seeds]
            found.append(Try(values=values, trials={trial.seed: trial for trial in made}))
        return tuple(
            replace(each, trials={s: once(trial) for s, trial in each.trials.items()})
            for each in searched(study, labelled(found))
        )

    levels = [
        (factor, level, tries(level.recipe, "pretrain", label_of(factor, level)))
        for factor in study.factors
        for level in factor.levels
    ]
    baseline = tries(study.baseline, "pretrain", "baseline")
    rows: list[Row] = []
    first: dict[tuple, str] = {}  # label of the first level of a factor that is this training
    for factor, level, mine in levels:
        training = (factor.name, *(each.id for each in mine))
        rows.append(
            Row(
                label=level.label,
                factor=factor,
                level=level,
                is_baseline=mine == baseline,
                same_as=first.get(training),
                tries=mine,
            )
        )
        first.setdefault(training, level.label)
    if not any(row.is_baseline for row in rows):
        rows.insert(0, Row(label="baseline", is_baseline=True, tries=baseline))
    references = tuple(
        Row(label=label, tries=tries(study.baseline, source, label))
        for source, label in REFERENCES.items()
        if evaluations(study, source)
    )
    return Plan(study=study, rows=tuple(rows), references=references, store=store, data=data)


def label_of(factor: Factor, level: Level) -> str:
    """Return what a trial is called; a combination of factors names them itself."""
    return level.label if level.coordinates else f"{factor.name}={level.label}"
