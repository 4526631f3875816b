"""Here: a session's trials run by this process, on this machine or on the Ray cluster it is in."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mae_ablation.report.outcome import conclude, count_asked, list_open_trials
from mae_ablation.report.saved import report_in
from mae_ablation.report.summary import budget_lines, describe_plans
from mae_ablation.run.session import Session
from mae_ablation.store.commit import code_commit
from mae_ablation.store.folder import Store
from mae_ablation.study.declared import declared_lines
from mae_ablation.study.estimate import Estimate, against, cost_lines, estimate, utilisation
from mae_ablation.study.places import require_own_place, require_writable
from mae_ablation.study.provenance import commit_lines
from mae_ablation.study.trial import Trial
from mae_ablation.study.trouble import remedy_of
from mae_ablation.study.work import Asked, work_of

if TYPE_CHECKING:
    from mae_ablation.run.lanes import Lanes


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

    from mae_ablation.run.lanes import Lanes, derivation, require_even_batches
    from mae_ablation.tracking.tracker import Tracker

    # whatever can be refused is refused before anything is started
    request = session.request
    session.fetch_data()
    plans = session.plans
    todo, ask = list_open_trials(plans)
    for place in (session.store.root, request.reports):
        require_writable(place)
    require_own_reports(session)
    require_token_files(todo)
    lanes = Lanes(
        count=request.lanes,
        gpus=request.gpus,
        workers=request.workers,
        micro_batch=request.micro_batch,
        accelerator=request.accelerator,
    )
    require_even_batches(todo, lanes)

    # what will be done, and what it costs
    console = Console(highlight=False, markup=False, soft_wrap=True)
    cost = estimate(plans, machine=request.machine(local=address == "local"))
    console.print(describe_plans(session.suites, plans, cost=cost, price=request.price))
    budget, declared = budget_lines(request.hours, request.gpu_hours), declared_lines(plans, todo)
    for line in [*commit_lines(plans, code_commit()), *budget, *declared]:
        console.print(line)
    for baseline, kinds in dict.fromkeys((p.study.baseline, p.study.phases) for p in plans):
        for line in derivation(baseline, kinds, lanes):
            console.print(line)

    # run it; whatever happens, the tracker's thread ends with the run
    tracker, began = Tracker(plans, Path.cwd()), time.monotonic()
    try:
        if not todo:
            tracker.start()
        else:
            run = Run(session, console, todo, ask, lanes, tracker, began)
            cost = run.start(address, cost)
            if cost is None:
                return len(todo)
        unfinished = conclude(session, tracker, began, console.print)
        if todo and ask is None:  # looks decide how much of an estimate is run
            console.print(against(cost, time.monotonic() - began, request.price))
        if todo and (line := utilisation(pretrained(todo, session.store))):
            console.print(line)
        return unfinished
    except OSError as error:
        again = "the same command goes on from what the store has"
        console.print(f"{error}: {remedy_of(error, again)}")
        return len(todo) or 1
    finally:
        tracker.leave()


@dataclass(frozen=True, slots=True)
class Run:
    """The missing trials of a session, to be run on lanes."""

    session: Session
    console: Any
    todo: Sequence[Trial]
    ask: Callable[[frozenset[str]], Asked] | None
    """says what growing studies ask for by now; None where none grows"""
    lanes: "Lanes"
    tracker: Any
    began: float
    """moment of `time.monotonic` that the budget counts from"""

    def start(self, address: str, cost: Estimate) -> Estimate | None:
        """Start Ray, the tracker and the lanes; show how they do until every trial has ended.

        Returns the estimate for as many lanes as there are; on a cluster that is known, and said,
        only here. None: Ray died, which is said.

        Raises:
            KeyboardInterrupt: the user asked to leave.
        """
        from mae_ablation.run.driver import fit_lanes, run_trials
        from mae_ablation.run.progress import Progress
        from mae_ablation.run.ray_session import RayDied, ray_session
        from mae_ablation.run.seed_gate import SeedGate
        from mae_ablation.run.stopping import TimeLimit

        request, plans, store = self.session.request, self.session.plans, self.session.store
        work, (asked, left) = work_of(plans, self.todo, store), count_asked(plans)
        progress = Progress(
            self.console,
            work.trials,
            done=asked - left,
            seconds=cost.by_phase,
            store=store,
        )
        try:
            with progress, ray_session(address):
                lanes, scales = fit_lanes(self.lanes, address)
                self.console.print(f"running {len(work.trials)} trials on {lanes}")
                if lanes.count and lanes.count != cost.machine.lanes:
                    cost = estimate(plans, machine=replace(cost.machine, lanes=lanes.count))
                    self.console.print("\n".join(cost_lines(cost)))
                self.tracker.start()  # not before: Ray forks, and the tracker's thread imports
                state = run_trials(
                    work.trials,
                    lanes,
                    store=store.root,
                    commit=code_commit(),
                    show=progress.show,
                    say=progress.say,
                    scales=scales,
                    searched=work.searched,
                    seed_gate=SeedGate(work.trials, self.ask) if self.ask else None,
                    time_limit=TimeLimit(
                        hours=request.hours,
                        gpu_hours=request.gpu_hours,
                        gpus_per_lane=lanes.gpus * lanes.workers,
                        began=self.began,
                    ),
                )
        except RayDied as error:
            self.console.print(f"{error}; the same command goes on from the last checkpoints")
            self.console.file.flush()  # Ray may end this process before Python does
            return None
        if state.stopped and not state.spent:
            raise KeyboardInterrupt
        if state.spent:
            again = "the same command goes on from the checkpoints"
            self.console.print(f"stopped after {state.spent}; {again}")
        record_failures(work.trials, state.failed, store)
        return cost


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


def require_token_files(trials: Sequence[Trial]) -> None:
    """Open the users' files that targets of these trials need.

    Raises:
        UserError: one holds something else.
    """
    for target in {trial.recipe.target for trial in trials if trial.needs}:
        target.require_files()


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
