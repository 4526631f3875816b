"""Orchestration: what a trial costs before its first line of training.

    python -m mae_ablation.bench.orchestration ROUNDS     the measurement itself, in its own process

Start-up of a trial: seconds from the end of the trial before it to the first line of its training
function. Reading data and building a model come after that on every side, and count on none.
"""

import contextlib
import functools
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from mae_ablation.bench.child import answer_of
from mae_ablation.bench.pairs import Row, quotients
from mae_ablation.bench.toy import gaps, note, noted, write_study

TRIALS = 19  # levels of the lane's study; with two references 21 trials, 20 gaps
ROUNDS = 3  # at most: one takes two minutes, nearly all of them the other side's
TIMES = 100  # start-up, at least so many times less
BETWEEN_S = 0.1  # two trials of a lane, at most
ONE_CPU = {"CPU": 1}
SETTINGS = (
    "All in one Ray session with our settings of Ray (health checks every 0.2 s, no preemption "
    "watcher, no metrics), which shorten the other side's start-up, too."
)


def measure(rounds: int) -> list[Row]:
    """Start-up of a further trial in a lane, against the two ways that Ray's guides describe."""
    found, _ = answer_of(__name__, min(rounds, ROUNDS))
    return rows_of(*(tuple(found[name]) for name in ("lane", "trainer", "tune")))


def rows_of(
    lane: tuple[float, ...], trainer: tuple[float, ...], tune: tuple[float, ...]
) -> list[Row]:
    """The rows of start-up seconds, round by round."""
    ours = (
        "Ours: median of the gaps between 21 trials that do nothing, one lane run by run_trials: "
        "telling the queue, the next trial, a look for its data."
    )
    further = functools.partial(
        Row, what="a further trial in a lane, start-up", target=TIMES, ours=lane
    )
    return [
        further(
            against="one TorchTrainer per trial",
            values=quotients(trainer, lane),
            theirs=trainer,
            note=f"{ours} Theirs: TorchTrainer(...).fit() twice, one worker, from the end of the "
            f"first training function to the beginning of the second. {SETTINGS}",
        ),
        further(
            against="Tune with a nested TorchTrainer per trial",
            values=quotients(tune, lane),
            theirs=tune,
            note=f"{ours} Theirs: a Tuner of two trials, one at a time, each of which fits a "
            f"TorchTrainer of one worker. {SETTINGS}",
        ),
        Row(
            what="time between two trials in a lane (seconds, not a ratio)",
            against="no start-up at all",
            target=BETWEEN_S,
            relation="<=",
            values=lane,
            ours=lane,
            note=f"{ours} What run_trial then does itself (a look into the store, the phase's "
            "claim, the model) is not in it.",
        ),
    ]


# in a process of its own -------------------------------------------------------------------------


def start_ups(rounds: int) -> dict[str, list[float]]:
    """Seconds of start-up of all sides, measured in turn in one Ray session."""
    from mae_ablation.run.session import ray_session

    found: dict[str, list[float]] = {"lane": [], "trainer": [], "tune": []}
    sides = {"lane": lane_gap, "trainer": trainer_gap, "tune": tune_gap}
    with ray_session():
        for _ in range(rounds):
            for name, gap in sides.items():
                with tempfile.TemporaryDirectory() as folder:
                    found[name].append(gap(Path(folder)))
    return found


def lane_gap(place: Path) -> float:
    """Median seconds between the trials of one lane."""
    from mae_ablation.api import plan_study
    from mae_ablation.run.driver import Lanes, run_trials

    levels = [1e-4 * (1 + i / 100) for i in range(TRIALS)]
    study = write_study(place, "many", "pretrain.base_lr", levels)
    store = place / "store"
    store.mkdir()
    trials = plan_study(study, store=store).trials
    lane = Lanes(count=1, cpus=1)
    run_trials(trials, lane, store=store, commit="", show=ignore, say=ignore, work=nothing)
    spans = noted(store)
    assert len(spans) == len(trials), f"{len(spans)} of {len(trials)} trials ran"
    return median(gaps(spans))


def nothing(trial: object, store: str, **how: object) -> None:
    """Stands in for run_trial: notes that it was there."""
    begin = time.time()
    note(Path(store), begin, time.time())


def ignore(said: object) -> None:
    """Stands in for a console."""


def trainer_gap(place: Path) -> float:
    """Seconds between the training functions of two trainers, one after the other."""
    for number in range(2):
        fit(place, f"trial-{number}")
    return gaps(noted(place))[0]


def fit(place: Path, name: str) -> None:
    """What a user writes for one trial of one worker."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(
        empty_loop,
        train_loop_config={"place": str(place)},
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker=ONE_CPU),
        run_config=RunConfig(name=name, storage_path=str(place / "ray")),
    ).fit()


def empty_loop(config: dict) -> None:
    """A training function that trains nothing; Ray has imported torch before it."""
    import torch  # noqa: F401

    begin = time.time()
    note(Path(config["place"]), begin, time.time())


def tune_gap(place: Path) -> float:
    """Seconds between the training functions of two trials of a Tuner."""
    from ray import tune

    def trial(config: dict) -> None:
        fit(place, f"trial-{config['number']}")

    tune.Tuner(
        tune.with_resources(trial, {"cpu": 0.01}),  # as the worker has the CPU; 0 is refused
        param_space={"number": tune.grid_search([0, 1])},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(name="tune", storage_path=str(place / "ray"), verbose=0),
    ).fit()
    return gaps(noted(place))[0]


def main(rounds: str) -> None:
    with contextlib.redirect_stdout(sys.stderr):
        found = start_ups(int(rounds))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
