"""Toys that many stories share: fake results, curves and damage in a store; stores compared."""

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import yaml
from conftest import ROOT

from mae_ablation.api import plan_study
from mae_ablation.run.session import Session
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.request import Request

OF_THE_RUN = ("seconds", "images_per_s", "flops_per_s", "finished_at", "peak_memory_bytes", "lanes")
OF_THE_RUN += ("mfu", "attempt", "attempts", "commit")


def session_of(*studies: Path, **asked) -> Session:
    """A session as the command line makes it of these files and flags."""
    return Session.load(Request(studies, **asked))


def run_undisturbed(study: Path, store: Path) -> None:
    """All trials of a study in this process, with one thread as in a lane: sums in another order
    are other numbers."""
    import torch

    from mae_ablation.train.trial import run_trial

    torch.set_num_threads(1)
    plan = plan_study(study, store=store)
    assert {run_trial(trial, store) for trial in plan.trials} == {None}


def give_accuracies(plan, accuracy: dict[str, list]) -> None:
    """Fake results of a plan: test accuracy by a row's label and the seed's place; None: failed.

    Of tuned values every try gets the same.
    """
    for row in (*plan.rows, *plan.references):
        for value, seed in zip(accuracy[row.label], row.trials, strict=False):
            for phase in {p.identity: p for t in row.tries for p in t.trials[seed].phases}.values():
                folder = phase.folder(plan.store)
                folder.begin(phase.document)
                if value is None:
                    folder.fail("pretrain: Diverged: loss is nan", "traceback")
                    continue
                numbers = {"train_loss": 0.5, "seconds": 1.0, "commit": "abc"}
                folder.finish({"test_acc1": value, "validation_acc1": value, **numbers})


def tabulate(path: Path, store: Path, accuracy: dict[str, list], **asked):
    """Plan, table and results of a study whose rows have the given accuracies."""
    from mae_ablation.report.results import results_frame
    from mae_ablation.report.table import table_frame

    plan = plan_study(path, store=store, **asked)
    give_accuracies(plan, accuracy)
    results = results_frame(plan)
    return plan, table_frame(plan, results), results


# the store of a study without evaluations, as its lanes leave it -------------------------------

PRETRAIN_STUDY = """\
recipe: toy
factors:
  mask_ratio: [0.5, 0.75]
phases: [pretrain]
seeds: 2
"""
RESULT = {
    "commit": "abc",
    "finished_at": "2026-01-31T12:00:00Z",
    "train_loss": 0.5,
    "seconds": 2.0,
    "images_per_s": 9.0,
}


def folder_of(plan, trial):
    return trial.phases[0].folder(plan.store)


def train(plan, trial, steps, first=0, finish=False, **facts):
    """What a lane, of this driver or another, leaves in the store."""
    folder = folder_of(plan, trial)
    folder.begin(trial.phases[0].document)
    for step in range(first, steps):
        folder.journal.append(step, {"pretrain/loss": 1 / (step + 1), "pretrain/epoch": step})
    if finish:
        folder.finish({**RESULT, **facts})


def points_by_trial(plan):
    """Every point of the store."""
    return {
        trial.id: sorted(
            (name, row["t"], row["s"], value)
            for row in folder_of(plan, trial).journal.read()
            for name, value in row["m"].items()
        )
        for trial in plan.trials
    }


# trouble ----------------------------------------------------------------------------------------

CLAIM = """
import sys, time
from mae_ablation.store.folder import PhaseFolder, Store
claim = Store(sys.argv[1]).phase("pretrain", "x", sys.argv[2]).claim("other")
print("held" if claim else "refused", flush=True)
time.sleep(600)
"""


def claim_in_another_process(place: Path, identity: str = "0123456789ab"):
    """A process that tries to claim a pre-training of `place`, and "held" or "refused"."""
    words = [sys.executable, "-c", CLAIM, str(place / "store"), identity]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT / "platform")
    return process, process.stdout.readline().strip()


def damage(folder, checkpoint) -> None:
    """Change one bit in the middle of a checkpoint."""
    path = folder.files.path / checkpoint.name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def quoted(text: str) -> str:
    """A text as YAML's own writer quotes it, in one line."""
    return yaml.safe_dump(text, default_style='"', width=10_000, allow_unicode=True).strip()


# trainings ---------------------------------------------------------------------------------------

QUICK = {"epochs": 2, "warmup_epochs": 0.5, "batch_size": 50, "checkpoint_every_s": 0}


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def kill_after(epoch: int):
    """What a training reports to, until it is killed at the end of an epoch."""

    def report(progress):
        if progress.get("epoch") == epoch:
            raise Killed

    return report


class AfterStep:
    """Asks to stop after so many questions, one is put after every step."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def change(recipe, section: str, **values):
    """A recipe with other values in one section."""
    return replace(recipe, **{section: replace(getattr(recipe, section), **values)})


def trial_of(recipe, *phases: str, seed: int = 0, label: str = "toy"):
    """A trial of a recipe with these phases."""
    from mae_ablation.data.catalog import facts
    from mae_ablation.study.trial import make_trial

    study = SimpleNamespace(phases=phases, measure="accuracy", baseline=recipe)
    return make_trial(study, recipe, seed, "pretrain", label, facts(recipe.data))


def train_tokenizer(recipe, run) -> dict:
    """The preparation of a recipe whose target is tokens."""
    from mae_ablation.train.preparation import fit_target

    return fit_target(change(recipe, "pretrain", target="dvae_token"), run)


def a_folder(place: Path, name: str) -> PhaseFolder:
    (place / name).mkdir()
    return PhaseFolder.at(place / name)


def losses(folder, phase: str) -> list:
    return [(step, m[f"{phase}/loss"], m[f"{phase}/lr"]) for step, m in curve(folder)]


def require_same_training(one, other) -> None:
    """Both ended with the same curve, pictures and last checkpoint, generators included."""
    from mae_ablation.train.checkpoints import load_checkpoint

    ours, theirs = (load_checkpoint(folder.final_checkpoint(), "cpu") for folder in (one, other))
    for state in (ours, theirs):
        assert state.pop("in_epoch")["steps"] == 0
        del state["seconds"]
    assert ours.keys() == theirs.keys()
    for part, value in ours.items():
        assert same(value, theirs[part]), part
    assert curve(one) == curve(other)
    assert one.pictures() == other.pictures()


# two stores -------------------------------------------------------------------------------------


def require_same(one: Path, other: Path) -> None:
    """Both stores hold the same phases, with the same curves, results and weights."""
    names = [folder.name for folder in Store(one).folders()]
    assert names and names == [folder.name for folder in Store(other).folders()]
    for ours, theirs in zip(Store(one).folders(), Store(other).folders(), strict=True):
        assert curve(ours) == curve(theirs), ours.name
        assert settled(ours.result()) == settled(theirs.result()), ours.name
        assert ours.failure() is None
        assert bool(ours.checkpoints()) == bool(theirs.checkpoints())
        if ours.checkpoints():
            assert same(weights(ours), weights(theirs)), ours.name


def curve(folder) -> list:
    """The journal without its times and speeds."""
    return [
        (row["s"], {k: v for k, v in row["m"].items() if not is_speed(k)})
        for row in folder.journal.read()
    ]


def is_speed(metric: str) -> bool:
    return metric.endswith(("images_per_s", "mfu"))


def settled(result: dict) -> dict:
    return {name: value for name, value in result.items() if name not in OF_THE_RUN}


def weights(folder) -> object:
    import torch

    state = torch.load(BytesIO(folder.final_checkpoint()), weights_only=True)
    return state.get("model", state.get("head"))


def same(one: object, other: object) -> bool:
    import torch

    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


def require_every_point_once(database: Path, store: Path) -> None:
    """MLflow has each point of the journals, and none twice; every run is finished."""
    expected = {}
    for folder in Store(store).folders():
        for step, metrics in curve(folder):
            for key, value in metrics.items():
                expected.setdefault((key, step), []).append(value)
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "select run_uuid, key, step, value from metrics "
            "where key like '%/%' and key not like '%images_per_s' and key not like '%/mfu'"
        ).fetchall()
        status = connection.execute("select distinct status from runs").fetchall()
    assert len({row[:3] for row in rows}) == len(rows), "a point stands there twice"
    found = {}
    for _, key, step, value in rows:
        found.setdefault((key, step), []).append(value)
    assert {k: sorted(v) for k, v in found.items()} == {k: sorted(v) for k, v in expected.items()}
    assert status == [("FINISHED",)]


def journals(place: Path) -> list[dict]:
    paths = place.glob("store/*/*/journal.jsonl")
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]
