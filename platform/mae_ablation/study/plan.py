"""Plan: the trials of a study, each once, and what of them is in the store."""

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

REFERENCES = {"random": "random encoder", "pixels": "raw pixels", "scratch": "from scratch"}
"""Reference rows under every table: the evaluations without any pre-training."""
Tuned = tuple[tuple[str, Any], ...]
"""name and value of each tuned field"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Try:
    """A row with one combination of the tuned values; where nothing is tuned, the row itself."""

    values: Tuned
    trials: dict[int, Trial]
    """a trial for each seed, with the evaluations of this row only"""

    @property
    def some(self) -> Trial:
        """One of its trials: seeds differ in nothing else."""
        return next(iter(self.trials.values()))

    @property
    def id(self) -> tuple[tuple[str, ...], ...]:
        """Identities of all its phases: tries of the same are one."""
        return tuple(trial.result_id for trial in self.trials.values())


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
        """Trials by seed; where the study tunes, those of the first try."""
        return self.tries[0].trials

    @property
    def every_trial(self) -> list[Trial]:
        return [trial for each in self.tries for trial in each.trials.values()]

    @property
    def recipe(self) -> Recipe:
        return self.tries[0].some.recipe

    def why_same(self) -> str:
        """Return why it is the same training, where rounding is the reason."""
        if self.factor.field != "pretrain.mask_ratio":
            return ""
        kept = self.level.recipe
        return f": both keep {kept.kept_patches} of {kept.patches} patches"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The trials that a study needs: its levels' in `rows`, and `references` below them."""

    study: Study
    rows: tuple[Row, ...]
    references: tuple[Row, ...]
    store: Store
    data: DataFacts

    @cached_property
    def cells(self) -> list[Trial]:
        """Return each trial that a cell shows once: rows that differ in an evaluation are two."""
        rows = (*self.rows, *self.references)
        return list({t.result_id: t for row in rows for t in row.every_trial}.values())

    @cached_property
    def trials(self) -> list[Trial]:
        """Every trial once, with the evaluations of all rows, the longest first."""
        return _merged(self.cells)

    @property
    def needed_phases(self) -> list[Phase]:
        """Every phase that the plan's results rest on, some of them several times."""
        return [p for t in self.trials for p in (*(t.needs.phases if t.needs else ()), *t.phases)]

    def missing(self) -> list[Trial]:
        """Return the trials with an unfinished phase, after what they need."""
        return missing(self.trials, self.store)

    def up_to(self, seeds: int) -> "Plan":
        """Return the plan of the study's first seeds."""
        # looks have their seeds in this order, so a plan of fewer is a part of the whole
        kept = self.study.seeds[:seeds]

        def cut(row: Row) -> Row:
            tries = (replace(t, trials={seed: t.trials[seed] for seed in kept}) for t in row.tries)
            return replace(row, tries=tuple(tries))

        return replace(
            self,
            study=replace(self.study, seeds=kept),
            rows=tuple(map(cut, self.rows)),
            references=tuple(map(cut, self.references)),
        )

    def level_label(self, trial: Trial, factor: Factor) -> str:
        """Return the level of a factor that a trial has: its row's, or the baseline's."""
        # a trial that no level of the factor has is the baseline in it
        names = self._level_names[factor.name]
        if (name := names.get(trial.result_id) or names.get(None)) is not None:
            return name
        if factor.field is None or factor.field.endswith(".preset"):
            return "baseline"
        section, name = factor.field.split(".")
        return format_value(getattr(getattr(self.study.baseline, section), name))

    def tuned(self, trial: Trial) -> Tuned:
        """Return name and value of what is tuned and concerns the trial."""
        return self._tuned_values.get(trial.result_id, ())

    @cached_property
    def _tuned_values(self) -> dict[tuple[str, ...], Tuned]:
        """Tuned values by result_id, without fields whose values are one training to the trial."""
        found: dict[tuple[str, ...], Tuned] = {}
        for row in (*self.rows, *self.references):
            for each in row.tries:
                for result_id in each.id:
                    known = found.get(result_id, each.values)
                    found[result_id] = tuple(pair for pair in known if pair in each.values)
        return found

    @cached_property
    def _level_names(self) -> dict[str, dict[tuple[str, ...] | None, str]]:
        """Names of levels, by factor and a trial's result_id; the baseline's is under None."""
        found: dict = {factor.name: {} for factor in self.study.factors}
        for row in self.rows:
            if row.level:
                names = found[row.factor.name]
                for result_id in (t.result_id for t in row.every_trial):
                    names.setdefault(result_id, row.level.name)
                if row.is_baseline:
                    names.setdefault(None, row.level.name)
        return found


def make_plan(study: Study, store: Store, facts_of: Callable[[Data], DataFacts]) -> Plan:
    """Expand a study into rows and trials. Equal trainings become one trial."""
    known: dict[tuple[str, ...], Trial] = {}

    def tries(recipe: Recipe, source: str, label: str) -> tuple[Try, ...]:
        facts = facts_of(recipe.data)
        found = []
        for values, tuned in _tuned_recipes(study, recipe):
            made = [make_trial(study, tuned, seed, source, label, facts) for seed in study.seeds]
            found.append(Try(values=values, trials={trial.seed: trial for trial in made}))
        # of equal trials the first one stands for all, so that they are the same object
        return tuple(
            replace(t, trials={s: known.setdefault(x.result_id, x) for s, x in t.trials.items()})
            for t in _marked(study, found)
        )

    # levels before the baseline: an equal one gives its trials their label
    levels = [
        (factor, level, tries(level.recipe, "pretrain", _label(factor, level)))
        for factor in study.factors
        for level in factor.levels
    ]
    baseline = tries(study.baseline, "pretrain", "baseline")

    # rows in the study's order; the baseline is one of its own where no level equals it
    rows: list[Row] = []
    first: dict[tuple, str] = {}  # label of the first level of a factor that is this training
    for factor, level, mine in levels:
        training = (factor.name, *(each.id for each in mine))
        row = Row(label=level.label, factor=factor, level=level, tries=mine)
        same = first.get(training)
        rows.append(replace(row, is_baseline=mine == baseline, same_as=same))
        first.setdefault(training, level.label)
    if not any(row.is_baseline for row in rows):
        rows.insert(0, Row(label="baseline", is_baseline=True, tries=baseline))
    references = tuple(
        Row(label=label, tries=tries(study.baseline, source, label))
        for source, label in REFERENCES.items()
        if evaluations(study, source)
    )
    data = facts_of(study.baseline.data)
    return Plan(study=study, rows=tuple(rows), references=references, store=store, data=data)


def _label(factor: Factor, level: Level) -> str:
    """Return what a trial is called; a combination of factors names them itself."""
    return level.label if level.coordinates else f"{factor.name}={level.label}"


def _tuned_recipes(study: Study, recipe: Recipe) -> list[tuple[Tuned, Recipe]]:
    """Return each combination of tuned values and the recipe with it."""
    if study.tune is None:
        return [((), recipe)]
    return [
        (tuple((study.tune.name_of(s.field), s.value) for s in values), applied(recipe, values))
        for values in study.tune.combinations
    ]


def _marked(study: Study, tries: list[Try]) -> list[Try]:
    """Return a row's tries, whose trials tell their values, and phases the search they are of."""
    # tries that are one training, as to a row that the tuned field does not concern, tell nothing
    counts = Counter(each.id for each in tries)
    if len(counts) < 2:
        return tries
    # a search is known by its tries, so that another one does not go by what this has stopped; a
    # phase that all tries share, such as their pre-training, is never stopped
    search = ""
    if study.tune.scheduler != "none":
        search = identity({"scheduler": study.tune.scheduler, "tries": [t.id for t in tries]})
    uses = Counter(phase for each in counts for trial in each for phase in trial)

    def mark(trial: Trial, tried: str) -> Trial:
        phases = (replace(p, search=search) if uses[p.identity] == 1 else p for p in trial.phases)
        return replace(trial, tried=tried, phases=tuple(phases))

    marked = []
    for each in tries:
        tried = format_tuned(each.values) if counts[each.id] == 1 else ""
        trials = {seed: mark(trial, tried) for seed, trial in each.trials.items()}
        marked.append(replace(each, trials=trials))
    return marked


def format_tuned(values: Tuned, equals: str = " ") -> str:
    """Write tuned values for people: "base_lr 0.1, weight_decay 0"."""
    return ", ".join(f"{name}{equals}{value}" for name, value in values)


# trials of several plans --------------------------------------------------------------------------


def trials_of(plans: Sequence[Plan]) -> list[Trial]:
    """Return the trials of some studies, each once, the longest first.

    Short ones fill the gaps at the end.
    """
    # several studies share trials: each is run once, with what all of them want of it
    if len(plans) == 1:
        return plans[0].trials
    cells = ((plan.study.name, cell) for plan in plans for cell in plan.cells)
    return _merged(replace(cell, label=f"{name} {cell.label}") for name, cell in cells)


def _merged(cells: Iterable[Trial]) -> list[Trial]:
    """Return each trial once with all its evaluations, the longest first."""
    merged: dict[str, Trial] = {}
    for cell in cells:
        merged[cell.id] = merge(merged[cell.id], cell) if cell.id in merged else cell
    return sorted(merged.values(), key=lambda trial: -trial.flops)


def missing(trials: Iterable[Trial], store: Store) -> list[Trial]:
    """Return the trials with an unfinished phase, and first what their pre-trainings need."""
    return [trial for trial, _ in open_phases(trials, store)]


def open_phases(trials: Iterable[Trial], store: Store) -> list[tuple[Trial, list[Phase]]]:
    """Return the missing trials with their unfinished phases; the store is asked once for each."""
    # a pre-training that is finished needs nothing more, however many evaluations are open
    wanted = [(trial, phases) for trial in trials if (phases := unfinished(trial, store))]
    needed: dict[str, Trial] = {}
    waiting: list[tuple[Trial, list[Phase]]] = []
    for trial, phases in wanted:
        if phases[0].kind != "pretrain":
            trial = replace(trial, needs=None)
        elif trial.needs:
            needed.setdefault(trial.needs.id, trial.needs)
        waiting.append((trial, phases))
    first = [(trial, phases) for trial in needed.values() if (phases := unfinished(trial, store))]
    return first + waiting


def unfinished(trial: Trial, store: Store) -> list[Phase]:
    """Return the phases of a trial that have no result and were not stopped by their search."""
    return [p for p in trial.phases if not (p.folder(store).finished() or is_stopped(p, store))]


def is_stopped(phase: Phase, store: Store) -> bool:
    """Tell whether the search that a phase belongs to has stopped it."""
    return bool(phase.search) and is_stopped_by(phase, phase.folder(store).stopped())


def is_stopped_by(phase: Phase, record: dict | None) -> bool:
    """Tell whether a record of a stop is of the phase's search."""
    return bool(phase.search and record) and record.get("search") == phase.search


def pick_best(tried: list[tuple[Phase, dict]]) -> tuple[Phase, dict]:
    """Return of phases with their results the one best on validation, the shortest of equals."""
    if len(tried) == 1:  # there is nothing to choose, nor a validation accuracy to choose by
        return tried[0]
    return max(tried, key=lambda pair: (pair[1]["validation_acc1"], -pair[1].get("epochs", 0)))
