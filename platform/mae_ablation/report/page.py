"""The report's page in Markdown: caption, tables, how it was measured, how to make it again."""

import shlex
from collections.abc import Mapping, Sequence

import pandas as pd

from mae_ablation.report.measured import measured, where
from mae_ablation.report.paired import RESAMPLES
from mae_ablation.report.results import HOURS, LOSS, metrics_of
from mae_ablation.report.statistics import findings
from mae_ablation.report.verdict import RULE, headline, worded
from mae_ablation.study.plan import Plan
from mae_ablation.summary import counted

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


def markdown(
    plan: Plan, table: pd.DataFrame, results: pd.DataFrame, finished: Sequence[dict]
) -> str:
    """The page of a study. `finished`: the result of every training behind it, each once."""
    study = plan.study
    lines = [f"# {study.title}", "", caption(plan, results), ""]
    for metric in metrics_of(plan):
        rows = table[table["metric"] == metric]
        lines += [f"**{TITLES[metric]}.** {headline(rows)}".rstrip(), ""]
        lines += [*table_lines(rows), ""]
        if found := findings(plan, metric, results, table):
            lines += [*(f"- {sentence}" for sentence in found), ""]
        lines += [measured(plan, metric), ""]
        if metric == HOURS:
            lines += [where(rows), ""]
    lines += [columns_explained(plan, table), ""]
    for factor in study.factors:
        if factor.left_out:
            left = ", ".join(factor.left_out)
            lines += [f"Levels of the paper without a counterpart at this scale: {left}.", ""]
    if study.skipped:
        skipped = ", ".join(study.skipped)
        lines += [f"Not run, left out by {study.skipped_by}: {skipped}.", ""]
    if again := sum(result.get("attempts", 1) > 1 for result in finished):
        lines += [f"{counted(again, 'training')} needed more than one attempt.", ""]
    lines += [f"![{study.title}](figure.png)", ""]
    lines += [f"Made by `{command(plan)}`; {spent(plan, finished)}."]
    return "\n".join(lines) + "\n"


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
    return {
        "level": row["level"],
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
    """Data, recipe, epochs, seeds and commit of a table, in one line."""
    study, recipe = plan.study, plan.study.baseline
    commits = ", ".join(sorted(set(results["commit"].dropna()))) or "none"
    changed = f" with {', '.join(study.changed)}" if study.changed else ""
    seeds = ", ".join(map(str, study.seeds))
    return (
        f"Data {recipe.data.name} ({recipe.data.image_size} px), "
        f"recipe {study.recipe_name}{changed}, {recipe.pretrain.epochs} pre-training epochs, "
        f"seeds {seeds}, commit {commits}."
    )


def columns_explained(plan: Plan, table: pd.DataFrame) -> str:
    """What the other columns mean, and what chose nothing."""
    recipe = plan.study.baseline
    words = [
        f"*sd*: over *seeds* (finished/asked for); {comparison_explained(table)}*kept*: "
        f"patches that stay visible, of {recipe.patches}. *paper*: ViT-L/16 on ImageNet-1K, 800 "
        f"epochs unless the schedule is the factor; compare shapes, not heights. "
        f"{recipe.data.validation_images:,} training images are held out for choices; the test "
        "split chooses nothing."
    ]
    if table["flops"].dropna().nunique() > 1:
        words.append(
            "*flops*: executed for one pre-training image, over the baseline's, by arithmetic."
        )
    if plan.study.budget == "flops":
        words.append(
            "Levels are compared at equal FLOPs: within 2 %, or the note says how many; each has "
            "a schedule of its own, whose epochs may be shorter by some steps. *training*: FLOPs "
            "of the whole pre-training over the baseline's. The paper compares at equal epochs."
        )
    if any(level.here for factor in plan.study.factors for level in factor.levels):
        words.append("*(here ...)*: the paper's level, and what it is at this recipe's scale.")
    if (table["verdict"] != "").any():
        words.append(RULE)
    return " ".join(words)


def comparison_explained(table: pd.DataFrame) -> str:
    """What the columns of a comparison with the baseline mean, of those there are."""
    table, words = table[table["metric"] != HOURS], ""
    if table["difference"].notna().any():
        words = "*vs baseline*: mean of the differences paired by seed, ± their sd"
    if table["low"].notna().any():
        words += ", with the 95 % t interval of that mean, not corrected"
    if table["boot_low"].notna().any():
        words += (
            f", and a bootstrap interval (BCa, {RESAMPLES} resamples; of few seeds too narrow, it "
            f"decides nothing)"
        )
    if table["p_holm"].notna().any():
        tests = ", ".join(str(n) for n in table.groupby("metric", sort=False)["p"].count() if n)
        words += f"; *p (Holm)*: of the two-sided t test, corrected for the table's {tests} tests"
    return f"{words}; " if words else ""


def command(plan: Plan) -> str:
    """The command that makes this table; seeds that are not 0, 1, ... stand in the study."""
    study = plan.study
    words = ["python", "-m", "platform.run", str(study.path), "--recipe", study.recipe_name]
    for change in study.changed:
        words += ["--set", change]
    if study.asked_phases:
        words += ["--phases", ",".join(study.asked_phases)]
    if study.seeds == tuple(range(len(study.seeds))):
        words += ["--seeds", str(len(study.seeds))]
    return shlex.join(words)


def spent(plan: Plan, finished: Sequence[dict]) -> str:
    """Training time behind the table, each phase once, however many lanes shared it."""
    seconds = sum(result["seconds"] for result in finished)
    trials = counted(len(plan.trials), "trial")
    return f"its {trials} took {seconds / 60:.0f} minutes of training, summed over the lanes"


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
