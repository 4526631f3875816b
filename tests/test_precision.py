"""Precision is part of what a training is; each one trains, and goes on after a kill."""

import dataclasses

import pytest
import torch
from toys import Killed, a_folder, change, kill_after, losses, require_same_training

from mae_ablation.study.identity import evaluation_document, identity, pretrain_document
from mae_ablation.train.evaluation import evaluate
from mae_ablation.train.precision import NumberFormat
from mae_ablation.train.pretrain import pretrain
from mae_ablation.train.run import PhaseRun


def at(recipe, section, precision):
    return change(recipe, section, precision=precision)


def test_another_precision_is_another_training(toy):
    names = ("float32", "tf32", "bfloat16", "float16")
    trained = {identity(pretrain_document(at(toy, "pretrain", name), 0, "f", 1)) for name in names}
    assert len(trained) == 4

    def probe(recipe, source):
        return identity(evaluation_document("linear_probe", recipe, 0, "f", source, None))

    half = at(toy, "linear_probe", "bfloat16")
    assert probe(half, "random") != probe(toy, "random")
    assert probe(half, "pixels") == probe(toy, "pixels"), "raw pixels are not encoded"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_and_resumes_bit_for_bit(toy, tmp_path, precision):
    recipe = at(toy, "pretrain", precision)
    whole, killed, full = (a_folder(tmp_path, name) for name in ("whole", "killed", "full"))
    pretrain(recipe, 0, PhaseRun(folder=whole))
    with pytest.raises(Killed):
        pretrain(recipe, 0, PhaseRun(folder=killed, report=kill_after(1)))
    pretrain(recipe, 0, PhaseRun(folder=killed))
    require_same_training(whole, killed)
    pretrain(toy, 0, PhaseRun(folder=full))
    for (_, half, _), (_, single, _) in zip(
        losses(whole, "pretrain"), losses(full, "pretrain"), strict=True
    ):
        assert half == pytest.approx(single, rel=0.02) and half != single


def test_evaluations_take_half_precision(toy, tmp_path):
    recipe = at(toy, "linear_probe", "bfloat16")
    run = PhaseRun(folder=a_folder(tmp_path, "probe"))
    half = evaluate(recipe, "linear_probe", 0, run, source="random", upstream=None)
    assert 10 < half["test_acc1"] <= 100
    small = dict(epochs=1, warmup_epochs=0, batch_size=50, randaugment_magnitude=0)
    tuned = dataclasses.replace(toy.finetune, **small, precision="bfloat16")
    recipe = dataclasses.replace(toy, finetune=tuned)
    run = PhaseRun(folder=a_folder(tmp_path, "finetune"))
    assert evaluate(recipe, "finetune", 0, run)["train_loss"] > 0


def test_tensorfloat_is_on_in_the_passes_that_asked_for_it_alone():
    """Crops and tokens are computed between them; so are another evaluation's features."""
    matmul, cudnn, seen = torch.backends.cuda.matmul, torch.backends.cudnn, []
    weight = torch.ones(2, requires_grad=True)
    weight.register_hook(lambda grad: seen.append(matmul.allow_tf32))
    for precision, allowed in (("tf32", True), ("float32", False)):
        numbers = NumberFormat(precision, "cpu")
        with numbers.autocast():
            loss = weight.sum()
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (allowed, allowed)
        assert not matmul.allow_tf32 and not cudnn.allow_tf32
        numbers.backward(loss)
        assert not matmul.allow_tf32 and not cudnn.allow_tf32
    assert seen == [True, False], "in the backward pass, too"
