"""Designs: one factor at a time, a grid, a zip, and combinations that are left out."""

import pytest

from mae_ablation.api import plan_study
from mae_ablation.errors import UserError
from mae_ablation.report.results import results_frame
from mae_ablation.report.summary import describe_plans
from mae_ablation.report.table import table_frame

TWO = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75, 0.9]\n  decoder_depth: [1, 2]\n"
SAMPLINGS = """\
recipe: toy
design: grid
factors:
  how:
    random_75: {}
    grid_75: {mask_sampling: grid}
    block_50: {mask_sampling: block, mask_ratio: 0.5}
  decoder_depth: [1, 2]
"""


def labels(plan):
    return [row.label for row in plan.rows]


def test_without_a_design_each_level_changes_one_factor(planned):
    plan = planned(TWO)
    assert plan.study.design == "one_factor"
    assert labels(plan) == ["0.5", "0.75", "0.9", "1", "2"]
    assert all(not row.level.coordinates for row in plan.rows)
    assert "design: one factor at a time, 3 + 2 levels\n" in describe_plans([], [plan], 2)


def test_a_grid_is_every_level_with_every_other(planned):
    plan = planned(TWO + "design: grid\nseeds: 3\n")
    (factor,) = plan.study.factors
    assert (plan.study.design, factor.field) == ("grid", None)
    assert factor.name == "mask_ratio x decoder_depth"
    assert labels(plan)[:3] == [
        "mask_ratio=0.5, decoder_depth=1",
        "mask_ratio=0.5, decoder_depth=2",
        "mask_ratio=0.75, decoder_depth=1",
    ]
    assert factor.levels[1].coordinates == (("mask_ratio", 0.5), ("decoder_depth", 2))
    settings = [(r.recipe.pretrain.mask_ratio, r.recipe.model.decoder_depth) for r in plan.rows]
    assert settings == [(m, d) for m in (0.5, 0.75, 0.9) for d in (1, 2)]
    assert [row.label for row in plan.rows if row.is_baseline] == [
        "mask_ratio=0.75, decoder_depth=1"
    ]
    assert "design: grid, 3 x 2 = 6 levels\n" in describe_plans([], [plan], 2)
    table = table_frame(plan, results_frame(plan))
    assert list(table["level"][:6]) == labels(plan) and table["paper"].isna().all()


def test_combinations_are_left_out(planned):
    left = "exclude: [{mask_ratio: 0.9, decoder_depth: 2}, {mask_ratio: 0.5}]\n"
    plan = planned(TWO + "design: grid\n" + left)
    assert labels(plan) == [
        "mask_ratio=0.75, decoder_depth=1",
        "mask_ratio=0.75, decoder_depth=2",
        "mask_ratio=0.9, decoder_depth=1",
    ]
    assert "design: grid, 3 x 2 - 3 excluded = 3 levels\n" in describe_plans([], [plan], 2)
    without = planned(TWO + "design: grid\nexclude: [{mask_ratio: 0.75}]\n")
    assert labels(without)[0] == "baseline" and without.rows[0].is_baseline


def test_a_zip_takes_levels_side_by_side(planned):
    plan = planned(
        "recipe: toy\ndesign: zip\nfactors:\n  decoder_depth: [1, 2]\n  decoder_width: [8, 16]\n"
    )
    assert labels(plan) == [
        "decoder_depth=1, decoder_width=8",
        "decoder_depth=2, decoder_width=16",
    ]
    assert plan.rows[0].is_baseline
    assert "design: zip, 2 with 2 = 2 levels\n" in describe_plans([], [plan], 2)


def test_named_levels_in_a_grid_keep_their_names(planned):
    plan = planned(SAMPLINGS)
    assert labels(plan)[4:] == ["how=block_50, decoder_depth=1", "how=block_50, decoder_depth=2"]
    block = plan.rows[5].recipe
    assert (block.pretrain.mask_sampling, block.model.decoder_depth) == ("block", 2)
    assert plan.rows[0].is_baseline


def test_levels_that_are_only_valid_together_may_be_crossed(planned):
    """Neither `grid` at ratio 0.5 nor ratio 0.5 under `grid` is possible: together they are left
    out, or are an error."""
    text = "recipe: toy\ndesign: zip\nfactors:\n  mask_ratio: [0.75, 0.5]\n"
    text += "  mask_sampling: [grid, block]\n"
    assert len(planned(text).rows) == 3  # and the baseline, which is random
    with pytest.raises(UserError, match="mask_ratio must be 0.75, not 0.5"):
        planned(text.replace("zip", "grid"))


def test_a_grid_at_a_recipe_s_scale(write_study, tmp_path):
    from conftest import TOY_RECIPE

    text = "paper: table_1a\n" + TWO + "design: grid\n"
    path = write_study(text, TOY_RECIPE + "levels:\n  decoder_depth: {1: 1, 2: null}\n")
    plan = plan_study(path, store=tmp_path)
    assert len(plan.rows) == 3
    assert plan.study.factors[0].left_out == ("decoder_depth 2",)
    assert "no counterpart at this scale for decoder_depth 2" in describe_plans([], [plan], 2)


BAD = [
    ("design: gird\n", 'x.yaml:5: unknown design "gird" (did you mean "grid"?)'),
    ("design: zip\n", "x.yaml:2: design zip needs as many levels of each factor: mask_ratio has 3"),
    (
        "exclude: [{mask_ratio: 0.5}]\n",
        "x.yaml:5: exclude leaves combinations out of `design: grid",
    ),
    (
        "design: grid\nexclude: [{mask_ration: 0.5}]\n",
        'x.yaml:6: unknown factor "mask_ration" (did you mean "mask_ratio"?)',
    ),
    (
        "design: grid\nexclude:\n- {mask_ratio: 0.5}\n- {mask_ratio: 0.95}\n",
        'x.yaml:8: unknown level of mask_ratio "0.95" (did you mean "0.9"?)',
    ),
    (
        "  mask_sampling: {random: {}, block_50: {mask_sampling: block, mask_ratio: 0.5}}\n"
        "design: grid\n",
        "x.yaml:5: mask_ratio and mask_sampling both set pretrain.mask_ratio: crossed, one undoes",
    ),
    ("  pretrain.mask_ratio: [0.3]\n", "x.yaml:5: factor mask_ratio is given twice"),
    ("design: grid\nexclude: {mask_ratio: 0.5}\n", "x.yaml:6: exclude needs a list, such as"),
    ("design: grid\nexclude: [0.5]\n", "x.yaml:6: expected levels to leave out, such as"),
    (
        "design: grid\nexclude: [{decoder_depth: 1}, {decoder_depth: 2}]\n",
        "x.yaml:6: every combination is left out",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_what_cannot_be_is_one_line(planned, text, message):
    with pytest.raises(UserError) as error:
        planned(TWO + text)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_zip_that_does_not_pair_them_leaves_nothing_out(planned):
    text = "recipe: toy\ndesign: zip\nfactors: {decoder_depth: [1, 2], decoder_width: [8, 16]}\n"
    with pytest.raises(UserError, match=r"x.yaml:4: exclude .* leaves nothing out"):
        planned(text + "exclude: [{decoder_depth: 1, decoder_width: 16}]\n")
    with pytest.raises(UserError, match="x.yaml:2: design grid needs two factors or more"):
        planned("recipe: toy\ndesign: grid\nfactors: {decoder_depth: [1, 2]}\n")
