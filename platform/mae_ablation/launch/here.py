"""Here: a session's trials run by this process, on this machine or on the Ray cluster it is in."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mae_ablation.report.outcome import conclude, count_asked, list_open_trials
from mae_ablation.report.saved import report_in
from mae_ablation.report.summary import budget_lines, describe_plans
from mae_ablation.run.session import Session
from mae_ablation.store.commit import code_commit
from mae_ablation.store.folder import Store
from mae_ablation.study.declared import declared_lines
from mae_ablation.study.estimate import against, cost_lines, estimate, utilisation
from mae_ablation.study.places import require_own_place, require_writable
from mae_ablation.study.provenance import commit_lines
from mae_ablation.study.trial import Trial
from mae_ablation.study.trouble import remedy_of
from mae_ablation.study.work import work_of


def run_here(session: Session, address: str = "local") -> int:
    """Run what is missing of a session's studies, show it in MLflow and write their reports.

    Args:
        address: that of a Ray cluster ("auto": the one that runs here), or "local" for this
            machine alone.

    Returns the number of trials that have no result.

    Raises:
        UserError: with file and line of what cannot be.
        KeyboardInterrupt: the user asked to leave; what was reached is in checkpoints.
    """
    from rich.console import Console

    from mae_ablation.run.driver import Run, fit_lanes, run_trials
    from mae_ablation.run.lanes import Lanes, division_lines, require_even_batches
    from mae_ablation.run.progress import Progress
    from mae_ablation.run.ray_session import RayDied, ray_session
    from mae_ablation.run.stopping import TimeLimit
    from mae_ablation.tracking.tracker import Tracker

    # whatever can be refused is refused before anything is started
    request, began = session.request, time.monotonic()
    session.fetch_data()
    plans, store = session.plans, session.store
    cost = estimate(plans, machine=request.machine(local=address == "local"))
    todo, ask = list_open_trials(plans, cost.by_phase)
    for place in (store.root, request.reports):
        require_writable(place)
    require_own_reports(session)
    for target in {trial.recipe.target for trial in todo if trial.needs}:
        target.require_files()
    lanes = Lanes.from_request(request)
    require_even_batches(todo, lanes)

    # what will be done, and what it costs
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(describe_plans(session.suites, plans, cost=cost, price=request.price))
    budget, declared = budget_lines(request), declared_lines(plans, todo)
    for line in [*commit_lines(plans, code_commit()), *budget, *declared]:
        console.print(line)
    tracker = Tracker(plans, Path.cwd())
    try:
        # nothing to run: MLflow and the reports alone
        if not todo:
            tracker.start()
            return conclude(session, tracker, began, console.print)

        run = Run(work=work_of(plans, todo, store), ask=ask, store=store, commit=code_commit())
        trials, (asked, left) = run.work.trials, count_asked(plans)
        view = Progress(console, trials, done=asked - left, seconds=cost.by_phase, store=store)
        with view, ray_session(address):
            # lanes and GPUs are known only once Ray is; what it will cost is said again
            lanes = fit_lanes(lanes, address, request.autoscale)
            numbers = ", ".join({trial.recipe.pretrain.precision: None for trial in trials})
            console.print(f"running {len(trials)} trials on {lanes}, {numbers}")
            for baseline, kinds in dict.fromkeys((p.study.baseline, p.study.phases) for p in plans):
                for line in division_lines(baseline, kinds, lanes):
                    console.print(line)
            if not lanes.gpus:
                request.require_no_gpu_costs("there is no GPU: leave it out")
            machine = replace(cost.machine, lanes=lanes.count or 1, gpus=lanes.gpus)
            if machine != cost.machine:
                cost = estimate(plans, machine=machine)
                console.print("\n".join(cost_lines(cost, request.price)))

            # the trials; the tracker not before: Ray forks, and the tracker's thread imports
            tracker.start()
            limit = TimeLimit(
                hours=request.hours,
                gpu_hours=request.gpu_hours,
                max_cost=request.max_cost,
                price=request.price or 0.0,
                gpus_per_lane=lanes.gpus * lanes.workers,
                began=began,
            )
            state = run_trials(run, lanes, view, limit)

        # what became of it
        if state.stopped and not state.spent:
            raise KeyboardInterrupt
        if state.spent:
            again = "the same command goes on from the checkpoints"
            console.print(f"stopped after {state.spent}; {again}")
        record_failures(trials, state.failed, store)
        unfinished = conclude(session, tracker, began, console.print)
        if ask is None:  # looks decide how much of an estimate is run
            console.print(against(cost, time.monotonic() - began, request.price))
        if line := utilisation(pretrained(todo, store)):
            console.print(line)
        return unfinished
    except RayDied as error:
        console.print(f"{error}; the same command goes on from the last checkpoints")
        console.file.flush()  # Ray may end this process before Python does
        return len(todo)
    except OSError as error:
        again = "the same command goes on from what the store has"
        console.print(f"{error}: {remedy_of(error, again)}")
        return len(todo) or 1
    finally:
        tracker.leave()  # whatever happens, its thread ends with the run


def require_own_reports(session: Session) -> None:
    """Refuse to train for reports that would take another study's place.

    Raises:
        UserError: a folder of them is of another study file.
    """
    reports = session.request.reports
    wanted = [(study.experiment, study.path) for study in session.studies]
    wanted += [(suite.experiment(session.studies), suite.path) for suite in session.suites]
    for name, path in wanted:
        require_own_place(reports / name, report_in(reports / name), path)


def pretrained(trials: Sequence[Trial], store: Store) -> list[dict]:
    """Return the results of those pre-trainings of some trials that have ended."""
    phases = [trial.phases[0] for trial in trials if trial.source == "pretrain"]
    results = [phase.folder(store).result() for phase in phases if phase.kind == "pretrain"]
    return [result for result in results if result]


def record_failures(trials: Sequence[Trial], failed: dict[int, str], store: Store) -> None:
    """Mark where trials stopped whose worker died and could not say so in the store.

    Best effort: the store may be what failed.

    Args:
        failed: reasons by place in `trials`.
    """
    for number, reason in failed.items():
        with suppress(OSError):
            folders = [phase.folder(store) for phase in trials[number].phases]
            stopped = next((folder for folder in folders if folder.result() is None), None)
            if stopped and not any(folder.failure() for folder in folders):
                stopped.fail(reason, "the worker process ended without a word")
