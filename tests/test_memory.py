"""A GPU's memory decides how many images are taken at a time; batch and loss stay the recipe's."""

import pytest
import torch
from toys import change, curve, trial_of

from mae_ablation.recipe.batch import fit_micro_batch, split_batch
from mae_ablation.recipe.cost import classifier_memory, pretrain_memory
from mae_ablation.recipe.recipe import Data, Model, Recipe
from mae_ablation.run.lanes import Lanes, division_lines
from mae_ablation.store.folder import Store
from mae_ablation.train import device
from mae_ablation.train import trial as trials
from mae_ablation.train.models import build_model
from mae_ablation.train.run import PhaseRun
from mae_ablation.train.trial import run_trial
from mae_ablation.train.workers import Workers

torch.set_num_threads(1)
GIB = 2**30
VIT_L = Recipe(data=Data(image_size=224))


# the estimate -------------------------------------------------------------------------------------


def test_the_paper_s_batch_on_gpus_of_several_sizes():
    """ViT-L, 4,096 images on eight workers: 329 M parameters take 5.3 GB, an image 0.19 GB."""

    def division(gib, recipe=VIT_L):
        at_most = fit_micro_batch(4096, 8, None, gib * GIB, pretrain_memory(recipe, 3))
        return split_batch(4096, 8, at_most)

    assert {gib: division(gib) for gib in (16, 40, 80)} == {
        16: (32, 16),
        40: (128, 4),
        80: (256, 2),
    }
    half = change(VIT_L, "pretrain", precision="bfloat16")
    assert division(80, half) == (512, 1)
    again = change(VIT_L, "pretrain", gradient_checkpointing=True)
    assert division(16, again) == (256, 2)
    assert division(5) == (2, 256), "what does not fit by the estimate is tried all the same"
    always, per_image = classifier_memory(VIT_L, VIT_L.finetune, 3)
    assert (
        always == pytest.approx(16 * 303e6, rel=0.01) and per_image > pretrain_memory(VIT_L, 3)[1]
    )


def test_the_user_s_limit_counts_too_and_a_small_batch_stays_whole():
    needed = pretrain_memory(VIT_L, 3)
    assert fit_micro_batch(4096, 8, 64, 40 * GIB, needed) == 64
    assert fit_micro_batch(64, 1, None, 40 * GIB, needed) is None
    assert fit_micro_batch(4095, 1, None, 40 * GIB, needed) is None, "it cannot be divided"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_estimate_is_a_little_above_what_autograd_keeps(precision, monkeypatch):
    """Counted on tensors without content on a GPU that is not there."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_, **__: True)
    shape = {"encoder_width": 192, "encoder_depth": 4, "encoder_heads": 3, "decoder_width": 128}
    recipe = Recipe(
        data=Data(image_size=224), model=Model(**shape, decoder_depth=2, decoder_heads=4)
    )
    recipe = change(recipe, "pretrain", precision=precision)
    n, kept = 32, []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        model = build_model(recipe, 3, seed=0)
        images, shuffle = torch.empty(n, 3, 224, 224), torch.empty(n, 196, dtype=torch.long)
        half = torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16")
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
        with half, hooks:
            model(images, shuffle, recipe.kept_patches)
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in kept}
    found = sum(size for place, size in storages.items() if place not in weights) / n
    assert 1.0 < pretrain_memory(recipe, 3)[1] / found < 1.4


# out of memory ------------------------------------------------------------------------------------


@pytest.fixture
def small_gpu(monkeypatch):
    """Memory for so many images at a time; says how large each forward pass was."""
    seen = []

    def install(at_most, after=0):
        from mae_ablation.mae.model import MaskedAutoencoder

        forward = MaskedAutoencoder.forward

        def limited(model, images, *rest):
            seen.append(len(images))
            if len(images) > at_most and len(seen) > after:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(model, images, *rest)

        monkeypatch.setattr(MaskedAutoencoder, "forward", limited)
        return seen

    return install


@pytest.fixture
def trial(toy):
    """Twelve steps of 40 images, a checkpoint after each."""
    toy = change(toy, "pretrain", reconstructions=0, batch_size=40)
    return trial_of(toy, "pretrain")


def test_out_of_memory_is_gone_on_with_half_as_many_images(trial, tmp_path, small_gpu):
    assert run_trial(trial, tmp_path / "whole") is None
    seen, said = small_gpu(at_most=10, after=6), []
    assert run_trial(trial, tmp_path / "small", report=said.append) is None
    # six steps of 40, then 40, 20 and, from the last checkpoint on, nine steps of four times 10
    assert seen == [40] * 7 + [20] + [10] * 4 * 9
    whole, small = (trial.phases[0].folder(Store(tmp_path / n)) for n in ("whole", "small"))
    result = small.result()
    named = ("micro_batch", "accumulated", "out_of_memory")
    assert [result[name] for name in named] == [10, 4, 2]
    assert said[-1]["phase"] == "pretrain (micro-batch 10 after out of memory)"
    assert not set(named) & set(whole.result())
    for (step, ours), (_, theirs) in zip(curve(small), curve(whole), strict=True):
        assert ours["pretrain/loss"] == pytest.approx(theirs["pretrain/loss"], rel=1e-4), step


def test_where_not_even_two_images_fit_the_phase_fails_with_the_remedy(trial, tmp_path, small_gpu):
    seen = small_gpu(at_most=0)
    reason = run_trial(trial, tmp_path)
    assert "set pretrain.gradient_checkpointing=true" in reason and min(seen) == 2


def test_several_workers_are_started_again_together(folder, monkeypatch):
    """The one that ran out of memory notes it, and does not go on: the others wait for it."""

    def fail(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(trials, "train_phase", fail)
    run = PhaseRun(folder=folder, workers=Workers(rank=1, size=2), division={"micro_batch": 40})
    with pytest.raises(torch.OutOfMemoryError):
        trials.train_within_memory(None, None, run, None)
    assert folder.shortage() == {"micro_batch": 20, "times": 1}


# a GPU and its parts ------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of 80 GiB, 50 of them free, 10 held by this process; notes what is asked of it."""
    asked = {}
    values = {
        "current_device": lambda: 0,
        "get_device_properties": lambda _: type("Gpu", (), {"total_memory": 80 * GIB}),
        "mem_get_info": lambda: (50 * GIB, 80 * GIB),
        "memory_reserved": lambda: 10 * GIB,
        "empty_cache": lambda: asked.setdefault("emptied", True),
        "set_per_process_memory_fraction": lambda share: asked.setdefault("share", share),
    }
    for name, value in values.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return asked


def test_a_quarter_of_a_gpu_fills_a_quarter_of_its_memory(gpu):
    device.share_gpu(1.0)
    assert not gpu and device.usable_gpu_bytes(1.0) == 60 * GIB
    device.share_gpu(0.25)
    assert 0.24 < gpu["share"] < 0.25, "CUDA's own context is in the quarter, too"
    assert 19 * GIB < device.usable_gpu_bytes(0.25) < 20 * GIB


def test_a_worker_holds_to_its_share(gpu):
    assert Workers.connect(None, 0.5).gpu_share == 0.5 and 0.49 < gpu["share"] < 0.5


def test_a_plan_for_gpus_of_a_known_type_says_the_division_and_the_remedy():
    on = {"gpus": 1, "workers": 8, "accelerator": "A100"}
    assert division_lines(VIT_L, ["pretrain", "finetune", "linear_probe"], Lanes(**on)) == [
        "batch 4096 = 8 workers x 128 images x 4 accumulated (pretrain)",
        "batch 1024 = 8 workers x 64 images x 2 accumulated (finetune)",
        "batch 16384 = 8 workers x 2048 images x 1 accumulated (linear_probe)",
    ]
    quarter = division_lines(
        VIT_L, ["pretrain"], Lanes(**{**on, "accelerator": "T4", "gpus": 0.25})
    )
    assert quarter[0] == (
        "not even two images fit into T4, by the estimate: "
        "set pretrain.gradient_checkpointing=true (pretrain)"
    )


def test_a_trial_on_a_gpu_knows_its_memory_and_gives_it_back(trial, tmp_path, gpu, monkeypatch):
    seen = {}

    def train(trial, place, workers, owner, run_as):
        seen.update(run_as)
        gpu.clear()

    monkeypatch.setattr(trials, "run_phases", train)
    run_trial(trial, tmp_path)
    assert "memory_bytes" not in seen and not gpu, "on a CPU nothing is asked of a GPU"
    run_trial(trial, tmp_path, device="cuda", workers=Workers(gpu_share=0.25))
    assert 19 * GIB < seen["memory_bytes"] < 20 * GIB and gpu == {"emptied": True}
