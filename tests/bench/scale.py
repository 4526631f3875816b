"""How planning, queueing, tracking and reporting grow with a study: 100, 1,000 and 10,000 trials.

    python -m tests.bench.scale --out reports/scaling.md

The trials are fakes that write recorded results in milliseconds; everything around them is real:
Ray's lanes and queue, the store, MLflow on SQLite, tables and figures. Every stage is a process of
its own, so that its peak memory is its own. 10,000 trials take some ten minutes on two cores, most
of them MLflow's.
"""

import argparse
import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from .compare import answers

SIZES = (100, 1_000, 10_000)
SEEDS = 10
REFERENCES = 2  # rows: random encoder and raw pixels
EPOCHS = 10  # points of each metric in a journal
STAGES = {
    "plan": "plan, nothing finished",
    "queue": "queue, two lanes",
    "again": "plan, all finished",
    "tracking": "tracking, MLflow on SQLite",
    "report": "report",
}


def write_study(place: Path, trials: int) -> Path:
    """A study of so many trials: levels of a learning rate, and two references, at ten seeds."""
    levels = [round(1.5e-4 * (1 + i / 100), 8) for i in range(trials // SEEDS - REFERENCES)]
    (place / "studies").mkdir()
    study = place / "studies" / "scale.yaml"
    lines = "".join(f"    - {level:.8f}\n" for level in levels)
    head = f"recipe: smoke\nbaseline: {{pretrain.base_lr: {levels[0]:.8f}}}\nseeds: {SEEDS}\n"
    study.write_text(f"{head}factors:\n  pretrain.base_lr:\n{lines}")
    return study


def recorded(trial, store: str | Path, **how: object) -> None:
    """Stands in for `run_trial`: results as the phases write them, without a training and without
    waiting for the disk. The numbers depend on level and seed."""
    for phase in trial.phases:
        folder = Path(store) / phase.kind / f"{phase.name}-{phase.identity}"
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "phase.json", phase.document)
        (folder / "journal.jsonl").write_text(_journal(phase.kind, trial.seed))
        _write(folder / "result.json", _result(phase, trial.seed))


def _write(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def _journal(kind: str, seed: int) -> str:
    """Four metrics at the end of every epoch, as the phases keep them."""
    lines = []
    for epoch in range(1, EPOCHS + 1):
        numbers = {"loss": 1 / epoch + seed / 100, "lr": 1e-3, "epoch": epoch, "images_per_s": 9e3}
        metrics = {f"{kind}/{name}": value for name, value in numbers.items()}
        lines.append(json.dumps({"t": 1_790_000_000_000 + epoch, "s": 4 * epoch, "m": metrics}))
    return "\n".join(lines) + "\n"


def _result(phase, seed: int) -> dict:
    accuracy = 60 + 1e4 * phase.recipe.pretrain.base_lr % 20 + seed / 7
    packages = {name: "1.2.3" for name in ("mae-ablation", "python", "ray", "timm", "torch")}
    return {
        "phase": phase.kind,
        "identity": phase.identity,
        "commit": "0123456789",
        "device": "cpu",
        "processor": "recorded, 2 cores",
        "epochs": EPOCHS,
        "finished_at": "2026-01-31T12:00:00Z",
        "flops_per_s": 2e10,
        "images_per_s": 9e3,
        "lanes": 2,
        "threads": 1,
        "peak_memory_bytes": 10**9,
        "seconds": 8.0,
        "test_acc1": accuracy,
        "validation_acc1": accuracy,
        "train_loss": 1 / accuracy,
        "versions": packages,
    }


def stage_plan(place: Path) -> None:
    """What `--plan` and the beginning of a run say."""
    from mae_ablation.report.summary import describe_plans

    plan = _plan(place)
    describe_plans([], [plan], 2)


stage_again = stage_plan


def stage_queue(place: Path) -> float:
    """All trials through two real lanes. Returns seconds from the last look, twice a second, that
    saw nothing finished to the first that saw everything: without the start of Ray."""
    from mae_ablation.run.driver import Run, run_trials
    from mae_ablation.run.lanes import Lanes
    from mae_ablation.run.ray_session import ray_session
    from mae_ablation.store.folder import Store
    from mae_ablation.study.work import OpenWork

    trials, looks = _plan(place).trials, []

    def show(state) -> None:
        looks.append((time.monotonic(), len(state.finished)))

    store = Store(place / "store")
    run = Run(work=OpenWork(trials=trials), store=store, commit="abc", train=recorded)
    with ray_session():
        run_trials(run, Lanes(count=2, cpus=1), SimpleNamespace(show=show, say=print))
    assert looks[-1][1] == len(trials), looks[-1]
    began = max(moment for moment, finished in looks if finished == 0)
    return min(moment for moment, finished in looks if finished == len(trials)) - began


def stage_tracking(place: Path) -> None:
    from mae_ablation.tracking.tracker import Tracker

    tracker = Tracker([_plan(place)], place)
    tracker.start()
    tracker.close({}, {})
    assert tracker.trouble is None, tracker.trouble


def stage_report(place: Path) -> None:
    from mae_ablation.report.report import write_report

    write_report(_plan(place), place / "reports" / "scale")


def _plan(place: Path):
    from mae_ablation.api import plan_study

    return plan_study(place / "studies" / "scale.yaml", store=place / "store")


def measure(stage: str, place: Path) -> dict:
    """Run a stage in this process: wall and CPU seconds, imports included, and peak memory."""
    began, cpu = time.monotonic(), time.process_time()
    own = globals()[f"stage_{stage}"](place)
    return {
        "seconds": own or time.monotonic() - began,
        "cpu": time.process_time() - cpu,
        "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def run_stage(stage: str, place: Path) -> dict:
    return answers("scale", ("--stage", stage, "--place", place))[0]


def bench(trials: int, stages: list[str]) -> dict[str, dict]:
    """Every stage over a study of so many trials, in a folder of its own."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_study(place, trials)
        for stage in stages:
            if stage == "again" and "queue" not in stages:
                for trial in _plan(place).trials:
                    recorded(trial, place / "store")
            found[stage] = run_stage(stage, place)
            print(trials, stage, found[stage], file=sys.stderr, flush=True)
    return found


def table(found: dict[int, dict[str, dict]]) -> str:
    """Markdown: a row per stage, a column per size."""
    sizes = list(found)
    head = "| stage | " + " | ".join(f"{size:,} trials" for size in sizes) + " | growth |"
    lines = [head, "|" + "---|" * (len(sizes) + 2)]
    for stage, title in STAGES.items():
        if stage in found[sizes[0]]:
            cells = [cell(found[size][stage], size) for size in sizes]
            lines.append(f"| {title} | " + " | ".join(cells) + f" | {growth(found, stage)} |")
    return "\n".join(lines) + "\n"


def cell(one: dict, trials: int) -> str:
    return (
        f"{one['seconds']:.1f} s ({one['cpu']:.1f} CPU), "
        f"{trials / one['seconds']:,.0f}/s, {one['bytes'] / 2**20:.0f} MiB"
    )


def growth(found: dict[int, dict[str, dict]], stage: str) -> str:
    """Seconds that ten times the trials take, as a multiple; each step of the sizes."""
    seconds = [sizes[stage]["seconds"] for sizes in found.values()]
    return ", ".join(f"x {b / a:.1f}" for a, b in zip(seconds, seconds[1:], strict=False))


def heading() -> str:
    cores = len(os.sched_getaffinity(0))
    return (
        "# Scaling\n\n"
        f"Made by `python -m tests.bench.scale --out reports/scaling.md` on {cores} cores: fake "
        "trials that write recorded results, everything around them real. A cell is wall clock, "
        "CPU seconds of the driver's process (lanes are processes of their own), trials per "
        "second and peak memory of the driver. Imports are in it (about a second for a report, "
        "four for tracking), the start of Ray is not.\n\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.stage:
        with contextlib.redirect_stdout(sys.stderr):
            found = measure(words.stage, words.place)
        print(json.dumps(found))
        return
    text = heading() + table({size: bench(size, words.stages) for size in words.sizes})
    print(text)
    if words.out:
        words.out.write_text(text)


if __name__ == "__main__":
    main()
