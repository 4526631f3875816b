"""What comes of the store: reports, the pages above them, MLflow's last word."""

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mae_ablation.errors import Emptier, UserError
from mae_ablation.report.choice import edge_lines
from mae_ablation.report.readings import Readings
from mae_ablation.report.summary import ending
from mae_ablation.study.looks import asked_of
from mae_ablation.study.plan import Plan, missing, trials_of
from mae_ablation.study.suite import Suite

if TYPE_CHECKING:
    import pandas as pd


def conclude(
    console,
    plans: Sequence[Plan],
    tracker,
    reports: Path,
    began: float,
    suites: Sequence[Suite] = (),
) -> int:
    """Write the reports and say where everything lies; returns how many trials have no result, or
    how many reports could not be written."""
    plans[0].store.files.refresh()  # an object store's listing may be from before the last results
    files = show_reports(plans, tracker, reports, lambda error: console.print(str(error)))
    console.print(overviews(suites, plans, reports))
    console.print(looks_lines(plans), end="")
    asked, unfinished = count_asked(plans)
    for plan in plans:
        for line in edge_lines(plan, Readings(plan.store)):
            console.print(line)
    console.print(ending(asked, tracker, files, unfinished, time.monotonic() - began))
    return unfinished or len(plans) - len(files)


def count_asked(plans: Sequence[Plan]) -> tuple[int, int]:
    """How many trials are asked for by now, and how many of them have no result."""
    trials = trials_of(plans)
    if any(plan.study.grows for plan in plans):
        from mae_ablation.report.standing import Asking

        trials = asked_of(trials, Asking(plans)().now)
    left = missing(trials, plans[0].store)
    return len(trials), sum(trial.source != "prepare" for trial in left)


def looks_lines(plans: Sequence[Plan]) -> str:
    """What the looks of growing studies have decided, lines that end; "" where none grows."""
    growing = [plan for plan in plans if plan.study.grows]
    if not growing:
        return ""
    from mae_ablation.report.standing import standing

    return "".join(f"{line}\n" for plan in growing for line in standing(plan).summary())


def show_reports(
    plans: Sequence[Plan], tracker, reports: Path, say: Callable[[UserError], None]
) -> dict[str, list[Path]]:
    """Finish the tracker, write the reports, which link to its runs, and log them; returns each
    experiment's files. `say` hears of those that could not be written."""
    from mae_ablation.report.note import note
    from mae_ablation.report.report import write_report

    tracker.finish()
    files, notes = {}, {}
    for plan in plans:
        name = plan.study.experiment
        try:
            files[name] = write_report(plan, reports / name, runs=tracker.links(name))
            notes[name] = note(reports / name)
        except UserError as error:  # the others' and MLflow's part can still be done
            say(error)
    tracker.close(files, notes)
    return files


def overviews(suites: Sequence[Suite], plans: Sequence[Plan], reports: Path) -> str:
    """Write the pages above those of single studies; returns where they lie, or why they do not."""
    from mae_ablation.report.overviews import write_overviews

    try:
        return "pages: " + ", ".join(map(str, write_overviews(suites, plans, reports)))
    except UserError as error:
        return str(error)


def report_studies(
    plans: Sequence[Plan], suites: Sequence[Suite], reports: Path, *, source: str = "store"
) -> tuple[list[Path], list[str]]:
    """Write the reports of some plans again, and the pages above them.

    A study of which nothing is finished gets none, and none takes the place of a fuller one.

    Args:
        source: "store", or "mlflow": the tracking server's numbers instead of the store's.

    Returns all files, and a line for every study that lacks results, with the command that runs it.

    Raises:
        UserError: a file cannot be written, or MLflow does not answer or not know a study.
    """
    from mae_ablation.report.overviews import write_overviews
    from mae_ablation.report.report import write_report
    from mae_ablation.report.results import results_frame

    # every study's own report, where it has results and shows no fewer than the one that is there
    files, lacking, readings = [], [], {}
    for plan in plans:
        name, where = plan.study.experiment, _origin(source, plan)
        readings[name] = where.get("readings") or Readings(plan.store)
        asked = results_frame(plan, readings[name])
        finished = int((asked["status"] == "finished").sum())
        if finished < len(asked):
            lacking.append(
                f"{name}: {finished} of {len(asked)} results are there; the rest comes "
                f"with: {remedy(plan, asked)}"
            )
        try:
            if finished:
                files += write_report(plan, reports / name, **{**where, "readings": readings[name]})
        except Emptier as error:
            lacking.append(str(error))

    # the pages above them
    try:
        files += write_overviews(suites, plans, reports, readings=readings) if files else []
    except Emptier as error:
        lacking.append(str(error))
    return files, lacking


def remedy(plan: Plan, results: "pd.DataFrame") -> str:
    """The commands that give a study the results it lacks; damaged ones have to be mended first."""
    damaged = any("is damaged" in reason for reason in results["reason"].dropna())
    mend = f"python -m platform store verify --mend{_in_store(plan)}, then: " if damaged else ""
    return mend + command_again(plan)


def command_again(plan: Plan) -> str:
    """The command that runs what a study lacks, in its store."""
    from mae_ablation.report.method import run_command

    return run_command(plan) + _in_store(plan)


def _in_store(plan: Plan) -> str:
    """The flag that names a plan's store, if it is not the usual one."""
    return "" if plan.store.root == "store" else f" --store {shlex.quote(plan.store.root)}"


def _origin(source: str, plan: Plan) -> dict[str, object]:
    """Where a report's numbers come from, as arguments of `write_report`: "store" or "mlflow".

    Raises:
        UserError: MLflow does not answer, or does not know the study.
    """
    if source == "store":
        return {}
    from mae_ablation.tracking.reading import MlflowReadings

    readings = MlflowReadings(plan, Path.cwd())
    return {"readings": readings, "runs": readings.links()}
