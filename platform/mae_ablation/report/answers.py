"""Answers: what each test image was answered behind a table, its splits and its classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mae_ablation.report.cells import trials_behind
from mae_ablation.report.limits import Split, class_accuracies, split_variance
from mae_ablation.report.results import HOURS, LOSS
from mae_ablation.report.spread import paired_answers
from mae_ablation.store.predictions import Predictions
from mae_ablation.study.plan import Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Answers to the test images behind one quantity of a table, as far as they are kept."""

    rows: dict[int, dict[int, Predictions]]
    """by row of the plan and seed"""
    baseline: int

    def splits(self) -> dict[int, Split]:
        """Difference to the baseline by row, with its error from seeds and from test images; of
        rows that have both sides' answers to the same images."""
        found = {}
        for number, mine in self.rows.items():
            if number == self.baseline:
                continue
            correct = paired_answers(mine, self.rows.get(self.baseline, {}))
            if correct is not None:
                found[number] = split_variance(correct)
        return found

    def by_class(self, classes: int) -> dict[int, np.ndarray]:
        """Accuracy of each class in per cent by row, (classes,), over its seeds."""
        found = {}
        for number, mine in self.rows.items():
            seeds = [
                class_accuracies(each.predicted, each.label, classes) for each in mine.values()
            ]
            if seeds:
                found[number] = np.mean(seeds, axis=0)
        return found


def answers_of(plan: Plan, metric: str, results: pd.DataFrame, readings: Any) -> Answers:
    """The answers behind the finished results of one quantity.

    Args:
        readings: where they are read; None: nowhere.
    """
    baseline = next(number for number, row in enumerate(plan.rows) if row.is_baseline)
    mine = results[(results["metric"] == metric) & (results["status"] == "finished")]
    rows: dict[int, dict[int, Predictions]] = {}
    if readings is None or metric in (LOSS, HOURS):
        return Answers(rows=rows, baseline=baseline)
    for number, cells in mine.groupby("row"):
        trials = trials_behind(plan, results, metric, number)
        for seed, identity in cells[["seed", "trial_id"]].itertuples(index=False):
            phase = next(p for p in trials[seed].phases if p.identity == identity)
            if (answers := readings.answers(phase)) is not None:
                rows.setdefault(number, {})[seed] = answers
    return Answers(rows=rows, baseline=baseline)
