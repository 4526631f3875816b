"""Choice: the tuned values that a row is shown with, chosen on validation alone.

The combination with the best mean validation accuracy over all of the study's seeds; of equals the
earlier. A row of which one try lacks one seed is not chosen from fewer: its search is not finished.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from mae_ablation.study.plan import Plan, Row, best
from mae_ablation.study.trial import Phase, Trial
from mae_ablation.study.tries import Try, words

UNFINISHED = "search not finished"
EDGE = "at the edge"
"""marks a value beyond which nothing was tried"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What became of the search of one row for one quantity."""

    best: Try
    """the first try where nothing is searched, or the search is not finished"""
    tries: int = 1
    """tries that differ for this quantity; 1: nothing is searched"""
    stopped: int = 0
    """of them, stopped early by the search"""
    values: tuple[tuple[str, Any], ...] = ()
    """of the best try, those that make a difference"""
    edges: tuple[str, ...] = ()
    """of `values`, those beyond which nothing was tried: "base_lr 0.2 is the highest tried" """
    unfinished: str = ""
    """why nothing is chosen"""

    @property
    def words(self) -> str | None:
        """ "base_lr=0.1, 3 tries"; None where nothing is searched."""
        if self.tries < 2:
            return None
        early = f", {self.stopped} stopped early" if self.stopped else ""
        return f"{words(self.values, '=')}, {self.tries} tries{early}"

    @property
    def told(self) -> str:
        """ "base_lr 0.1 (tuned, 3 tries each)", as a table has it; "" where nothing is searched.

        A value at the edge of what was tried says so.
        """
        if self.tries < 2:
            return ""
        if self.unfinished:
            return f"{self.unfinished} ({self.tries} tries each)"
        early = f", {self.stopped} stopped early" if self.stopped else ""
        edge = f"; {EDGE}: {', '.join(self.edges)}" if self.edges else ""
        return f"{words(self.values)} (tuned, {self.tries} tries each{early}{edge})"


def phases_behind(trial: Trial, column: str) -> list[Phase]:
    """Phases that have to be finished for a value, pre-training first."""
    return [p for p in trial.phases if p.kind == "pretrain" or p.column == column]


def choose(plan: Plan, row: Row, column: str, readings: Any) -> Choice:
    """The tuned values of a row for one evaluation, or why there are none yet.

    `readings`: as `results_frame` takes them.
    """
    tries = different(row.tries, column)
    if len(tries) < 2 or not any(p.column == column for p in tries[0].some.phases):
        return Choice(best=row.tries[0])
    live = [each for each in tries if not is_stopped(each, column, readings)]
    scores = [score(each, column, readings) for each in live]
    counts = {"tries": len(tries), "stopped": len(tries) - len(live)}
    if not live or None in scores:
        return Choice(
            best=row.tries[0], unfinished=why_unfinished(live, column, readings), **counts
        )
    chosen = max(zip(scores, reversed(range(len(live))), live, strict=True), key=lambda s: s[:2])[2]
    values = differing(row.tries, tries, chosen, column)
    return Choice(best=chosen, values=values, edges=edges_of(values, tries), **counts)


def edges_of(values: Sequence[tuple[str, Any]], tries: Sequence[Try]) -> tuple[str, ...]:
    """The numbers among the chosen values that are the lowest or the highest tried."""
    found = []
    for name, value in values:
        tried = [dict(each.values)[name] for each in tries]
        if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in tried):
            continue
        for end, word in ((min(tried), "lowest"), (max(tried), "highest")):
            if value == end and min(tried) < max(tried):
                found.append(f"{name} {value} is the {word} tried")
    return tuple(found)


def edge_lines(plan: Plan, readings: Any) -> list[str]:
    """What a plan and a run say of choices at the edge of what was tried, by evaluation.

    `readings`: as `results_frame` takes them.
    """
    if plan.study.tune is None:
        return []
    lines = []
    for column in plan.study.columns:
        rows: dict[str, list[str]] = {}
        for row in (*plan.rows, *plan.references):
            for edge in choose(plan, row, column, readings).edges:
                rows.setdefault(edge, []).append(row.label)
        lines += [
            f"note: {column}: {edge}, and was chosen for {', '.join(labels)}: a better value may "
            f"lie beyond, add some to `tune` in {plan.study.path}"
            for edge, labels in rows.items()
        ]
    return lines


def different(tries: Sequence[Try], column: str) -> list[Try]:
    """The first of the tries that are the same for an evaluation, in their order."""
    found: dict[tuple[str, ...], Try] = {}
    for each in tries:
        found.setdefault(behind(each, column), each)
    return list(found.values())


def behind(each: Try, column: str) -> tuple[str, ...]:
    """Identities of what an evaluation of a try rests on, over all seeds."""
    trials = each.trials.values()
    return tuple(p.identity for trial in trials for p in phases_behind(trial, column))


def is_stopped(each: Try, column: str, readings: Any) -> bool:
    """Whether the search has stopped a try, and nobody has finished it since."""
    phases = [p for trial in each.trials.values() for p in phases_behind(trial, column)]
    open_phases = [phase for phase in phases if phase.search and not readings.of(phase)]
    return any(map(readings.stopped, open_phases))


def score(each: Try, column: str, readings: Any) -> float | None:
    """Mean validation accuracy over the seeds; None while one of them lacks a result."""
    found = []
    for trial in each.trials.values():
        phases = phases_behind(trial, column)
        results = [readings.of(phase) for phase in phases]
        if not all(results):
            return None
        pairs = [pair for pair in zip(phases, results, strict=True) if pair[0].column == column]
        found.append(best(pairs)[1]["validation_acc1"])
    return mean(found)


def why_unfinished(live: Sequence[Try], column: str, readings: Any) -> str:
    """That the search is not finished, and the first failure if that is the reason."""
    for each in live:
        for trial in each.trials.values():
            if failure := readings.failure(phases_behind(trial, column)):
                return f"{UNFINISHED}: {trial.name}: {failure['reason']}"
    return UNFINISHED


def differing(
    every: Sequence[Try], tries: Sequence[Try], chosen: Try, column: str
) -> tuple[tuple[str, Any], ...]:
    """The chosen try's values that make a difference to an evaluation: another value of the others
    is no other training, or there is no other."""

    def matters(i: int) -> bool:
        same: dict[tuple[str, ...], set] = {}
        for each in every:
            same.setdefault(behind(each, column), set()).add(each.values[i][1])
        return all(len(values) == 1 for values in same.values())

    varied = [len({each.values[i][1] for each in tries}) > 1 for i in range(len(chosen.values))]
    return tuple(pair for i, pair in enumerate(chosen.values) if varied[i] and matters(i))
