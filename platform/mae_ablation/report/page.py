"""A report's tables as text: captions, columns and cells, and the command that makes them again."""

import shlex
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from mae_ablation.recipe.recipe import Recipe
from mae_ablation.report.results import HOURS, LOSS
from mae_ablation.report.summary import counted
from mae_ablation.report.verdict import worded
from mae_ablation.study.plan import Plan

TITLES = {
    "linear_probe_acc1": "Linear probe",
    "knn_acc1": "k-NN",
    "finetune_acc1": "Fine-tuning",
    "partial_acc1": "Partial fine-tuning",
    LOSS: "Pre-training loss",
    HOURS: "Wall-clock of pre-training",
}

SHARES = {"kept": "kept_patches", "epochs": "epochs", "flops": "flops", "training": "training"}
"""columns that say nothing where all levels share a value, and of what"""

NOTHING = ("", "–")
SMALL = 0.001
"""p values below are given as "<0.001"."""


def table_lines(rows: pd.DataFrame) -> list[str]:
    """One Markdown table, the baseline in bold."""
    head, cells = table_cells(rows)
    titles = ["" if name == "note" else name for name in head]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(head)]
    for kind, line in zip(rows["kind"], cells, strict=True):
        bold = "**" if kind == "baseline" else ""
        texts = {**line, "level": f"{bold}{line['level']}{bold}"}
        lines.append("| " + " | ".join(in_cell(texts[name]) for name in head) + " |")
    return lines


def in_cell(text: str) -> str:
    """Text that stays in its cell of a Markdown table."""
    return text.replace("|", r"\|")


def table_cells(rows: pd.DataFrame) -> tuple[list[str], list[dict[str, str]]]:
    """Names of the columns that say something of one quantity's rows, and each row's texts by
    name."""
    hours = bool((rows["metric"] == HOURS).any())
    columns = timed if hours else compared
    records = rows.to_dict("records")
    cells = [
        {**told(row), **columns(row), "tuned": row.get("tuned", ""), "note": row["note"]}
        for row in records
    ]
    varied = {name: rows[column].dropna().nunique() > 1 for name, column in SHARES.items()}
    varied["training"] &= varied["epochs"] and varied["flops"]  # else one of them says it
    head = [
        name
        for name in cells[0]
        if varied.get(name, True) and any(line[name] not in NOTHING for line in cells)
    ]
    return head, cells


def told(row: Mapping) -> dict[str, str]:
    """The columns of a row that say what was trained."""
    seen = f", {row['features']} values" if there(row.get("features")) else ""
    return {
        "level": row["level"] + seen,
        "kept": number(row["kept_patches"], 0, ""),
        "epochs": number(row["epochs"], 0, ""),
        "flops": times(row["flops"]),
        "training": times(row["training"]),
    }


def compared(row: Mapping) -> dict[str, str]:
    """The columns of a row whose means are compared with the baseline's."""
    digits = digits_of(row["metric"])
    return {
        "mean": number(row["mean"], digits),
        "sd": number(row["sd"], digits),
        "seeds": f"{row['seeds']}/{row['seeds_asked']}",
        "vs baseline": signed(row["difference"], row["difference_sd"], digits),
        "95 %": bounds(row["low"], row["high"], digits),
        "bootstrap 95 %": bounds(row["boot_low"], row["boot_high"], digits),
        "p (Holm)": chance(row["p_holm"]),
        "95 % with images": bounds(row.get("both_low"), row.get("both_high"), digits),
        "decided": row.get("decided", ""),
        "paper": number(row["paper"], 1),
        "paper vs baseline": signed(row["paper_difference"], None, 1),
        "verdict": worded(row),
    }


def timed(row: Mapping) -> dict[str, str]:
    """The columns of a row of hours."""
    return {
        "hours": number(row["mean"], 4),
        "sd": number(row["sd"], 4),
        "seeds": f"{row['seeds']}/{row['seeds_asked']}",
        "speed-up": times(row["speedup"]),
        "paper": number(row["paper"], 1),
        "paper speed-up": times(row["paper_speedup"]),
    }


def caption(plan: Plan, results: pd.DataFrame) -> str:
    """Data, recipe, epochs, seeds and commit of a table, and what of the data was not taken."""
    study, recipes = plan.study, recipes_of(plan)
    data = ", ".join(dict.fromkeys(recipe.data.name for recipe in recipes))
    commits = ", ".join(sorted(set(results["commit"].dropna()))) or "none"
    changed = f" with {', '.join(study.changed)}" if study.changed else ""
    seeds = ", ".join(map(str, sorted(set(results["seed"]))))
    return (
        f"Data {data} ({span(r.data.image_size for r in recipes)} px), "
        f"recipe {study.recipe_name}{changed}, {span(r.pretrain.epochs for r in recipes)} "
        f"pre-training epochs, "
        f"seeds {seeds}, commit {commits}."
        + "".join(f" Not taken: {each}." for each in not_taken(plan))
    )


def recipes_of(plan: Plan) -> list[Recipe]:
    """The recipes of a table's rows: what is said of all of them is to hold for each."""
    return [row.recipe for row in plan.rows]


def span(numbers: Iterable[int]) -> str:
    """ "7", or "1 to 14" where they differ."""
    found = sorted(set(numbers))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def not_taken(plan: Plan) -> list[str]:
    """What lies in the folders of a study's images and no training takes; one text per folder."""
    return list(dict.fromkeys(trial.data.left_out for trial in plan.trials if trial.data.left_out))


def command(plan: Plan) -> str:
    """The command that makes this table; seeds that are not 0, 1, ... stand in the study."""
    study = plan.study
    words = ["python", "-m", "platform.run", str(study.path), "--recipe", study.recipe_name]
    for change in study.changed:
        words += ["--set", change]
    if study.asked_phases:
        words += ["--phases", ",".join(study.asked_phases)]
    if study.grows:
        words += study.seed_flags
    elif study.seeds == tuple(range(len(study.seeds))):
        words += ["--seeds", str(len(study.seeds))]
    return shlex.join(words)


def spent(plan: Plan, finished: Sequence[dict]) -> str:
    """Training time behind the table, each phase once, however many lanes shared it."""
    seconds = sum(result["seconds"] for result in finished)
    there = counted(len(finished), "finished training")
    trials = counted(len(plan.trials), "trial")
    return (
        f"the {there} of its {trials} took {seconds / 60:.0f} minutes, summed over the lanes, "
        f"evaluations included"
    )


def there(value: object) -> bool:
    return value is not None and not pd.isna(value)


def number(value: float | None, digits: int = 2, absent: str = "–") -> str:
    return f"{value:.{digits}f}" if there(value) else absent


def times(value: float | None) -> str:
    return f"{value:.2f}x" if there(value) else ""


def digits_of(metric: str) -> int:
    """Behind the point: accuracies are per cent, losses and hours small."""
    return 4 if metric in (LOSS, HOURS) else 2


def bounds(low: float | None, high: float | None, digits: int = 2) -> str:
    return f"[{low:+.{digits}f}, {high:+.{digits}f}]" if there(low) else "–"


def chance(p: float | None) -> str:
    """A p value."""
    return f"<{SMALL:g}" if there(p) and p < SMALL else number(p, 3)


def signed(value: float | None, spread: float | None, digits: int = 2) -> str:
    if not there(value):
        return "–"
    return f"{value:+.{digits}f}" + (f" ± {spread:.{digits}f}" if there(spread) else "")
