"""Compiled steps train what plain ones do, and a result says whether torch compiled them."""

import functools

import pytest
import torch
from toys import a_folder, change, losses

from mae_ablation.train.pretrain import pretrain
from mae_ablation.train.run import PhaseRun


@pytest.fixture
def traced(monkeypatch):
    """Stands in for the compiler proper: torch traces the step, and runs the graph as it is."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))


def train(recipe, place, name):
    folder = a_folder(place, name)
    result = pretrain(recipe, 0, PhaseRun(folder=folder))
    return result["compiled"], [loss for _, loss, _ in losses(folder, "pretrain")]


def test_a_compiled_training_has_the_plain_loss_curve(toy, tmp_path, traced):
    plain = train(toy, tmp_path, "plain")
    compiled = train(change(toy, "pretrain", compile=True), tmp_path, "compiled")
    assert (plain[0], compiled[0]) == (False, True)
    assert compiled[1] == pytest.approx(plain[1], rel=1e-4) and len(compiled[1]) == 3


def test_a_step_that_torch_did_not_compile_is_not_said_to_be(toy, tmp_path, traced):
    with torch.compiler.set_stance("force_eager"):
        compiled, _ = train(change(toy, "pretrain", compile=True), tmp_path, "eager")
    assert compiled is False


def test_an_earlier_training_of_the_lane_does_not_use_up_the_limit(toy, tmp_path, traced):
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        for width in (8, 16):
            recipe = change(toy, "model", decoder_width=width)
            recipe = change(recipe, "pretrain", epochs=1, warmup_epochs=0, compile=True)
            assert train(recipe, tmp_path, f"width {width}")[0] is True


def test_every_masking_ratio_of_a_curriculum_is_compiled(toy, tmp_path, traced, monkeypatch):
    """Ratios beyond torch's limit would run uncompiled, and with a log line only."""
    monkeypatch.setattr(type(toy), "kept_at", lambda recipe, epoch: 9 + epoch)
    recipe = change(toy, "pretrain", compile=True)
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        assert train(recipe, tmp_path, "curriculum")[0] is True
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3


@pytest.mark.slow
@pytest.mark.rare
def test_so_it_is_with_the_compiler_proper(toy, tmp_path):
    compiled, curve = train(change(toy, "pretrain", compile=True), tmp_path, "compiled")
    assert compiled and curve == pytest.approx(train(toy, tmp_path, "plain")[1], rel=1e-4)
