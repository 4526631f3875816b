"""Steps are compiled where it was measured to pay, and then go on so."""

import dataclasses

import pytest
from test_masked_loss import PlainLoss
from test_phases import Killed, a_folder, kill_after, losses, same_state

from mae_ablation.mae.masked_loss import MaskedLoss
from mae_ablation.phases import kernels as kernels_module
from mae_ablation.phases.kernels import Kernels, Measured, notes, recall, remember
from mae_ablation.phases.models import build_model
from mae_ablation.phases.precision import Precision
from mae_ablation.phases.pretrain import blank_share, pretrain
from mae_ablation.phases.run import PhaseRun


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def compiled(monkeypatch):
    """Stands in for the compiler: the modules it was given."""
    given = []

    def compile(module):
        given.append(module)
        return PlainLoss(module.model)

    monkeypatch.setattr(kernels_module.torch, "compile", compile)
    return given


def decided(recipe, steps, flops=1e9, setting="auto", fused=False):
    kernels = Kernels(setting, "cpu", {"width": 16}, fused=fused)
    arguments = blank_share(recipe, 1, 10, "cpu")
    model = MaskedLoss(build_model(recipe, 1, 0))
    choice = kernels.decided(
        model, arguments, Precision("float32", "cpu"), steps=steps, flops=flops
    )
    return choice, kernels, model


@pytest.mark.parametrize(
    ("steps", "pays"), [(100, False), (600, False), (601, True), (10_000, True)]
)
def test_it_pays_where_steps_win_back_twice_what_compiling_costs(steps, pays):
    measured = Measured(plain_s=1.0, compiled_s=0.9, compiling_s=30.0)
    assert measured.pays(steps) is pays
    slower = dataclasses.replace(measured, compiled_s=1.1)
    assert not slower.pays(steps)
    assert not dataclasses.replace(measured, failure="no compiler").pays(steps)


def test_a_short_training_is_not_asked(toy, compiled):
    assert decided(toy, steps=100)[0] is False
    assert compiled == [] and not notes().exists()


def test_a_long_training_is_measured_once_for_the_machine(toy, compiled, monkeypatch):
    monkeypatch.setattr(kernels_module, "SHORT_S", 0.0)
    choice, kernels, model = decided(toy, steps=10**9)
    assert compiled == [model] and kernels.measured.plain_s > 0
    assert all(p.grad is None for p in model.parameters()), "a test leaves no gradients"
    again, other, _ = decided(toy, steps=10**9)
    assert compiled == [model] and other.measured == kernels.measured and again == choice


def test_beside_fused_functions_it_is_not_tried(toy, compiled, monkeypatch):
    monkeypatch.setattr(kernels_module, "SHORT_S", 0.0)
    choice, kernels, _ = decided(toy, steps=10**9, fused=True)
    assert choice is False and compiled == [] and kernels.measured.plain_s > 0
    assert kernels.facts()["fused"] is True
    assert decided(toy, steps=1, setting="always", fused=True)[0] is True, "if asked to"


@pytest.mark.parametrize("promised", [True, False])
def test_bfloat16_is_timed_where_the_device_promises_more(toy, compiled, monkeypatch, promised):
    monkeypatch.setattr(kernels_module, "SHORT_S", 0.0)
    rates = {"float32": 1e11, "bfloat16": 2e11 if promised else 1e11}
    monkeypatch.setattr(
        kernels_module, "ceiling_flops_per_s", lambda device, name, threads: rates[name]
    )
    measured = decided(toy, steps=10**9)[1].measured
    assert (measured.bfloat16_s is not None) is promised


def test_what_cannot_be_compiled_is_trained_as_it_is(toy, monkeypatch):
    def compile(module):
        return lambda *arguments: 1 / 0

    monkeypatch.setattr(kernels_module.torch, "compile", compile)
    monkeypatch.setattr(kernels_module, "SHORT_S", 0.0)
    choice, kernels, _ = decided(toy, steps=10**9)
    assert choice is False
    assert kernels.facts()["measured"]["failure"] == "ZeroDivisionError: division by zero"


def test_a_damaged_note_is_measured_again():
    remember("a", Measured(plain_s=1.0, compiled_s=0.5, compiling_s=2.0))
    remember("b", Measured(plain_s=2.0, compiled_s=0.5, compiling_s=2.0))
    assert recall("a").plain_s == 1.0 and recall("b").plain_s == 2.0
    notes().write_text("{")
    assert recall("a") is None


def test_what_a_training_began_with_it_goes_on_with(toy, tmp_path, compiled):
    def recipe(setting):
        return dataclasses.replace(toy, pretrain=dataclasses.replace(toy.pretrain, compile=setting))

    whole, killed = a_folder(tmp_path, "whole"), a_folder(tmp_path, "killed")
    result = pretrain(recipe("always"), 0, PhaseRun(folder=whole))
    assert result["compiled"] is True and len(compiled) == 1
    with pytest.raises(Killed):
        pretrain(recipe("always"), 0, PhaseRun(folder=killed, report=kill_after(1)))
    result = pretrain(recipe("auto"), 0, PhaseRun(folder=killed))
    assert result["compiled"] is True and len(compiled) == 3
    assert losses(whole, "pretrain") == losses(killed, "pretrain")
    same_state(whole, killed)
    plain = a_folder(tmp_path, "plain")
    with pytest.raises(Killed):
        pretrain(recipe("always"), 0, PhaseRun(folder=plain, report=kill_after(1)))
    assert pretrain(recipe("never"), 0, PhaseRun(folder=plain))["compiled"] is False, "if asked to"


def test_blocks_that_are_computed_again_give_the_same(toy, tmp_path):
    saving = dataclasses.replace(toy.pretrain, recompute=True)
    kept, saved = a_folder(tmp_path, "kept"), a_folder(tmp_path, "saved")
    pretrain(toy, 0, PhaseRun(folder=kept))
    pretrain(dataclasses.replace(toy, pretrain=saving), 0, PhaseRun(folder=saved))
    assert losses(kept, "pretrain") == losses(saved, "pretrain")
    same_state(kept, saved)


@pytest.mark.slow
def test_a_compiled_training_has_the_plain_loss_curve(toy, tmp_path):
    def run(setting):
        recipe = dataclasses.replace(
            toy, pretrain=dataclasses.replace(toy.pretrain, compile=setting)
        )
        folder = a_folder(tmp_path, setting)
        pretrain(recipe, 0, PhaseRun(folder=folder))
        return [loss for _, loss, _ in losses(folder, "pretrain")]

    assert run("always") == pytest.approx(run("never"), rel=1e-4)
