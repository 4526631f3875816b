"""report.json: what a report is of, for the index, for comparisons and for the next report."""

from collections.abc import Sequence

import pandas as pd

from mae_ablation.report.headline import cautions, preamble, table_headlines
from mae_ablation.report.novelty import RowKey, cells_of, saved
from mae_ablation.report.page import TITLES, command, not_taken
from mae_ablation.report.results import metrics_of
from mae_ablation.study.plan import Plan


def contents(
    plan: Plan,
    table: pd.DataFrame,
    results: pd.DataFrame,
    new: dict[RowKey, str],
    files: Sequence[str],
    *,
    declared: dict | None = None,
    descriptive: str = "",
) -> dict:
    """Plain data, without a date: the same report is the same file.

    Args:
        declared: what the store says was declared of the study; None: nothing.
        descriptive: that its tables are descriptive only, and why, or "".
    """
    study, said = plan.study, table_headlines(plan, table, results)
    first = preamble(plan, descriptive)
    return {
        "kind": "study",
        "title": study.title,
        "study": study.name,
        "experiment": study.experiment,
        "paper": study.paper,
        "recipe": study.recipe_name,
        "changed": list(study.changed),
        "data": study.baseline.data.name,
        "fingerprint": plan.data.fingerprint,
        "not_taken": not_taken(plan),
        "image_size": study.baseline.data.image_size,
        "epochs": study.baseline.pretrain.epochs,
        "seeds": list(study.seeds),
        "looks": list(study.declared.looks),
        "declared": declared,
        "descriptive": descriptive,
        "phases": list(study.phases),
        "commits": sorted(set(results["commit"].dropna())),
        "metrics": metrics_of(plan),
        "headlines": said,
        "cautions": {metric: cautions(plan, metric, table, results) for metric in said},
        "preamble": first,
        "headline": " ".join(filter(None, [first, in_one(said)])),
        "trials": len(plan.trials),
        "finished": int((results["status"] == "finished").sum()),
        "asked": len(results),
        "command": command(plan),
        "files": list(files),
        **saved(cells_of(results), new),
    }


def in_one(headlines: dict[str, str]) -> str:
    """The sentences of all quantities, named where they are several."""
    said = {metric: sentence for metric, sentence in headlines.items() if sentence}
    if len(said) < 2:
        return next(iter(said.values()), "")
    return " ".join(f"{TITLES[metric]}: {sentence}" for metric, sentence in said.items())
