"""Sharing: what it saves that studies of a suite train their common trials once.

    python -m mae_ablation.bench.sharing ROUNDS EPOCHS     the measurement, in its own process

Three toy studies of three levels each have their baseline in common. They are run as a suite, and
one by one into stores of their own. The time is that of the trials in their lane, from the first
one's beginning to the last one's end: starting Ray and lanes, which a suite does once as well, is
left out, and so are the reference rows, whose trials are short and would not count as one.
"""

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mae_ablation.bench.child import ROOT, answer_of
from mae_ablation.bench.pairs import Row
from mae_ablation.bench.toy import note, noted, write_study

ROUNDS = 5  # at most: one takes a minute and a half
EPOCHS = 10  # of a toy pre-training: a trial takes some three seconds
AGREES = 0.95  # saved time over saved trials, at least
FACTORS = {
    "rate": ("pretrain.base_lr", [1.5e-4, 1e-4, 2e-4]),
    "decay": ("pretrain.weight_decay", [0.05, 0.0, 0.1]),
    "beta": ("pretrain.beta2", [0.95, 0.9, 0.99]),
}
"""the recipe's value first: the baseline, which the studies have in common"""


def measure(rounds: int, epochs: int = EPOCHS) -> Row:
    """Time that sharing saves against trials that it saves."""
    found, _ = answer_of(__name__, min(rounds, ROUNDS), epochs)
    apart, shared = paper_trials()
    return Row(
        what="studies/paper.yaml, sharing on: (time saved) / (trials saved)",
        against="sharing off, every study by itself",
        target=AGREES,
        values=tuple(agreement(**each) for each in found["rounds"]),
        ours=tuple(each["together_s"] for each in found["rounds"]),
        theirs=tuple(each["apart_s"] for each in found["rounds"]),
        note=f"Measured with three toy studies that share their baseline, {found['apart']} trials "
        f"of equal length without sharing and {found['shared']} with it, on one lane: seconds "
        "from the first trial's beginning to the last one's end, summed over the studies without "
        "sharing, over those of the suite; divided by the ratio of the trials. Start-up and "
        "reference rows are left out. paper.yaml itself was planned and not run: "
        f"{apart} trials without sharing, {shared} with it.",
    )


def agreement(*, apart_s: float, together_s: float, apart: int, shared: int) -> float:
    """The ratio of the times over the ratio of the trials; 1: what is shared costs nothing."""
    return (apart_s / together_s) / (apart / shared)


def paper_trials() -> tuple[int, int]:
    """Trials of the paper's studies, planned one by one and together."""
    from mae_ablation.api import plan_studies
    from mae_ablation.study.plan import trials_of

    with tempfile.TemporaryDirectory() as empty:
        plans = plan_studies([ROOT.parent / "studies" / "paper.yaml"], store=empty, seeds=1)
    return sum(len(plan.trials) for plan in plans), len(trials_of(plans))


# in a process of its own -------------------------------------------------------------------------


def compare(rounds: int, epochs: int) -> dict:
    """Trials and seconds of both, measured in turn in one Ray session."""
    from mae_ablation.run.session import ray_session

    found = []
    with ray_session():
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder)
                studies = [write_study(place, name, *FACTORS[name], epochs) for name in FACTORS]
                shared, together_s = run(studies, place / "suite")
                alone = [run([study], place / study.stem) for study in studies]
                apart, apart_s = (sum(figures) for figures in zip(*alone, strict=True))
                found.append(
                    {
                        "apart": apart,
                        "shared": shared,
                        "apart_s": apart_s,
                        "together_s": together_s,
                    }
                )
    return {"apart": found[0]["apart"], "shared": found[0]["shared"], "rounds": found}


def run(studies: Sequence[Path], store: Path) -> tuple[int, float]:
    """Run the pre-trainings of some studies on one lane: how many, and seconds from the first's
    beginning to the last's end."""
    from mae_ablation.api import plan_studies
    from mae_ablation.run.driver import Lanes, run_trials
    from mae_ablation.study.plan import trials_of

    store.mkdir()
    trials = trials_of(plan_studies(studies, store=store))
    trials = [trial for trial in trials if trial.source == "pretrain"]
    lane = Lanes(count=1, cpus=1)
    run_trials(trials, lane, store=store, commit="", show=ignore, say=ignore, work=timed)
    spans = noted(store)
    assert len(spans) == len(trials), f"{len(spans)} of {len(trials)} trials ran"
    return len(trials), spans[-1].end - spans[0].begin


def timed(trial: object, store: str, **how: object) -> str | None:
    """run_trial, and a note of when it was at work."""
    from mae_ablation.train.trial import run_trial

    begin = time.time()
    failure = run_trial(trial, store, **how)
    assert failure is None, failure
    note(Path(store), begin, time.time())
    return None


def ignore(said: object) -> None:
    """Stands in for a console."""


def main(rounds: str, epochs: str) -> None:
    with contextlib.redirect_stdout(sys.stderr):
        found = compare(int(rounds), int(epochs))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
