"""Equal FLOPs: steps are what is made equal, and what cannot be equal is said."""

import pytest
from conftest import ROOT, TOY_RECIPE

from mae_ablation.api import plan_study
from mae_ablation.report.results import results_frame
from mae_ablation.report.summary import describe_plans
from mae_ablation.report.table import table_frame
from mae_ablation.study.budget import EQUAL, training_ratio

USUAL = "pretrain: {epochs: 2, warmup_epochs: 1, batch_size: 50}"
RECIPE = TOY_RECIPE.replace(USUAL, "pretrain: {epochs: 8, warmup_epochs: 1, batch_size: 10}")
RATIOS = "recipe: toy\nfactors:\n  mask_ratio: [0.1, 0.3, 0.75, 0.9]\n"


def ratios(plan):
    """FLOPs of every level's pre-training over the baseline's."""
    return [training_ratio(row.recipe, plan.study.baseline, plan.data) for row in plan.rows]


def test_equal_epochs_are_the_default(planned):
    assert {row.recipe.pretrain.epochs for row in planned(RATIOS).rows} == {8}


def test_equal_flops_give_cheap_levels_more_steps(planned):
    plan = planned(RATIOS + "budget: flops\n")
    assert ratios(plan) == pytest.approx([1, 1, 1, 1], abs=EQUAL)
    settings = [row.recipe.pretrain for row in plan.rows]
    steps = [s.epochs * (s.steps_per_epoch or 20) for s in settings]
    assert steps == sorted(steps) and steps[0] < steps[2] == 160 < steps[3]
    assert plan.rows[2].is_baseline and settings[2].steps_per_epoch is None
    assert [s.warmup_epochs / s.epochs for s in settings] == [1 / 8] * 4
    said = describe_plans([], [plan], 2)
    assert "budget: the FLOPs of the baseline's 8 epochs of 20 steps\n" in said
    assert " 8 epochs of 20 steps x 1.00 of the baseline's FLOPs per image = 1.00 of its" in said
    table = table_frame(plan, results_frame(plan))
    assert table["training"][:4].tolist() == pytest.approx(ratios(plan))
    assert not table["note"].str.contains("FLOPs").any() and "not equal" not in said


def test_flops_that_cannot_be_equal_are_said(planned):
    """Two steps in all, of which a level with mask tokens can have one: it is more than equal."""
    study = "recipe: toy\nbudget: flops\nfactors:\n  encoder_mask_tokens: [false, true]\n"
    two = "pretrain: {epochs: 1, warmup_epochs: 0, batch_size: 100}"
    plan = planned(study, TOY_RECIPE.replace(USUAL, two))
    _, ratio = ratios(plan)
    assert plan.rows[1].recipe.pretrain.steps_per_epoch == 1 and abs(ratio - 1) > EQUAL
    said = f"= {ratio:.2f} of its training: not equal, the training has too few steps for that"
    assert said in describe_plans([], [plan], 2)
    notes = table_frame(plan, results_frame(plan))["note"]
    assert "FLOPs" not in notes[0] and f"{ratio:.2f} times the baseline's FLOPs" in notes[1]


@pytest.mark.parametrize("recipe", [None, "cifar10", "imagenet", "imagenet100", "imagenet_vitb"])
@pytest.mark.parametrize("study", ["mask_ratio_flops", "mask_token_flops"])
def test_the_shipped_studies_at_equal_flops_are_equal(study, recipe):
    plan = plan_study(ROOT / "studies" / f"{study}.yaml", store=ROOT / "none", recipe=recipe)
    assert ratios(plan) == pytest.approx([1] * len(plan.rows), abs=EQUAL)


def test_a_level_s_own_warm_up_keeps_its_share(planned):
    study = "recipe: toy\nbudget: flops\nfactors:\n  how:\n"
    plan = planned(study + "    long: {mask_ratio: 0.1, pretrain.warmup_epochs: 4}\n")
    level = plan.rows[1].recipe.pretrain
    assert level.epochs < 8 and level.warmup_epochs == level.epochs / 2
