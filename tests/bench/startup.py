"""What a trial costs before its first line of training: in a lane, and as Ray's guides have it.

    python -m tests.bench.startup ROUNDS     answers {"lane": [seconds], "trainer": [seconds]}

Start-up of a trial: seconds from the end of the trial before it to the first line of its training
function. Reading data and building a model come after that on both sides, and count on neither.
"""

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace

from .compare import Row, answers
from .scale import write_study

NOTES = "times.jsonl"
TRIALS = 40


def startup(rounds: int) -> list[Row]:
    """Compares a further trial in a lane with a TorchTrainer for each trial."""
    (found,) = answers("startup", [rounds])
    return [
        Row(
            what="a further trial in a lane, start-up",
            against="one TorchTrainer per trial",
            ours=found["lane"],
            theirs=found["trainer"],
            note=f"Ours: median of the gaps between {TRIALS} trials that do nothing, one lane run "
            "by run_trials: telling the queue, the next trial, a look for its data. Theirs: "
            "TorchTrainer(...).fit() twice, one worker, from the end of the first training "
            "function to the beginning of the second. Both in one Ray session with our settings "
            "of Ray, which shorten the other side's start-up, too.",
        )
    ]


def main(rounds: str) -> None:
    from mae_ablation.run.ray_session import ray_session

    found = {"lane": [], "trainer": []}
    with contextlib.redirect_stdout(sys.stderr), ray_session():
        for _ in range(int(rounds)):
            for side, gap in (("lane", lane_gap), ("trainer", trainer_gap)):
                with tempfile.TemporaryDirectory() as folder:
                    found[side].append(gap(Path(folder)))
    print(json.dumps(found))


def lane_gap(place: Path) -> float:
    """Returns the median seconds between trials of one lane."""
    from mae_ablation.api import plan_study
    from mae_ablation.run.driver import Run, run_trials
    from mae_ablation.run.lanes import Lanes
    from mae_ablation.store.folder import Store
    from mae_ablation.study.work import OpenWork

    store = place / "store"
    store.mkdir()
    trials = plan_study(write_study(place, TRIALS), store=store).trials
    run = Run(work=OpenWork(trials=trials), store=Store(store), commit="", train=stand_in)
    silent = SimpleNamespace(show=lambda state: None, say=lambda line: None)
    run_trials(run, Lanes(count=1, cpus=1), silent)
    return median(gaps(store))


def stand_in(trial: object, store: str, **how: object) -> None:
    """Notes that it was called, in the place of `run_trial`."""
    note(Path(store), time.time())


def trainer_gap(place: Path) -> float:
    """Returns the seconds between the training functions of two trainers, one after the other."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    for number in range(2):
        TorchTrainer(
            empty_loop,
            train_loop_config={"place": str(place)},
            scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(name=f"trial-{number}", storage_path=str(place / "ray")),
        ).fit()
    return gaps(place)[0]


def empty_loop(config: dict) -> None:
    note(Path(config["place"]), time.time())


def note(folder: Path, begin: float) -> None:
    """Appends when something began and ended, in seconds since the epoch."""
    with (folder / NOTES).open("a") as file:
        file.write(json.dumps([begin, time.time()]) + "\n")


def gaps(folder: Path) -> list[float]:
    """Returns the seconds between the end of each noted span and the beginning of the next."""
    spans = sorted(json.loads(line) for line in (folder / NOTES).read_text().splitlines())
    return [later[0] - former[1] for former, later in zip(spans, spans[1:], strict=False)]


if __name__ == "__main__":
    main(*sys.argv[1:])
