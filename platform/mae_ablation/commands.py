"""The commands as functions, for the command line and for notebooks alike."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mae_ablation.data.catalog import facts, require_fit
from mae_ablation.store.folder import Store
from mae_ablation.store.lock import exclusive
from mae_ablation.study.errors import UserError
from mae_ablation.study.estimate import estimate
from mae_ablation.study.plan import Plan, make_plan
from mae_ablation.study.study import Study, load


def plan_study(
    study: Path,
    *,
    store: Path,
    recipe: str | None = None,
    changes: Sequence[str] = (),
    seeds: int | None = None,
) -> Plan:
    """What a study needs, and what of it the store has. Starts and writes nothing.

    Args:
        study: the YAML file.
        store: folder of finished phases; need not exist.
        recipe: name of another recipe than the study's.
        changes: "field=value" over the recipe.
        seeds: number of seeds instead of the study's.

    Raises:
        UserError: with file and line of what cannot be.
    """
    loaded: Study = load(study, recipe=recipe, changes=changes, seeds=seeds)
    require_fit(loaded.baseline, f"{study}, recipe {loaded.recipe_name}")
    for factor in loaded.factors:
        for level in factor.levels:
            require_fit(level.recipe, f"{study}, {factor.name} {level.label}")
    return make_plan(loaded, Store(store), facts(loaded.baseline.data))


def run_study(
    study: Path,
    *,
    store: Path,
    reports: Path,
    recipe: str | None = None,
    changes: Sequence[str] = (),
    seeds: int | None = None,
    lanes: int | None = None,
    gpus: float = 0.0,
) -> int:
    """Run what is missing of a study, show it in MLflow and write its report.

    Arguments as in `plan_study`; `reports` is the folder of reports, `lanes` the number of trials
    side by side (default: one per core), `gpus` what each lane gets of a GPU.

    Returns the number of trials that have no result.

    Raises:
        UserError: with file and line of what cannot be.
    """
    plan = plan_study(study, store=store, recipe=recipe, changes=changes, seeds=seeds)
    for folder in (store, reports):
        require_writable(folder)

    from rich.console import Console

    from mae_ablation.cluster.run import Lanes, cores
    from mae_ablation.tracking.tracker import Tracker

    console = Console(highlight=False, markup=False, soft_wrap=True)
    lane = Lanes.default(lanes, gpus, cores())
    console.print(summary(plan, lane.count))
    tracker = Tracker(plan, Path.cwd())
    began = time.monotonic()
    if missing := plan.missing():
        with only_run_in(store):
            run_missing(console, missing, lane, store, tracker)
    else:
        tracker.start()

    from mae_ablation.report.report import write_report

    files = write_report(plan, reports / plan.study.experiment)
    tracker.close(files)
    unfinished = len(plan.missing())
    console.print(ending(plan, tracker, files, unfinished, time.monotonic() - began))
    return unfinished


def run_missing(console, missing, lanes, store: Path, tracker) -> None:
    """Start Ray, the tracker and the lanes; show how they do until every trial has ended."""
    from mae_ablation.cluster.progress import Progress
    from mae_ablation.cluster.run import ray_session, run_trials
    from mae_ablation.commit import code_commit

    console.print(f"running {len(missing)} trials on {lanes}")
    with Progress(console, len(missing)) as progress, ray_session(lanes):
        tracker.start()  # not before: Ray forks, and the tracker's thread imports
        last = run_trials(missing, lanes, store=store, commit=code_commit(), show=progress.show)
    record_failures(missing, last.failed, Store(store))


def record_failures(missing, failed: dict[str, str], store: Store) -> None:
    """A trial whose worker died has nobody to say so in the store: mark where it stopped."""
    for trial in missing:
        folders = [phase.folder(store) for phase in trial.phases]
        stopped = next((folder for folder in folders if folder.result() is None), None)
        if trial.label in failed and stopped and not any(f.failure() for f in folders):
            stopped.fail(failed[trial.label], "the worker process ended without a word")


@contextmanager
def only_run_in(store: Path) -> Iterator[None]:
    """Raises UserError while another run is at work in the store."""
    try:
        with exclusive(store):
            yield
    except BlockingIOError as error:
        message = f"another run (process {error}) is at work here: wait for it, or use --store"
        raise UserError(message, str(store)) from None


def require_writable(folder: Path) -> None:
    try:
        Store(folder).require_writable()
    except OSError as error:
        raise UserError(f"cannot write there: {error}", str(folder)) from None


def summary(plan: Plan, lanes: int) -> str:
    """A plan in a few lines: how many trials and why, what is there, what the rest costs."""
    study, recipe = plan.study, plan.study.baseline
    trials, missing = plan.trials, plan.missing()
    asked = (len(plan.rows) + len(plan.references)) * len(study.seeds)
    lines = [
        f"{study.name}: {study.title} (recipe {study.recipe_name}"
        + "".join(f", {change}" for change in study.changed)
        + (f"; reproduces {study.paper.replace('_', ' ')} of the paper)" if study.paper else ")"),
        f"data: {recipe.data.name}, {recipe.data.image_size} px in {recipe.grid} x {recipe.grid} "
        f"patches of {recipe.model.patch_size} px; lr {recipe.pretrain.base_lr:g} x "
        f"{recipe.pretrain.batch_size} / 256 = "
        f"{recipe.pretrain.base_lr * recipe.pretrain.batch_size / 256:g}",
        f"trials: ({len(plan.rows)} levels + {len(plan.references)} references) x "
        f"{counted(len(study.seeds), 'seed')} - {asked - len(trials)} shared = {len(trials)}; "
        f"{len(trials) - len(missing)} finished in {plan.store.root}, {len(missing)} to run",
    ]
    for row in plan.rows:
        if row.same_as:
            lines.append(
                f"note: {row.factor.name} {row.label} and {row.same_as} are one training"
                + row.why_same()
            )
    if missing:
        cost = estimate(plan, lanes)
        basis = (
            f"median of {cost.measured_on} finished pre-trainings"
            if cost.measured_on
            else "assumed, nothing measured yet"
        )
        lines.append(
            f"estimate: {cost.seconds / 60:.0f} min on {counted(lanes, 'lane')} "
            f"({cost.flops_per_s / 1e9:.0f} GFLOP/s each, {basis}), "
            f"{cost.disk_bytes / 1e6:.0f} MB of checkpoints"
        )
    return "\n".join(lines)


def counted(n: int, noun: str) -> str:
    """1 seed, 2 seeds."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def trial_lines(plan: Plan) -> str:
    """Every trial of a plan, once, in the order it will run."""
    lines = []
    for trial in plan.trials:
        unfinished = plan.unfinished(trial)
        state = "to run: " + ", ".join(p.kind for p in unfinished) if unfinished else "finished"
        kept = f"keeps {trial.recipe.kept_patches:>3}" if trial.source == "pretrain" else ""
        lines.append(f"  {trial.id}  {trial.label:<32} {kept:<10} {state}")
    return "\n".join(lines)


def ending(plan: Plan, tracker, files: list[Path], unfinished: int, seconds: float) -> str:
    """Where the results lie, and what to do next."""
    from mae_ablation.tracking.ui import runs_url

    done = len(plan.trials) - unfinished
    lines = [f"{done} of {len(plan.trials)} trials finished ({seconds / 60:.1f} min)"]
    if unfinished:
        lines.append(f"{unfinished} without a result; the same command tries them again")
    lines.append(f"report: {files[0]}, {next(f for f in files if f.suffix == '.png')}")
    if tracker.trouble:
        lines.append(f"MLflow is behind ({tracker.trouble}): the same command catches up")
    else:
        lines.append(f"MLflow: start the UI with  {Path(sys.executable)} -m mae_ablation ui")
        lines.append(f"        then open {runs_url(tracker.experiment_id)}")
    return "\n".join(lines)
