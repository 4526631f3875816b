"""Stopped after any step and gone on: every training ends bit for bit as an undisturbed one."""

import dataclasses
import io
import math
import time
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from toys import AfterStep, a_folder, change, curve, require_same_training, train_tokenizer

from mae_ablation.train.checkpoints import checkpoint_bytes, load_checkpoint
from mae_ablation.train.evaluation import evaluate
from mae_ablation.train.meter import Meter
from mae_ablation.train.pretrain import pretrain
from mae_ablation.train.run import Diverged, PhaseRun, Stopped

STEPS = 8  # two epochs of four
STOPS = (1, 4, 7, 8)
"""the first step, the end of an epoch, the middle of the other, the end"""


@pytest.fixture
def quick(toy):
    """Two epochs of four steps in every phase, saved at the end only, or when stopped; a tokeniser
    has four epochs."""
    rarely = {"epochs": 2, "warmup_epochs": 0.5, "batch_size": 50, "checkpoint_every_s": 1e9}
    for section in ("pretrain", "linear_probe", "finetune"):
        toy = change(toy, section, **rarely)
    toy = change(
        toy, "pretrain", augmentation="crop_jitter", mask_sampling="block", reconstructions=2
    )
    toy = change(toy, "finetune", random_erasing=0.5, ema=0.9)
    gates = {"min_perplexity": 1, "min_explained": 0}
    return change(toy, "tokenizer", codes=16, epochs=4, batch_size=50, lr=1e-2, **gates)


def probe(recipe, run):
    return evaluate(recipe, "linear_probe", 0, run, source="random", upstream=None)


TRAININGS = {
    "pretrain": lambda recipe, run: pretrain(recipe, 0, run),
    "probe cached": probe,
    "probe paper": lambda r, run: probe(change(r, "linear_probe", protocol="paper"), run),
    "finetune": lambda recipe, run: evaluate(recipe, "finetune", 0, run),
    "tokenizer": train_tokenizer,
}


def said(result):
    """What of a result does not depend on the clock or the machine."""
    names = ("test_acc1", "validation_acc1", "train_loss", "perplexity", "explained")
    return {name: result[name] for name in names if name in result}


@pytest.mark.parametrize("kind", TRAININGS)
def test_stopped_after_any_step_a_training_ends_as_if_it_had_not_been(quick, tmp_path, kind):
    train = TRAININGS[kind]
    whole = a_folder(tmp_path, "whole")
    wanted = train(quick, PhaseRun(folder=whole))
    for step in STOPS:
        folder = a_folder(tmp_path, str(step))
        with pytest.raises(Stopped, match=f"stopped after step {step}$"):
            train(quick, PhaseRun(folder=folder, stop=AfterStep(step)))
        assert [checkpoint.step for checkpoint in folder.checkpoints()] == [step]
        assert len(curve(folder)) == step // 4
        assert said(train(quick, PhaseRun(folder=folder))) == said(wanted)
        require_same_training(whole, folder)


def test_stopped_after_every_step(quick, tmp_path):
    whole, folder = a_folder(tmp_path, "whole"), a_folder(tmp_path, "stopped")
    pretrain(quick, 0, PhaseRun(folder=whole))
    for _ in range(STEPS):
        with pytest.raises(Stopped):
            pretrain(quick, 0, PhaseRun(folder=folder, stop=lambda: True))
    pretrain(quick, 0, PhaseRun(folder=folder))
    require_same_training(whole, folder)


def test_files_of_steps_already_done_are_not_decoded_again(quick, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for split, n in (("train", 24), ("val", 2)):
        for name in ("cat", "dog"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 255, (32 + i, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / split / name / f"{i}.png")
    place = {"name": "image_folder", "folder": str(tmp_path / "set"), "workers": 0}
    sizes = {"train_images": None, "validation_images": 8, "reading": "stream"}
    recipe = change(quick, "data", **place, **sizes)
    recipe = change(recipe, "pretrain", batch_size=10, reconstructions=0)
    whole, folder = a_folder(tmp_path, "whole"), a_folder(tmp_path, "stopped")
    pretrain(recipe, 0, PhaseRun(folder=whole))
    with pytest.raises(Stopped):
        pretrain(recipe, 0, PhaseRun(folder=folder, stop=AfterStep(3)))

    from mae_ablation.data.folder import FolderImages

    names, original = [], FolderImages.read

    def read(images, number):
        names.append(images.names[number])
        return original(images, number)

    monkeypatch.setattr(FolderImages, "read", read)
    pretrain(recipe, 0, PhaseRun(folder=folder))
    require_same_training(whole, folder)
    assert sum("train" in name for name in names) >= 10 + 40
    assert len(names) < (10 + 40) + (8 + 8 + 8 + 4) + 1  # held out images are of train/, too


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(quick, tmp_path):
    whole, folder = a_folder(tmp_path, "whole"), a_folder(tmp_path, "damaged")
    pretrain(quick, 0, PhaseRun(folder=whole))
    often = change(quick, "pretrain", checkpoint_every_s=0)
    with pytest.raises(Stopped):
        pretrain(often, 0, PhaseRun(folder=folder, stop=AfterStep(7)))
    newest = folder.checkpoints()[0]
    folder.files.write(newest.name, newest.read()[:-100])
    with pytest.warns(UserWarning, match="an older one is used"), pytest.raises(Stopped):
        pretrain(quick, 0, PhaseRun(folder=folder, stop=AfterStep(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # the damaged one is gone
        pretrain(quick, 0, PhaseRun(folder=folder))
    require_same_training(whole, folder)


def test_saving_takes_at_most_a_twentieth_of_the_time(quick, tmp_path, monkeypatch):
    from mae_ablation.train import checkpoints

    folder = a_folder(tmp_path, "slow")
    saved, now = [], [time.monotonic() + 10]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: now[0])

    def save(folder, step, data):
        saved.append(step)
        now[0] += 0.09  # seconds

    def stop():
        now[0] += 1.0  # every step
        return False

    monkeypatch.setattr(type(folder), "save_checkpoint", save)
    recipe = change(quick, "pretrain", epochs=5, checkpoint_every_s=1, reconstructions=0)
    pretrain(recipe, 0, PhaseRun(folder=folder, stop=stop))
    assert saved == [1, 4, 7, 10, 13, 16, 19, 20]


# losses that are not finite ----------------------------------------------------------------------


def meter_after(folder, losses, steps):
    meter = Meter(PhaseRun(folder=folder), epochs=30, steps=steps)
    meter.epoch = 2
    for loss in losses:
        meter.add(torch.tensor(loss))
    return meter


NAN, INF = math.nan, math.inf


def test_ten_bad_losses_in_a_row_stop_the_phase(folder):
    losses = [1.0] * 23 + [NAN] * 17
    meter = meter_after(folder, losses[:-1], steps=50)  # looked at every ten steps
    wanted = r"loss is nan at step 124 \(epoch 3 of 30\) and in the 16 steps after it: stopped"
    with pytest.raises(Diverged, match=wanted):
        meter.add(torch.tensor(NAN))
    with pytest.raises(Diverged, match=r"and in the 9 steps after it"):
        meter_after(folder, [1.0] * 20 + [NAN] * 10, steps=50)


def test_bad_losses_now_and_then_stop_it_at_the_end_of_the_epoch(folder):
    meter = meter_after(folder, [1.0, INF, 1.0, NAN, 1.0], steps=5)
    wanted = r"loss is inf at step 12 \(epoch 3 of 30\) and in 1 of the 3 steps after it: stopped"
    with pytest.raises(Diverged, match=wanted):
        meter.finish_epoch()
    meter = meter_after(folder, [3e38] * 4, steps=4)
    with pytest.raises(Diverged, match=r"mean loss of epoch 3 of 30 is inf, each step's is finite"):
        meter.finish_epoch()


def test_no_checkpoint_follows_a_bad_loss(quick, tmp_path):
    wild = change(quick, "pretrain", base_lr=1e30, batch_size=10, checkpoint_every_s=0)
    folder = a_folder(tmp_path, "wild")
    with pytest.raises(Diverged, match=r"nan at step 3 \(epoch 1 of 2\) and in the 9 steps after"):
        pretrain(wild, 0, PhaseRun(folder=folder))
    assert [checkpoint.step for checkpoint in folder.checkpoints()] == [2, 1]
    asked = AfterStep(5)
    folder = a_folder(tmp_path, "stopped")
    with pytest.raises(Stopped):
        pretrain(wild, 0, PhaseRun(folder=folder, stop=asked))
    assert [checkpoint.step for checkpoint in folder.checkpoints()] == [2, 1]


def test_seconds_are_those_of_all_attempts(quick, tmp_path):
    folder = a_folder(tmp_path, "stopped")
    with pytest.raises(Stopped):
        pretrain(quick, 0, PhaseRun(folder=folder, stop=AfterStep(6)))
    state = load_checkpoint(folder.final_checkpoint(), "cpu")
    assert state["in_epoch"]["steps"] == 2 and state["in_epoch"]["seconds"] > 0
    state["in_epoch"]["seconds"] += 1000.0
    file = io.BytesIO(checkpoint_bytes(state))
    folder.save_checkpoint(7, file.getvalue())
    result = pretrain(quick, 0, PhaseRun(folder=folder, attempt=2))
    assert result["seconds"] > 1000 and result["attempts"] == 2 and result["workers"] == 1
    assert dataclasses.asdict(quick)  # the recipe is untouched
