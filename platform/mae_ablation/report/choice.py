"""Choice: the tuned values that a row is shown with, chosen on validation alone.

The combination with the best mean validation accuracy over all of the study's seeds; of equals the
earlier. A row of which one try lacks one seed is not chosen from fewer: its search is not finished.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from mae_ablation.report.readings import phases_behind, shown_result
from mae_ablation.study.plan import Plan, Row, Try, format_tuned
from mae_ablation.study.values import are_numbers

SEARCH_UNFINISHED = "search not finished"
EDGE = "at the edge"  # marks a value beyond which nothing was tried


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The outcome of one row's search for one quantity."""

    best: Try  # the first try where nothing is searched, or the search is not finished
    tries: int = 1  # tries that differ for this quantity; 1 where nothing is searched
    stopped: int = 0  # tries that the search stopped early
    values: tuple[tuple[str, Any], ...] = ()  # values of the best try that make a difference
    edges: tuple[str, ...] = ()
    """Those beyond which nothing was tried: "base_lr 0.2 is the highest tried"."""
    unfinished: str = ""  # the reason why nothing is chosen

    def as_setting(self) -> str | None:
        """Format for trials.csv: "base_lr=0.1, 3 tries"; None where nothing is searched."""
        if self.tries < 2:
            return None
        return f"{format_tuned(self.values, '=')}, {self.tries} tries{self._stopped_early}"

    def as_cell(self) -> str:
        """Format for a table: "base_lr 0.1 (tuned, 3 tries each)"; "" where nothing is searched."""
        if self.tries < 2:
            return ""
        if self.unfinished:
            return f"{self.unfinished} ({self.tries} tries each)"
        edge = f"; {EDGE}: {', '.join(self.edges)}" if self.edges else ""
        early = f"{self.tries} tries each{self._stopped_early}{edge}"
        return f"{format_tuned(self.values)} (tuned, {early})"

    @property
    def _stopped_early(self) -> str:
        return f", {self.stopped} stopped early" if self.stopped else ""


def choose_try(plan: Plan, row: Row, column: str, readings: Any) -> Choice:
    """Choose a row's tuned values for one evaluation, or say why there are none yet."""
    # tries that are the same for this evaluation count once
    found: dict[tuple[str, ...], Try] = {}
    for each in row.tries:
        found.setdefault(_identities(each, column), each)
    tries = list(found.values())
    if len(tries) < 2 or not any(p.column == column for p in tries[0].some.phases):
        return Choice(best=row.tries[0])

    # a try that the search has stopped, and nobody has finished since, keeps no other from being
    # chosen; any other that lacks a seed does
    live = []
    for each in tries:
        phases = [p for trial in each.trials.values() for p in phases_behind(trial, column)]
        left = [phase for phase in phases if phase.search and not readings.read_result(phase)]
        if not any(map(readings.is_stopped, left)):
            live.append(each)
    shown = [
        [shown_result(trial, column, readings) for trial in each.trials.values()] for each in live
    ]
    counts = {"tries": len(tries), "stopped": len(tries) - len(live)}
    if not live or not all(map(all, shown)):
        trials = [trial for each in live for trial in each.trials.values()]
        failures = ((t, readings.find_failure(phases_behind(t, column))) for t in trials)
        why = (f"{SEARCH_UNFINISHED}: {t.name}: {f['reason']}" for t, f in failures if f)
        return Choice(best=row.tries[0], unfinished=next(why, SEARCH_UNFINISHED), **counts)

    # the best mean validation accuracy over the seeds, and which of its values matter
    scores = [mean(result["validation_acc1"] for _, result in found) for found in shown]
    chosen = live[scores.index(max(scores))]
    values = _differing_values(row.tries, tries, chosen, column)
    return Choice(best=chosen, values=values, edges=_edges(values, tries), **counts)


def edge_lines(plan: Plan, readings: Any) -> list[str]:
    """Warn of choices at the edge of what was tried, a line for each evaluation and value."""
    lines = []
    for column in plan.study.columns if plan.study.tune else ():
        rows: dict[str, list[str]] = {}
        for row in (*plan.rows, *plan.references):
            for edge in choose_try(plan, row, column, readings).edges:
                rows.setdefault(edge, []).append(row.label)
        lines += [
            f"note: {column}: {edge}, and was chosen for {', '.join(labels)}: a better value may "
            f"lie beyond, add some to `tune` in {plan.study.path}"
            for edge, labels in rows.items()
        ]
    return lines


def _identities(each: Try, column: str) -> tuple[str, ...]:
    """Return the identities that an evaluation of a try rests on, over all seeds."""
    trials = each.trials.values()
    return tuple(p.identity for trial in trials for p in phases_behind(trial, column))


def _edges(values: Sequence[tuple[str, Any]], tries: Sequence[Try]) -> tuple[str, ...]:
    """Describe the chosen numbers that are the lowest or the highest tried."""
    found = []
    for name, value in values:
        tried = [dict(each.values)[name] for each in tries]
        if are_numbers(tried) and min(tried) < max(tried):
            ends = ((min(tried), "lowest"), (max(tried), "highest"))
            found += [f"{name} {value} is the {word} tried" for end, word in ends if value == end]
    return tuple(found)


def _differing_values(
    every: Sequence[Try], tries: Sequence[Try], chosen: Try, column: str
) -> tuple[tuple[str, Any], ...]:
    """Return the chosen try's values that make a difference: another value is another training."""
    found = []
    for i, pair in enumerate(chosen.values):
        by_training: dict[tuple[str, ...], set] = {}
        for each in every:
            by_training.setdefault(_identities(each, column), set()).add(each.values[i][1])
        matters = all(len(values) == 1 for values in by_training.values())
        if matters and len({each.values[i][1] for each in tries}) > 1:
            found.append(pair)
    return tuple(found)
