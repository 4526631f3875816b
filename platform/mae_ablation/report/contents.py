"""report.json: what a report is of, for the index, for comparisons and for the next report."""

from collections.abc import Sequence

import pandas as pd

from mae_ablation.report.novelty import RowKey, cells_of, saved
from mae_ablation.report.page import TITLES, command
from mae_ablation.report.results import metrics_of
from mae_ablation.report.verdict import headline
from mae_ablation.study.plan import Plan


def contents(
    plan: Plan,
    table: pd.DataFrame,
    results: pd.DataFrame,
    new: dict[RowKey, str],
    files: Sequence[str],
) -> dict:
    """Plain data, without a date: the same report is the same file."""
    study, metrics = plan.study, metrics_of(plan)
    headlines = {m: headline(table[table["metric"] == m]) for m in metrics}
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
        "image_size": study.baseline.data.image_size,
        "epochs": study.baseline.pretrain.epochs,
        "seeds": list(study.seeds),
        "phases": list(study.phases),
        "commits": sorted(set(results["commit"].dropna())),
        "metrics": metrics,
        "headlines": headlines,
        "headline": in_one(headlines),
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
