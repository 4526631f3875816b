"""The commands as functions, for the command line and for notebooks alike."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mae_ablation.data.catalog import facts, require_fit, require_present
from mae_ablation.data.sets import SETS, location
from mae_ablation.errors import UserError
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.report.outcome import conclude, count_asked
from mae_ablation.report.saved import report_in
from mae_ablation.report.summary import budget_lines, introduction
from mae_ablation.store.folder import Store
from mae_ablation.store.paths import expanded, expanded_place
from mae_ablation.study.budget import with_budget
from mae_ablation.study.declared import declare_plan, descriptive
from mae_ablation.study.estimate import Estimate, estimate
from mae_ablation.study.looks import Asked, asked_of, by_round
from mae_ablation.study.owner import require_own_place
from mae_ablation.study.plan import Plan, make_plan, missing, trials_of
from mae_ablation.study.price import against, cost_lines, utilisation
from mae_ablation.study.speed import machine_of
from mae_ablation.study.study import Study
from mae_ablation.study.suite import Suite, load_all, suites_of
from mae_ablation.study.trial import Trial
from mae_ablation.study.trouble import remedy_of
from mae_ablation.study.work import work_of


def plan_studies(
    studies: Sequence[Path],
    *,
    store: Path | str,
    recipe: str | None = None,
    changes: Sequence[str] = (),
    seeds: int | None = None,
    phases: Sequence[str] = (),
    until_decided: bool = False,
    most: int | None = None,
) -> list[Plan]:
    """What studies need, and what of it the store has. Starts and writes nothing.

    Args:
        studies: YAML files, of studies or of suites of them.
        store: folder or URI (s3://...) of finished phases; need not exist.
        recipe: name of another recipe than the studies'.
        changes: "field=value" over the recipe.
        seeds: number of seeds instead of the studies'.
        phases: instead of the studies'.
        until_decided: take more seeds for the rows that the studies' seeds have not decided.
        most: seeds that a row may take then (default: 20).

    Raises:
        UserError: with file and line of what cannot be.
    """
    studies = [expanded(study) for study in studies]
    loaded = load_all(
        studies,
        recipe=recipe,
        changes=changes,
        seeds=seeds,
        phases=phases,
        until_decided=until_decided,
        most=most,
    )
    require_readable(store)
    return [_plan(study, Store(store)) for study in loaded]


def plan_study(study: Path, **arguments: object) -> Plan:
    """The plan of a single study. Arguments as in `plan_studies`."""
    return plan_studies([study], **arguments)[0]


def _plan(study: Study, store: Store) -> Plan:
    said_by = ", ".join([f"recipe {study.recipe_name}", *(f"--set {c}" for c in study.changed)])
    require_fit(study.baseline, f"{study.path}, {said_by}")
    for factor in study.factors:
        for level in factor.levels:
            require_fit(level.recipe, f"{study.path}, {factor.name} {level.label}")
    study = with_budget(study, facts)
    return make_plan(study.with_recipes(with_absolute_paths), store, facts)


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """A recipe whose files are found from any working directory: workers have their own."""
    data, tokenizer = recipe.data, recipe.tokenizer
    if SETS[data.name].kind != "bundled":
        data = replace(data, folder=str(location(data)))
    if tokenizer.file:
        tokenizer = replace(tokenizer, file=str(expanded(tokenizer.file).absolute()))
    return replace(recipe, data=data, tokenizer=tokenizer)


def fetch_data(trials: Sequence[Trial]) -> bool:
    """Have every data set of the trials on this machine, before anything is started.

    Returns whether something was fetched.

    Raises:
        UserError: one is missing, and its recipe does not say `download: true`.
    """
    fetched = False
    for data in dict.fromkeys(trial.recipe.data for trial in trials):
        if data.download and facts(data).missing:
            from mae_ablation.data.archives import fetch

            fetch(data)
            fetched = True
        require_present(data, f"data.name {data.name}")
    return fetched


def run_studies(
    studies: Sequence[Path],
    *,
    store: Path | str,
    reports: Path,
    recipe: str | None = None,
    changes: Sequence[str] = (),
    seeds: int | None = None,
    phases: Sequence[str] = (),
    until_decided: bool = False,
    most: int | None = None,
    lanes: int | None = None,
    gpus: float = 0.0,
    address: str = "local",
    workers: int = 1,
    micro_batch: int | None = None,
    accelerator: str | None = None,
    price: float | None = None,
    hours: float | None = None,
    gpu_hours: float | None = None,
) -> int:
    """Run what is missing of studies, show it in MLflow and write their reports.

    Trials that several studies need are run once. Arguments as in `plan_studies`, and:
        reports: folder of reports.
        lanes: trials side by side (default: as many as there is room for).
        gpus: what each worker gets of a GPU.
        address: a Ray cluster's ("auto": the one that runs here), or "local" for this machine.
        workers: of each lane; they train one trial together.
        micro_batch: images per forward pass, at most; the rest is accumulated (default: all).
        accelerator: type of GPU, as Ray names it.
        price: of a GPU-hour, in any currency.
        hours: after which the run leaves, with whatever is decided by then; None: it does not.
        gpu_hours: likewise, of all GPUs of the lanes together.

    Returns the number of trials that have no result.

    Raises:
        UserError: with file and line of what cannot be.
        KeyboardInterrupt: the user asked to leave; what was reached is in checkpoints.
    """
    studies, reports = [expanded(study) for study in studies], expanded(reports)
    store = expanded_place(store)  # before workers, on whose machines ~ may be another folder
    asked = {"recipe": recipe, "changes": changes, "seeds": seeds, "phases": phases}
    asked |= {"until_decided": until_decided, "most": most}
    plans = plan_studies(studies, store=store, **asked)
    if fetch_data(trials_of(plans)):
        plans = plan_studies(studies, store=store, **asked)  # what was fetched is known better now
    todo, ask = open_trials(plans)
    for folder in (store, reports):
        require_writable(folder)
    require_own_reports(plans, suites_of(studies), reports)
    require_token_files(todo)

    from rich.console import Console

    from mae_ablation.run.lanes import Lanes, derivation, require_even_batches
    from mae_ablation.tracking.tracker import Tracker

    console = Console(highlight=False, markup=False, soft_wrap=True)
    asked_for = Lanes(
        count=lanes,
        gpus=gpus,
        workers=workers,
        micro_batch=micro_batch,
        accelerator=accelerator,
    )
    require_even_batches(todo, asked_for)
    place = machine_of(lanes=lanes, workers=workers, gpus=gpus, local=address == "local")
    cost = estimate(plans, machine=place)
    console.print(introduction(studies, plans, cost=cost, price=price))
    for line in [*budget_lines(hours, gpu_hours), *declared_lines(plans)]:
        console.print(line)
    baselines = {(plan.study.baseline, plan.study.phases): None for plan in plans}
    for baseline, kinds in baselines:
        for line in derivation(baseline, kinds, asked_for):
            console.print(line)
    tracker = Tracker(plans, Path.cwd())
    began = time.monotonic()
    try:
        if not todo:
            tracker.start()
        else:
            limits = {"hours": hours, "gpu_hours": gpu_hours, "began": began}
            cost = run_missing(
                console, plans, todo, asked_for, store, tracker, address, cost, ask, limits
            )
            if cost is None:
                return len(todo)
        unfinished = conclude(console, plans, tracker, reports, began, suites_of(studies))
        if todo and ask is None:  # looks decide how much of an estimate is run
            console.print(against(cost, time.monotonic() - began, price))
        if todo:
            console.print(utilisation(pretrained(todo, Store(store))), end="")
        return unfinished
    except OSError as error:
        again = "the same command goes on from what the store has"
        console.print(f"{error}: {remedy_of(error, again)}")
        return len(todo) or 1
    finally:
        tracker.leave()


def require_token_files(trials: Sequence[Trial]) -> None:
    """Open the users' token files of these trials, before anything is started.

    Raises:
        UserError: one holds something else.
    """
    settings = {t.recipe.tokenizer for t in trials if t.recipe.pretrain.target == "dvae_token"}
    for tokenizer in settings:
        if tokenizer.source == "dalle":
            from mae_ablation.mae.dalle import load_dalle

            load_dalle(str(expanded(tokenizer.file)), tokenizer.sha256)


def pretrained(trials: Sequence[Trial], store: Store) -> list[dict]:
    """Results of the pre-trainings of some trials, of those that have ended."""
    phases = [trial.phases[0] for trial in trials if trial.source == "pretrain"]
    results = [phase.folder(store).result() for phase in phases if phase.kind == "pretrain"]
    return [result for result in results if result]


def run_missing(
    console,
    plans: Sequence[Plan],
    todo: Sequence[Trial],
    lanes,
    store: Path | str,
    tracker,
    address: str,
    cost: Estimate,
    ask: Callable[[frozenset[str]], Asked] | None,
    limits: dict[str, float | None],
) -> Estimate | None:
    """Start Ray, the tracker and the lanes; show how they do until every trial has ended.

    Args:
        ask: what growing studies ask for by now; None where none grows.
        limits: of the run's budget, and when it began.

    Returns what it was to cost on as many lanes as there are; on a cluster that is known, and
    said, only here. None: Ray died, which is said.

    Raises:
        KeyboardInterrupt: the user asked to leave.
    """
    from mae_ablation.run.budget import Budget
    from mae_ablation.run.driver import fit_lanes, run_trials
    from mae_ablation.run.looks import Looks
    from mae_ablation.run.progress import Progress
    from mae_ablation.run.session import RayDied, ray_session
    from mae_ablation.store.commit import code_commit

    done = finished_trials(plans, todo)
    work = work_of(plans, todo, Store(store))
    trials = work.trials
    try:
        progress = Progress(console, trials, done=done, seconds=cost.by_phase, store=Store(store))
        with progress, ray_session(address):
            lanes, scales = fit_lanes(lanes, address)
            console.print(f"running {len(trials)} trials on {lanes}")
            if lanes.count and lanes.count != cost.machine.lanes:
                cost = estimate(plans, machine=replace(cost.machine, lanes=lanes.count))
                console.print("\n".join(cost_lines(cost)))
            tracker.start()  # not before: Ray forks, and the tracker's thread imports
            tally = run_trials(
                trials,
                lanes,
                store=store,
                commit=code_commit(),
                show=progress.show,
                say=progress.say,
                scales=scales,
                searched=work.searched,
                looks=Looks(trials, ask) if ask else None,
                budget=Budget(gpus_per_lane=lanes.gpus * lanes.workers, **limits),
            )
    except RayDied as error:
        console.print(f"{error}; the same command goes on from the last checkpoints")
        console.file.flush()  # Ray may end this process before Python does
        return None
    if tally.stopped and not tally.spent:
        raise KeyboardInterrupt
    if tally.spent:
        console.print(f"stopped after {tally.spent}; the same command goes on from the checkpoints")
    record_failures(trials, tally.failed, Store(store))
    return cost


def open_trials(
    plans: Sequence[Plan],
) -> tuple[list[Trial], Callable[[frozenset[str]], Asked] | None]:
    """The missing trials in the order they are to be run; and, where studies grow, what says which
    of them are asked for. Trials of rows that are decided are not among them."""
    trials, store = trials_of(plans), plans[0].store
    if not any(plan.study.grows for plan in plans):
        return missing(trials, store), None
    from mae_ablation.report.standing import Asking

    ask = Asking(plans)
    asked = ask()
    wanted = asked_of(trials, asked.now | asked.later)
    return by_round(missing(wanted, store), plans), ask


def finished_trials(plans: Sequence[Plan], todo: Sequence[Trial]) -> int:
    """How many trials of some plans are finished, `todo` being those that are open; of studies that
    grow, those at the looks so far."""
    if not any(plan.study.grows for plan in plans):
        return len(trials_of(plans)) - sum(trial.source != "prepare" for trial in todo)
    asked, left = count_asked(plans)
    return asked - left


def declared_lines(plans: Sequence[Plan]) -> list[str]:
    """Declare every study that is not declared yet; a line where its tables are descriptive, or it
    grows.

    Raises:
        UserError: the store cannot be written.
    """
    lines = []
    for plan in plans:
        try:
            found, why = declare_plan(plan), descriptive(plan)
        except OSError as error:
            raise UserError(f"cannot declare the study: {error}", str(plan.study.path)) from None
        if why:
            lines.append(f"{plan.study.name}: {why}")
        elif plan.study.grows:
            lines.append(f"{plan.study.name}: declared before the first result, {found.when}")
    return lines


def record_failures(trials: Sequence[Trial], failed: dict[int, str], store: Store) -> None:
    """A trial whose worker died has nobody to say so in the store: mark where it stopped.

    `failed`: reasons by place in `trials`. Best effort: the store may be what failed.
    """
    for number, reason in failed.items():
        with suppress(OSError):
            folders = [phase.folder(store) for phase in trials[number].phases]
            stopped = next((folder for folder in folders if folder.result() is None), None)
            if stopped and not any(folder.failure() for folder in folders):
                stopped.fail(reason, "the worker process ended without a word")


def require_own_reports(plans: Sequence[Plan], suites: Sequence[Suite], reports: Path) -> None:
    """Refuse to train for reports that would take another study's place.

    Raises:
        UserError: a folder of them is of another study file.
    """
    studies = [plan.study for plan in plans]
    wanted = [(study.experiment, study.path) for study in studies]
    wanted += [(suite.experiment(studies), suite.path) for suite in suites]
    for name, path in wanted:
        require_own_place(reports / name, report_in(reports / name), path)


def require_readable(store: Path | str) -> None:
    """Ask the store for an answer, which takes 15 s at most, and for what it holds."""
    try:
        files = Store(store).files
        files.require_answer()
        files.names("")
    except (OSError, ValueError) as error:  # ValueError: an unknown scheme
        raise UserError(f"cannot read the store: {error}", str(store)) from None


def require_writable(folder: Path | str) -> None:
    try:
        Store(folder).require_writable()
    except (OSError, ValueError) as error:  # ValueError: an unknown scheme
        raise UserError(f"cannot write there: {error}", str(folder)) from None
