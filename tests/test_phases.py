"""The trainings: same seed same result, killed and resumed bit for bit, honest about failure."""

import dataclasses
import math

import pytest
import torch
from toys import Killed, a_folder, curve, kill_after, require_same_training, trial_of

from mae_ablation.train import pretrain as pretrain_module
from mae_ablation.train.checkpoints import load_checkpoint
from mae_ablation.train.evaluation import evaluate
from mae_ablation.train.gradient_probe import Head, probe_optimizer
from mae_ablation.train.models import build_model
from mae_ablation.train.optim import decay_groups, generator, lr_at, scaled_lr
from mae_ablation.train.pretrain import pretrain
from mae_ablation.train.run import Diverged, PhaseRun


def test_a_killed_pretraining_resumes_bit_for_bit(toy, tmp_path):
    whole, killed = a_folder(tmp_path, "whole"), a_folder(tmp_path, "killed")
    pretrain(toy, 0, PhaseRun(folder=whole))
    with pytest.raises(Killed):
        pretrain(toy, 0, PhaseRun(folder=killed, report=kill_after(2)))
    killed.files.append(killed.journal.name, b'{"t": 1, "s": 99')
    pretrain(toy, 0, PhaseRun(folder=killed))
    require_same_training(whole, killed)


def test_killed_before_the_first_checkpoint_starts_over(toy, tmp_path):
    slow = dataclasses.replace(toy.pretrain, checkpoint_every_s=1e9)
    recipe = dataclasses.replace(toy, pretrain=slow)
    folder = a_folder(tmp_path, "killed")
    with pytest.raises(Killed):
        pretrain(recipe, 0, PhaseRun(folder=folder, report=kill_after(2)))
    assert folder.checkpoints() == [] and len(curve(folder)) == 2
    pretrain(recipe, 0, PhaseRun(folder=folder))
    assert [step for step, _ in curve(folder)] == [4, 8, 12]


def test_two_checkpoints_are_kept_and_load_without_executing_anything(toy, folder):
    pretrain(toy, 0, PhaseRun(folder=folder))
    assert [checkpoint.step for checkpoint in folder.checkpoints()] == [12, 11]
    state = load_checkpoint(folder.final_checkpoint(), "cpu")  # weights_only
    parts = {"model", "optimizer", "generators"}
    assert set(state) == parts | {"epoch", "step", "seconds", "in_epoch"}
    assert set(state["generators"]) == {"order", "augment", "mask"}


def test_levels_with_the_same_seed_see_the_same_images_in_the_same_order(
    toy, tmp_path, monkeypatch
):
    seen = {}

    def spy(level):
        original = pretrain_module.normalise

        def normalise(pixels, *rest):
            seen.setdefault(level, []).append(pixels.sum(dim=(1, 2, 3)))
            return original(pixels, *rest)

        return original, normalise

    for ratio in (0.5, 0.75):
        original, normalise = spy(ratio)
        monkeypatch.setattr(pretrain_module, "normalise", normalise)
        level = dataclasses.replace(toy.pretrain, mask_ratio=ratio)
        recipe = dataclasses.replace(toy, pretrain=level)
        pretrain(recipe, 0, PhaseRun(folder=a_folder(tmp_path, str(ratio))))
        monkeypatch.setattr(pretrain_module, "normalise", original)
    assert len(seen[0.5]) == 12
    assert all(torch.equal(a, b) for a, b in zip(seen[0.5], seen[0.75], strict=True))


def test_seeds_differ(toy, tmp_path):
    results = [
        pretrain(toy, seed, PhaseRun(folder=a_folder(tmp_path, str(seed)))) for seed in (0, 1)
    ]
    assert results[0]["train_loss"] != results[1]["train_loss"]


def test_result_says_how_it_was_made(toy, folder):
    result = pretrain(toy, 0, PhaseRun(folder=folder, commit="abc"))
    assert result["commit"] == "abc" and result["device"] == "cpu" and result["threads"] == 1
    assert result["images_per_s"] == pytest.approx(3 * 200 / result["seconds"])
    assert result["flops_per_s"] == pytest.approx(
        result["flops_per_image"] * result["images_per_s"]
    )
    ceiling = result["flops_per_s"] / result["mfu"]
    assert 1e9 < ceiling < 1e13, "FLOP/s of matrix products on one thread"
    assert all(0 < row["m"]["pretrain/mfu"] < 1 for row in folder.journal.read())
    assert result["compiled"] is False and result["peak_memory_bytes"] > 1e7
    assert result["versions"]["torch"] == torch.__version__.split("+")[0]


def test_epochs_may_be_shorter_than_the_images_would_allow(toy, tmp_path):
    """As `budget: flops` asks: 3 epochs of 2 of 4 steps are 6 steps, resumed or not."""
    fewer = dataclasses.replace(toy.pretrain, steps_per_epoch=2)
    short = dataclasses.replace(toy, pretrain=fewer)
    whole, cut = (a_folder(tmp_path, name) for name in ("whole", "cut"))
    result = pretrain(short, 0, PhaseRun(folder=whole))
    assert [step for step, _ in curve(whole)] == [2, 4, 6]
    assert result["images_per_s"] == pytest.approx(3 * 2 * 50 / result["seconds"])
    with pytest.raises(Killed):
        pretrain(short, 0, PhaseRun(folder=cut, report=kill_after(2)))
    pretrain(short, 0, PhaseRun(folder=cut))
    require_same_training(cut, whole)


def test_training_learns(toy, folder):
    longer = dataclasses.replace(toy.pretrain, epochs=15, base_lr=1e-2, augmentation="none")
    pretrain(dataclasses.replace(toy, pretrain=longer), 0, PhaseRun(folder=folder))
    values = [m["pretrain/loss"] for _, m in curve(folder)]
    assert values[-1] < 0.8 * values[0]


def test_a_loss_that_is_not_finite_stops_the_phase(toy, folder):
    wild = dataclasses.replace(toy.pretrain, base_lr=1e30)
    wanted = r"loss is nan at step 3 \(epoch 1 of 3\) and in the step after it: stopped"
    with pytest.raises(Diverged, match=wanted):
        pretrain(dataclasses.replace(toy, pretrain=wild), 0, PhaseRun(folder=folder))
    assert [checkpoint.step for checkpoint in folder.checkpoints()] == [2, 1]
    assert curve(folder) == []


def test_one_bad_trial_is_marked_and_tried_again(toy, tmp_path, monkeypatch):
    from mae_ablation.store.folder import Store
    from mae_ablation.train import trial as trial_module

    trial = trial_of(toy, "pretrain", "linear_probe")
    full = "No space left on device"
    monkeypatch.setattr(trial_module, "pretrain", lambda *_: (_ for _ in ()).throw(OSError(full)))
    assert trial_module.run_trial(trial, tmp_path) == f"pretrain: OSError: {full}"
    folder = trial.phases[0].folder(Store(tmp_path))
    assert full in folder.failure()["details"] and folder.result() is None
    monkeypatch.undo()
    assert trial_module.run_trial(trial, tmp_path) is None
    assert folder.failure() is None and folder.result()["identity"] == trial.id
    first = folder.result()
    assert trial_module.run_trial(trial, tmp_path) is None  # nothing is run twice
    assert folder.result() == first


def test_two_evaluations_of_one_pretraining(toy, tmp_path):
    from mae_ablation.store.folder import Store
    from mae_ablation.study.trial import merge
    from mae_ablation.train.trial import run_trial

    def trial(pooling):
        probe = dataclasses.replace(toy.linear_probe, pooling=pooling)
        recipe = dataclasses.replace(toy, linear_probe=probe)
        return trial_of(recipe, "pretrain", "linear_probe", label=pooling)

    assert run_trial(merge(trial("cls"), trial("mean")), tmp_path) is None
    store = Store(tmp_path)
    losses = {p: trial(p).phases[-1].folder(store).result()["train_loss"] for p in ("cls", "mean")}
    assert losses["cls"] != losses["mean"]
    assert len(store.folders("pretrain")) == 1


def test_raw_pixels_and_random_encoder_are_probed_alike(toy, tmp_path):
    for source in ("pixels", "random"):
        folder = a_folder(tmp_path, source)
        result = evaluate(
            toy, "linear_probe", 0, PhaseRun(folder=folder), source=source, upstream=None
        )
        width = {"pixels": 900, "random": 16}[source]
        head = load_checkpoint(folder.final_checkpoint(), "cpu")["head"]
        assert head["linear.weight"].shape == (10, width)
        assert 0 < result["test_acc1"] < 100


def test_probe_uses_the_last_checkpoint_of_its_pretraining(toy, tmp_path):
    upstream = a_folder(tmp_path, "pretrain")
    pretrain(toy, 0, PhaseRun(folder=upstream))
    one = evaluate(
        toy,
        "linear_probe",
        0,
        PhaseRun(folder=a_folder(tmp_path, "one")),
        source="pretrain",
        upstream=upstream,
    )
    upstream.save_checkpoint(99, upstream.checkpoints()[1].read())
    two = evaluate(
        toy,
        "linear_probe",
        0,
        PhaseRun(folder=a_folder(tmp_path, "two")),
        source="pretrain",
        upstream=upstream,
    )
    assert one["train_loss"] != two["train_loss"]


def test_learning_rate_starts_at_zero_warms_up_and_falls_as_a_cosine():
    assert scaled_lr(1.5e-4, 4096) == pytest.approx(2.4e-3)
    at = {e: lr_at(e, peak=1.0, warmup=10, epochs=110) for e in (0, 5, 10, 60, 110)}
    assert at == pytest.approx({0: 0.0, 5: 0.5, 10: 1.0, 60: 0.5, 110: 0.0})
    assert lr_at(35, peak=1.0, warmup=10, epochs=110) == pytest.approx(
        0.5 * (1 + math.cos(math.pi / 4))
    )


def test_tokens_and_matrices_decay_vectors_and_positions_do_not(toy):
    model = build_model(toy, 1, seed=0)
    decayed, spared = decay_groups(model, 0.05)
    names = {id(p): name for name, p in model.named_parameters()}
    assert decayed["weight_decay"] == 0.05 and spared["weight_decay"] == 0
    assert {"cls_token", "mask_token"} <= {names[id(p)] for p in decayed["params"]}
    assert all(names[id(p)].endswith(("bias", "weight")) for p in spared["params"])
    assert "pos_embed" not in {names[id(p)] for g in (decayed, spared) for p in g["params"]}


def test_lars_scales_the_weight_by_its_trust_ratio_and_leaves_the_bias_alone(toy):
    settings = dataclasses.replace(toy.linear_probe, protocol="paper", momentum=0.9)
    head = Head(6, 4, generator(0, "probe/init"))
    optimizer = probe_optimizer(settings, head, lr=0.5)
    weight, bias = head.linear.weight, head.linear.bias
    before = weight.detach().clone()
    weight.grad, bias.grad = torch.randn_like(weight), torch.randn_like(bias)
    optimizer.step()
    trust = 0.001 * before.norm() / weight.grad.norm()
    assert torch.allclose(weight, before - 0.5 * trust * weight.grad, atol=1e-7)
    assert torch.allclose(bias, -0.5 * bias.grad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_phases_run_on_a_gpu(toy, tmp_path):
    folder = a_folder(tmp_path, "pretrain")
    assert pretrain(toy, 0, PhaseRun(folder=folder, device="cuda"))["train_loss"] > 0
    run = PhaseRun(folder=a_folder(tmp_path, "probe"), device="cuda")
    assert (
        evaluate(toy, "linear_probe", 0, run, source="pretrain", upstream=folder)["test_acc1"] > 0
    )
