"""Sentences about a table, wherever they are printed."""

import pandas as pd

from mae_ablation.report.verdict import headline
from mae_ablation.study.plan import Plan


def headline_of(plan: Plan, rows: pd.DataFrame) -> str:
    """All verdicts of one quantity's rows in one sentence; "" where there are none."""
    return headline(list(rows["verdict"]), len(plan.study.seeds))


def findings_of(plan: Plan, metric: str, results: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """What else follows from one quantity's numbers."""
    return []
