"""A trial: phases are claimed, a full disk is a reason, and stopping is none."""

import dataclasses
import errno
import traceback

import pytest
import torch
from PIL import Image
from torch._utils import ExceptionWrapper
from toys import AfterStep, change, trial_of

from mae_ablation.errors import UserError
from mae_ablation.recipe.recipe import Data
from mae_ablation.store.files import LocalFiles
from mae_ablation.store.folder import Store
from mae_ablation.train import trial as trials
from mae_ablation.train.run import Busy, Stopped
from mae_ablation.train.trial import explain_failure, run_trial


@pytest.fixture
def trial(toy):
    """A pre-training of four steps and a probe of four."""
    for section in ("pretrain", "linear_probe"):
        toy = change(toy, section, epochs=1, warmup_epochs=0, checkpoint_every_s=1e9)
    return trial_of(change(toy, "pretrain", reconstructions=0), "pretrain", "linear_probe")


def folders(trial, root):
    return [phase.folder(Store(root)) for phase in trial.phases]


def out_of_space(monkeypatch, part):
    """The store is full whenever a file whose name holds `part` is written; says which were."""
    tried, write, append = [], LocalFiles.write, LocalFiles.append

    def refuse(original):
        def put(files, name, data):
            if part in name:
                tried.append(name)
                raise OSError(errno.ENOSPC, "No space left on device", name)
            original(files, name, data)

        return put

    monkeypatch.setattr(LocalFiles, "write", refuse(write))
    monkeypatch.setattr(LocalFiles, "append", refuse(append))
    return tried


@pytest.mark.parametrize("part", ["phase.json", "journal", "checkpoint-", "result.json"])
def test_a_full_disk_is_the_reason_whenever_it_is_met(trial, tmp_path, monkeypatch, part):
    tried = out_of_space(monkeypatch, part)
    reason = run_trial(trial, tmp_path)
    assert reason.startswith("pretrain: OSError: [Errno 28] No space left on device: 'pretrain/")
    assert len(tried) == 1  # no evaluation is tried without its pre-training
    assert folders(trial, tmp_path)[0].failure()["reason"] == reason
    monkeypatch.undo()
    assert run_trial(trial, tmp_path) is None
    assert folders(trial, tmp_path)[0].failure() is None


def test_a_failure_that_cannot_be_written_is_told_all_the_same(trial, tmp_path, monkeypatch):
    out_of_space(monkeypatch, "")
    assert "No space left on device" in run_trial(trial, tmp_path)
    assert folders(trial, tmp_path)[0].failure() is None


@pytest.mark.parametrize("name", ["read", "exists", "names"])
def test_a_mount_that_is_gone_is_a_reason(trial, tmp_path, monkeypatch, name):
    def gone(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(LocalFiles, name, gone)
    assert run_trial(trial, tmp_path) == "pretrain: OSError: [Errno 5] Input/output error"


def test_a_place_that_lets_nobody_claim_is_a_reason(trial, tmp_path):
    (tmp_path / ".claims").write_text("")  # not a folder
    assert run_trial(trial, tmp_path).startswith("pretrain: FileExistsError")


def test_a_reason_keeps_its_words_and_its_file_through_a_process():
    """torch hands over a worker's traceback, Ray an error around the actor's own."""
    from ray.exceptions import RayTaskError

    fault = UserError("cannot decode cat.jpg: two pictures\nand more", "/images")
    try:
        raise fault from KeyError("an earlier: one")
    except UserError:
        handed_over = ExceptionWrapper(where="in DataLoader worker process 0")
        from_an_actor = RayTaskError("ask", traceback.format_exc(), fault)
    with pytest.raises(UserError, match="Caught UserError in DataLoader worker process 0") as error:
        handed_over.reraise()
    expected = "pretrain: UserError: /images: cannot decode cat.jpg: two pictures\\nand more"
    assert explain_failure("pretrain", error.value) == expected
    assert explain_failure("pretrain", from_an_actor.as_instanceof_cause()) == expected
    assert explain_failure("pretrain", fault) == expected
    assert explain_failure("pretrain", ValueError()) == "pretrain: ValueError"


def test_an_animation_among_the_images_fails_a_streamed_trial_with_its_name(toy, tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for i in range(4):
                frames = [Image.new("RGB", (30, 30), (60 * i, 0, 0)) for _ in range(2)]
                path = tmp_path / "set" / split / name / f"{i}.jpg"
                frames[0].save(path, format="JPEG")
    moving = tmp_path / "set" / "train" / "dog" / "1.jpg"
    frames[1].save(moving, format="GIF", save_all=True, append_images=[Image.new("RGB", (30, 30))])
    data = Data(
        name="image_folder",
        folder=str(tmp_path / "set"),
        image_size=30,
        reading="stream",
        validation_images=2,
        workers=1,
    )
    toy = change(toy, "pretrain", epochs=1, warmup_epochs=0, batch_size=2, reconstructions=0)
    recipe = dataclasses.replace(toy, data=data)
    trial = trial_of(recipe, "pretrain", "linear_probe")
    assert run_trial(trial, tmp_path / "store") == (
        f"pretrain: UserError: {tmp_path}/set: cannot decode train/dog/1.jpg: holds 2 pictures "
        "(an animation or pages), and one is needed; replace or remove it"
    )


def test_asked_to_stop_a_trial_leaves_a_checkpoint_and_no_failure(trial, tmp_path):
    with pytest.raises(Stopped, match=r"stopped before pretrain/"):
        run_trial(trial, tmp_path, stop=lambda: True)
    with pytest.raises(Stopped, match="stopped after step 2"):
        run_trial(trial, tmp_path, stop=AfterStep(3))  # asked once before the phase
    pretrained, probe = folders(trial, tmp_path)
    assert pretrained.failure() is None and pretrained.result() is None
    assert [checkpoint.step for checkpoint in pretrained.checkpoints()] == [2]
    assert not probe.exists()
    assert run_trial(trial, tmp_path, attempt=2) is None  # the claim was given back
    assert pretrained.result()["attempts"] == 2
    assert run_trial(trial, tmp_path, stop=lambda: True) is None  # nothing is left to be stopped


def test_a_phase_that_another_run_is_at_work_on_is_left_to_it(trial, tmp_path):
    pretrained, _ = folders(trial, tmp_path)
    claim = pretrained.claim("another")
    with pytest.raises(Busy, match=r"^pretrain/.* is at work in another run$"):
        run_trial(trial, tmp_path, owner="mine")
    assert not pretrained.exists()
    claim.release()
    assert run_trial(trial, tmp_path, owner="mine") is None


def test_what_another_run_has_just_finished_is_not_run_again(trial, tmp_path, monkeypatch):
    pretrained, _ = folders(trial, tmp_path)
    claim = type(pretrained).claim

    def late(folder, owner):
        folder.finish({"train_loss": 1.0})  # between the first look and the claim
        return claim(folder, owner)

    monkeypatch.setattr(type(pretrained), "claim", late)
    assert run_trial(trial, tmp_path) is None
    assert pretrained.result() == {"train_loss": 1.0} and pretrained.checkpoints() == []


def test_claims_are_given_back_whatever_happens(trial, tmp_path, monkeypatch):
    pretrained, _ = folders(trial, tmp_path)

    def broken(*_):
        assert pretrained.claim("another") is None  # held while it runs
        raise MemoryError

    monkeypatch.setattr(trials, "pretrain", broken)
    wanted = "pretrain: out of main memory; try a smaller --micro-batch"
    assert run_trial(trial, tmp_path).startswith(wanted)
    claim = pretrained.claim("another")
    assert claim is not None
    claim.release()


@pytest.mark.parametrize(
    ("phase", "remedy"),
    [("pretrain", "set pretrain.gradient_checkpointing=true, or take"), ("finetune", "take")],
)
def test_out_of_gpu_memory_is_said_in_one_line(phase, remedy):
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee manual.")
    assert explain_failure(phase, error) == (
        f"{phase}: out of GPU memory at the smallest micro-batch: {remedy} a larger GPU "
        "(OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.)"
    )
