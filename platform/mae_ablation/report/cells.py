"""The trials behind a table's cells: where a row has several tries, those of the chosen one."""

import pandas as pd

from mae_ablation.study.plan import Plan
from mae_ablation.study.trial import Trial


def trials_behind(plan: Plan, results: pd.DataFrame, metric: str, number: int) -> dict[int, Trial]:
    """By seed the trial whose value a row shows for a quantity; `number`: of the row in the plan.

    Until something is chosen it is the first try's; empty where the row has no such quantity.
    """
    tries = (*plan.rows, *plan.references)[number].tries
    mine = results[(results["metric"] == metric) & (results["row"] == number)]
    found = {}
    for seed, identity in mine[["seed", "trial_id"]].itertuples(index=False):
        tried = [each.trials[seed] for each in tries]
        shown = (t for t in tried if any(phase.identity == identity for phase in t.phases))
        found[seed] = next(shown, tried[0])
    return found
