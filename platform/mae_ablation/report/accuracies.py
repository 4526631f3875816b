"""Accuracies: what a row's trials reached, seed by seed; light enough for a plan."""

from collections.abc import Sequence
from typing import Any

from mae_ablation.report.choice import phases_behind
from mae_ablation.study.plan import Row, best
from mae_ablation.study.trial import Phase, Trial


def is_tested(row: Row, baseline: Row, column: str) -> bool:
    """Whether a row is compared with the baseline: references have some evaluations only, and what
    is the baseline's own training is no test."""
    mine, theirs = (
        [phase.identity for phase in each.tries[0].some.phases if phase.column == column]
        for each in (row, baseline)
    )
    return bool(mine) and mine != theirs


def accuracies(row: Row, column: str, seeds: Sequence[int], readings: Any) -> dict[int, float]:
    """Test accuracies of a row by seed, of those that are finished."""
    found = ((seed, shown(row.trials[seed], column, readings)) for seed in seeds)
    return {seed: pair[1]["test_acc1"] for seed, pair in found if pair is not None}


def shown(trial: Trial, column: str, readings: Any) -> tuple[Phase, dict] | None:
    """The evaluation of a trial that a table shows and its result, chosen on validation where
    several were tried; None while one of the phases behind it has no result."""
    phases = phases_behind(trial, column)
    results = [readings.of(phase) for phase in phases]
    if not all(results):
        return None
    return best([pair for pair in zip(phases, results, strict=True) if pair[0].column == column])
