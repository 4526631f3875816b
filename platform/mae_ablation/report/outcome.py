"""Ends a run: reports, the pages above them, MLflow's last points, and what is left to do."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mae_ablation.errors import Emptier, UserError
from mae_ablation.report.choice import edge_lines
from mae_ablation.report.readings import Readings
from mae_ablation.report.summary import describe_end
from mae_ablation.run.session import Session
from mae_ablation.study.plan import Plan, missing, trials_of
from mae_ablation.study.trial import Trial
from mae_ablation.study.work import Asked, asked_of, order_trials


def conclude(session: Session, tracker, began: float, say: Callable[[str], None] = print) -> int:
    """Write the reports and MLflow's last points, and say where everything lies.

    Every run ends with this, whether its trials ran here or on a cluster.

    Args:
        began: moment of `time.monotonic` that the run counts from.

    Returns the number of trials that have no result, or of reports that could not be written.
    """
    from mae_ablation.report.markdown import write_note
    from mae_ablation.report.overviews import write_overviews
    from mae_ablation.report.report import write_report

    # an object store's listing may be from before the last results; read each of them once
    plans, reports = session.plans, session.request.reports
    session.store.files.refresh()
    readings = dict.fromkeys((p.study.experiment for p in plans), Readings(session.store))

    # the reports, which link to MLflow's runs, and go there as notes; where one cannot be written,
    # the others' part can still be done
    tracker.finish()
    files, notes = {}, {}
    for plan in plans:
        name = plan.study.experiment
        runs = tracker.links(name)
        try:
            files[name] = write_report(plan, reports / name, readings=readings[name], runs=runs)
            notes[name] = write_note(reports / name)
        except UserError as error:
            say(str(error))
    tracker.close(files, notes)
    try:
        pages = write_overviews(session.suites, plans, reports, readings=readings)
        say("pages: " + ", ".join(map(str, pages)))
    except UserError as error:
        say(str(error))

    # what is decided, and what is left
    asked, unfinished = count_asked(plans)
    edges = [edge_lines(plan, readings[plan.study.experiment]) for plan in plans]
    for line in (*looks_lines(plans), *sum(edges, [])):
        say(line)
    say(describe_end(asked, tracker, files, unfinished, time.monotonic() - began))
    return unfinished or len(plans) - len(files)


def list_open_trials(
    plans: Sequence[Plan], seconds: Mapping[str, float] | None = None
) -> tuple[list[Trial], Callable[[frozenset[str]], Asked] | None]:
    """Return the missing trials in the order they are to be run.

    Where studies grow, also what says which of them are asked for by now; trials of rows that are
    decided are not among them.

    Args:
        seconds: estimated, by identity of a phase.
    """
    trials, store, ask = trials_of(plans), plans[0].store, None
    if any(plan.study.grows for plan in plans):
        from mae_ablation.report.standing import Asking

        ask = Asking(plans)
        asked = ask()
        trials = asked_of(trials, asked.now | asked.later)
    return order_trials(missing(trials, store), plans, seconds or {}), ask


def count_asked(plans: Sequence[Plan]) -> tuple[int, int]:
    """Count the trials that are asked for by now, and those of them that have no result."""
    trials = trials_of(plans)
    if any(plan.study.grows for plan in plans):
        from mae_ablation.report.standing import Asking

        asking = Asking(plans)
        trials = asked_of(trials, asking(asking.find_failed()).now)  # what is stuck asks no more
    left = missing(trials, plans[0].store)
    return len(trials), sum(trial.source != "prepare" for trial in left)


def looks_lines(plans: Sequence[Plan]) -> list[str]:
    """Say what the looks of growing studies have decided; none where none grows."""
    growing = [plan for plan in plans if plan.study.grows]
    if not growing:
        return []
    from mae_ablation.report.standing import find_standing

    return [line for plan in growing for line in find_standing(plan).summary()]


def report_studies(session: Session, source: str = "store") -> tuple[list[Path], list[str]]:
    """Write the reports of a session's studies again, and the pages above them.

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
    plans, reports = session.plans, session.request.reports
    files, lacking, readings = [], [], {}
    for plan in plans:
        name, runs = plan.study.experiment, None
        if source == "mlflow":
            from mae_ablation.tracking.reading import MlflowReadings

            readings[name] = MlflowReadings(plan, Path.cwd())
            runs = readings[name].links()
        else:
            readings[name] = Readings(session.store)
        asked = results_frame(plan, readings[name])
        finished = int((asked["status"] == "finished").sum())
        if finished < len(asked):
            damaged = any("is damaged" in reason for reason in asked["reason"].dropna())
            mend = f"mae-ablation store verify --mend{_in_store(plan)}, then: " if damaged else ""
            lacking.append(
                f"{name}: {finished} of {len(asked)} results are there; the rest comes "
                f"with: {mend}{command_again(plan)}"
            )
        try:
            if finished:
                files += write_report(plan, reports / name, readings=readings[name], runs=runs)
        except Emptier as error:
            lacking.append(str(error))

    # the pages above them
    try:
        if files:
            files += write_overviews(session.suites, plans, reports, readings=readings)
    except Emptier as error:
        lacking.append(str(error))
    return files, lacking


def command_again(plan: Plan) -> str:
    """Return the command that runs what a study lacks, in its store, as it works in any folder."""
    from mae_ablation.report.method import run_command

    flags = run_command(plan).removeprefix("python -m platform.run")
    return f"mae-ablation run{flags}{_in_store(plan)}"


def _in_store(plan: Plan) -> str:
    """Return the flag that names a plan's store, if it is not the usual one."""
    return "" if plan.store.root == "store" else f" --store {shlex.quote(plan.store.root)}"
