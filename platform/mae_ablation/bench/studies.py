"""Studies: a whole study, from the command to its table, against what one would do by hand."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean

from mae_ablation.api import plan_study
from mae_ablation.bench import sharing
from mae_ablation.bench.child import ROOT, answer_of, run_module
from mae_ablation.bench.pairs import Row
from mae_ablation.study.plan import Plan

STUDY = ROOT.parent / "studies" / "mask_ratio.yaml"
SCRIPTS = "mae_ablation.bench.scripts"
ROUNDS = 3  # of the other side's parts, at most: one takes a minute
RATIOS = (0.1, 0.5, 0.9)  # masked shares that are timed; steps of others lie between
STEPS = {"pretrain": 30, "probe": 8}  # that are timed
WORKERS = (0, 1, 2)  # of a DataLoader: the fastest is taken
FASTER = 3.0
BUSY = 0.85  # share of the lanes' time that is training, at least
WALL = "run.json"
SEEDS = 1
PHASES = ("pretrain", "linear_probe")
PROTOCOL = "linear_probe.protocol=cached"  # the probe of the scripts, too


def measure(
    rounds: int, store: Path | None = None, changes: Sequence[str] = (), epochs: int | None = None
) -> list[Row]:
    """The laptop's study as a whole, how busy its lanes are, and what sharing saves.

    Args:
        store: where the study is run. If it was run there before, that run is read: `run.json`
            beside the store says {"seconds": wall clock of the command}. Default: a temporary
            folder.
        changes: "field=value" over the laptop recipe, for a smaller study.
        epochs: of the trials that measure sharing, for shorter ones.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = run_of(store or Path(folder) / "store", changes)
    sides = [run.cold_start(rounds, changes), run.efficiency()]
    return [*sides, sharing.measure(rounds, epochs or sharing.EPOCHS)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A study that was run with one command."""

    wall_s: float
    """from the command to its end"""
    lanes: int
    training_s: tuple[float, ...]
    """of every phase, as its result says"""
    plan: Plan

    def cold_start(self, rounds: int, changes: Sequence[str]) -> Row:
        """The study against its scripts, one after the other."""
        workers = {phase: fastest(phase, changes) for phase in STEPS}
        rounds = min(rounds, ROUNDS)
        theirs = tuple(scripts_s(self.plan, parts(workers, changes)) for _ in range(rounds))
        return Row(
            what="laptop study, cold start to table",
            against="the same trials as sequential scripts, one process per phase",
            target=FASTER,
            values=tuple(seconds / self.wall_s for seconds in theirs),
            ours=(self.wall_s,),
            theirs=theirs,
            note=f"Ours: one real run of studies/{self.plan.study.name}.yaml on {self.lanes} "
            "lanes from an empty store, from the command to its report. Theirs is computed from "
            "measured parts: start of the process, steps of pre-training at "
            f"{', '.join(f'{ratio:.0%}' for ratio in RATIOS)} masked (others by the patches kept), "
            "steps of a linear probe that encodes every image in every epoch; times the recipe's "
            "steps and trials. All threads, one image at a time through torchvision, the "
            f"DataLoader's number of workers that was fastest ({workers['pretrain']} and "
            f"{workers['probe']}); without evaluations, checkpoints and a table, which ours has.",
        )

    def efficiency(self) -> Row:
        """Share of the lanes' time from the command to its end that was training."""
        share = sum(self.training_s) / (self.lanes * self.wall_s)
        return Row(
            what="study efficiency: training seconds / (lanes x wall)",
            against="lanes that train all the time",
            target=BUSY,
            values=(share,),
            ours=(sum(self.training_s),),
            theirs=(self.lanes * self.wall_s,),
            note="The same real run: seconds of its "
            f"{len(self.training_s)} phases as their results say (steps with their batches; of a "
            f"linear probe also reading and encoding), over {self.lanes} lanes x "
            f"{self.wall_s:.0f} s from the command to its end. Not counted, so lost: starting "
            "Python, Ray and lanes, models, checkpoints, pictures, validation, waiting for the "
            "other lane's last trial, and the report.",
        )


def run_of(store: Path, changes: Sequence[str]) -> Run:
    """The study's run into this store, made now unless there is one.

    Raises:
        RuntimeError: a run is there whose seconds are not known, or the run failed.
    """
    wall = store.parent / WALL
    if not wall.exists():
        if store.exists():
            raise RuntimeError(f"{store} has a run, but {wall} does not say its seconds")
        words = ["run", STUDY, "--local", "--store", store, "--reports", store.parent / "reports"]
        words += ["--seeds", SEEDS, "--phases", ",".join(PHASES), *flags([PROTOCOL])]
        store.parent.mkdir(parents=True, exist_ok=True)
        _, seconds = run_module("mae_ablation", *words, *flags(changes), cwd=store.parent)
        wall.write_text(json.dumps({"seconds": seconds}))
    plan = plan_of(store, changes)
    results = [phase.folder(plan.store).result() for t in plan.trials for phase in t.phases]
    return Run(
        wall_s=json.loads(wall.read_text())["seconds"],
        lanes=max(result["lanes"] for result in results),
        training_s=tuple(result["seconds"] for result in results),
        plan=plan,
    )


def plan_of(store: Path, changes: Sequence[str]) -> Plan:
    """What both sides do: one seed of the study, with the probe that the scripts have."""
    asked = {"changes": [PROTOCOL, *changes], "seeds": SEEDS, "phases": PHASES}
    return plan_study(STUDY, store=store, **asked)


def flags(changes: Sequence[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


# the other side ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Measured parts of scripts, in seconds."""

    start_s: float
    """of a process, until its first step and after its last"""
    pretrain_epoch_s: dict[int, float]
    """by the patches that are kept"""
    probe_epoch_s: dict[str, float]
    """by what is classified: features of an encoder ("random") or "pixels" """


def scripts_s(plan: Plan, parts: Parts) -> float:
    """Seconds of a plan's trials as scripts, one process after the other."""
    total = 0.0
    epoch_s = between(parts.pretrain_epoch_s)
    for trial in plan.trials:
        recipe = trial.recipe
        if trial.source == "pretrain":
            total += parts.start_s + recipe.pretrain.epochs * epoch_s(recipe.kept_patches)
        probe_s = parts.probe_epoch_s["pixels" if trial.source == "pixels" else "random"]
        total += parts.start_s + recipe.linear_probe.epochs * probe_s
    return total


def between(known: dict[int, float]) -> Callable[[int], float]:
    """What lies on the straight lines between known points, and on the outer ones beyond them."""
    points = sorted(known.items())

    def at(x: int) -> float:
        pairs = list(pairwise(points))
        (x0, y0), (x1, y1) = next((pair for pair in pairs if x <= pair[1][0]), pairs[-1])
        return y0 + (y1 - y0) * (x - x0) / (x1 - x0)

    return at


def parts(workers: dict[str, int], changes: Sequence[str]) -> Parts:
    """Parts of scripts with DataLoaders of so many workers, each from a process of its own."""
    trained = [timed("pretrain", workers, changes, "--ratio", ratio) for ratio in RATIOS]
    probed = {
        source: timed("probe", workers, changes, "--source", source)
        for source in ("random", "pixels")
    }
    return Parts(
        start_s=mean(start_s for _, start_s in (*trained, *probed.values())),
        pretrain_epoch_s={said["kept"]: said["epoch_s"] for said, _ in trained},
        probe_epoch_s={source: said["epoch_s"] for source, (said, _) in probed.items()},
    )


def timed(
    phase: str, workers: dict[str, int], changes: Sequence[str], *words: object
) -> tuple[dict, float]:
    """What a script says of some steps, and seconds of its process without them."""
    said, seconds = answer_of(
        *(SCRIPTS, phase, "--study", STUDY, "--steps", STEPS[phase]),
        *("--workers", workers[phase], *words, *flags(changes)),
    )
    return said, seconds - said["loop_s"]


def fastest(phase: str, changes: Sequence[str]) -> int:
    """Workers of the DataLoader with which an epoch of the phase is shortest here."""
    return min(WORKERS, key=lambda count: timed(phase, {phase: count}, changes)[0]["epoch_s"])
