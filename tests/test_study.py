"""Studies: what they mean, what they share, and what they refuse."""

import dataclasses

import pytest

from mae_ablation.api import plan_studies, plan_study
from mae_ablation.errors import UserError
from mae_ablation.recipe.checks import added_later
from mae_ablation.recipe.recipe import Data, Recipe
from mae_ablation.report.summary import describe_plans
from mae_ablation.study.identity import (
    evaluation_document,
    identity,
    pretrain_document,
    section,
)
from mae_ablation.study.paper import paper_value
from mae_ablation.study.study import load_study

SMALL = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\n"


def planned(path, tmp_path, **changes):
    return plan_study(path, store=tmp_path / "store", **changes)


# identity ------------------------------------------------------------------------------------


def test_the_identity_of_a_recipe_never_changes(toy):
    """Results of earlier versions stay valid: change this value only with a phase's version."""
    document = pretrain_document(toy, seed=0, fingerprint="f", channels=1)
    assert identity(document) == "09b29ad3697b"


def test_what_does_not_matter_is_not_hashed(toy):
    def of(recipe):
        return identity(pretrain_document(recipe, 0, "f", 1))

    change = dataclasses.replace
    assert of(change(toy, pretrain=change(toy.pretrain, checkpoint_every_s=7))) == of(toy)
    assert of(change(toy, linear_probe=change(toy.linear_probe, epochs=7))) == of(toy)
    assert of(change(toy, pretrain=change(toy.pretrain, warmup_epochs=1.0))) == of(toy)
    assert of(change(toy, pretrain=change(toy.pretrain, mask_ratio=0.7501))) == of(
        change(toy, pretrain=change(toy.pretrain, mask_ratio=0.76))
    )  # both keep 8 of 36
    plain = change(toy.pretrain, augmentation="none")
    assert of(change(toy, pretrain=plain)) == of(
        change(toy, pretrain=change(plain, crop_min_area=0.5))
    )


def test_whatever_matters_is_hashed(toy):
    change = dataclasses.replace
    base = identity(pretrain_document(toy, 0, "f", 1))
    others = [
        identity(pretrain_document(toy, 1, "f", 1)),
        identity(pretrain_document(toy, 0, "g", 1)),
        identity(pretrain_document(change(toy, data=Data(image_size=60)), 0, "f", 1)),
    ]
    for name, value in section(toy.pretrain).items():
        if isinstance(value, float | int) and name not in ("mask_ratio", "crop_min_area"):
            other = change(toy.pretrain, **{name: value / 2 if value < 1 else value + 1})
            others.append(identity(pretrain_document(change(toy, pretrain=other), 0, "f", 1)))
    assert base not in others and len(set(others)) == len(others)


def test_a_field_added_later_leaves_old_identities_valid():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Before:
        epochs: int = 3

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class After(Before):
        loss_on: str = added_later("masked")

    Before.__annotations__, After.__annotations__ = {"epochs": int}, {"loss_on": str}
    assert section(After()) == section(Before())
    assert section(After(loss_on="all")) == {"epochs": 3, "loss_on": "all"}


def test_references_are_shared_by_studies_of_the_decoder(toy):
    deeper = dataclasses.replace(toy, model=dataclasses.replace(toy.model, decoder_depth=4))

    def of(recipe):
        return identity(evaluation_document("linear_probe", recipe, 0, "f", "random", None))

    assert of(toy) == of(deeper)
    wider = dataclasses.replace(toy, model=dataclasses.replace(toy.model, encoder_width=32))
    assert of(wider) != of(toy)


# plans -----------------------------------------------------------------------------------------


def test_a_study_grows_by_the_difference(write_study, tmp_path):
    two = planned(write_study(SMALL), tmp_path)
    assert len(two.trials) == 4  # two levels, two references
    three = planned(write_study(SMALL.replace("0.75]", "0.75, 0.9]")), tmp_path)
    assert {t.id for t in two.trials} < {t.id for t in three.trials}
    more = planned(write_study(SMALL), tmp_path, seeds=3)
    assert {t.id for t in two.trials} < {t.id for t in more.trials}
    assert len(more.trials) == 12


def test_the_baseline_of_several_factors_is_trained_once(write_study, tmp_path):
    study = SMALL + "  decoder_depth: [1, 2]\nseeds: [4, 7]\n"
    plan = planned(write_study(study), tmp_path)
    assert [row.label for row in plan.rows if row.is_baseline] == ["0.75", "1"]
    assert len(plan.trials) == (3 + 2) * 2
    assert "(4 levels + 2 references) x 2 seeds - 2 shared = 10" in describe_plans([], [plan], 2)


def test_a_baseline_that_is_no_level_gets_a_row_of_its_own(write_study, tmp_path):
    plan = planned(write_study(SMALL.replace("0.75", "0.9")), tmp_path)
    assert [row.label for row in plan.rows] == ["baseline", "0.5", "0.9"]


def test_levels_that_keep_the_same_patches_are_trained_once_and_named(write_study, tmp_path):
    study = SMALL.replace("[0.5, 0.75]", "[0.5, 0.70, 0.75]")
    plan = planned(
        write_study(study), tmp_path, changes=["data.image_size=28", "patch_size=7"]
    )  # 4 x 4
    assert [row.same_as for row in plan.rows] == [None, None, "0.7"]
    assert len(plan.trials) == 4
    assert "0.75 and 0.7 are one training: both keep 4 of 16 patches" in describe_plans(
        [], [plan], 2
    )


def test_the_default_recipe_keeps_all_ten_ratios_apart(tmp_path):
    from conftest import ROOT

    plan = planned(ROOT / "studies" / "mask_ratio.yaml", tmp_path)
    kept = [row.level.recipe.kept_patches for row in plan.rows]
    assert kept == [32, 28, 25, 21, 18, 14, 10, 9, 7, 3]
    assert plan.study.baseline.grid % 2 == 0


def test_levels_of_an_evaluation_share_one_pretraining(write_study, tmp_path):
    plan = planned(
        write_study("recipe: toy\nfactors:\n  linear_probe.pooling: [cls, mean]\n"), tmp_path
    )
    pretrained = [t for t in plan.trials if t.source == "pretrain"]
    assert len(pretrained) == 1
    assert [p.kind for p in pretrained[0].phases] == ["pretrain", "linear_probe", "linear_probe"]
    assert [p.recipe.linear_probe.pooling for p in pretrained[0].phases[1:]] == ["cls", "mean"]
    assert "(2 levels + 2 references) x 1 seed - 1 shared = 3" in describe_plans([], [plan], 2)


def test_factors_of_one_name_in_two_sections_keep_apart(write_study, tmp_path):
    study = "recipe: toy\nfactors:\n  pretrain.epochs: [2, 3]\n  linear_probe.epochs: [2, 3]\n"
    plan = planned(write_study(study), tmp_path)
    assert [f.name for f in plan.study.factors] == ["pretrain_epochs", "linear_probe_epochs"]
    assert len({t.label for t in plan.trials}) == len(plan.trials)


def test_another_scale_is_another_experiment(write_study, tmp_path):
    path = write_study(SMALL)
    assert planned(path, tmp_path).study.experiment == "x"
    assert planned(path, tmp_path, recipe="toy").study.experiment == "x"
    changed = planned(path, tmp_path, changes=["mask_ratio=0.6"]).study
    assert changed.experiment == "x-mask_ratio=0.6"


def test_finished_phases_are_not_planned_again(write_study, tmp_path):
    plan = planned(write_study(SMALL), tmp_path)
    trial = next(t for t in plan.trials if t.source == "pretrain")
    for phase in trial.phases:
        phase.folder(plan.store).finish({"flops_per_s": 1e9})
    assert trial.id not in {t.id for t in plan.missing()} and len(plan.missing()) == 3


def test_paper_values():
    assert paper_value("figure_5", "pretrain.mask_ratio", 0.75, "linear_probe") == 73.5
    assert paper_value("figure_5", "pretrain.mask_ratio", 0.1, "linear_probe") == 54.6
    assert paper_value("figure_5", "pretrain.mask_ratio", 0.55, "linear_probe") is None
    assert paper_value("table_1a", "model.decoder_depth", 8, "finetune") == 84.9
    assert paper_value("table_1a", "model.encoder_depth", 8, "finetune") is None
    assert paper_value(None, "model.decoder_depth", 8, "finetune") is None


def test_defaults_are_the_paper_s():
    """Tables 8 and 10, ViT-L/16."""
    r = Recipe(data=Data(image_size=224))
    assert (r.model.encoder_width, r.model.encoder_depth, r.model.encoder_heads) == (1024, 24, 16)
    assert (r.model.decoder_width, r.model.decoder_depth, r.model.decoder_heads) == (512, 8, 16)
    p = r.pretrain
    assert (p.epochs, p.warmup_epochs, p.batch_size, p.base_lr) == (800, 40, 4096, 1.5e-4)
    assert (p.weight_decay, p.beta1, p.beta2, p.mask_ratio) == (0.05, 0.9, 0.95, 0.75)
    q = r.linear_probe
    assert (q.epochs, q.warmup_epochs, q.batch_size, q.base_lr) == (90, 10, 16384, 0.1)
    assert (q.weight_decay, q.momentum) == (0, 0.9)
    assert r.kept_patches == 49


# bad input ---------------------------------------------------------------------------------------

BAD = [
    ("sedes: 3\n", "x.yaml:4", 'unknown key "sedes" (did you mean "seeds"?)'),
    ("phases: [probe]\n", "x.yaml:4", 'unknown phase "probe"'),
    ("paper: figure_6\n", "x.yaml:4", 'unknown paper table "figure_6" (did you mean "figure_'),
    ("title: [a]\n", "x.yaml:4", "title must be text, not a list"),
    ("recipe: toy\n", "x.yaml:4", 'key "recipe" is given twice'),
    (
        "  mask_ration: [1]\n",
        "x.yaml:4",
        'unknown factor "mask_ration" (did you mean "mask_ratio"?)',
    ),
    (
        "  epochs: [1]\n",
        "x.yaml:4",
        '"epochs" could be any of pretrain.epochs, tokenizer.epochs, linear_probe.epochs',
    ),
    ("  decoder_depth: []\n", "x.yaml:4", "decoder_depth needs a list of levels, such as [1, 2]"),
    ("  decoder_depth: 3\n", "x.yaml:4", "decoder_depth needs a list of levels"),
    ("  decoder_depth: [2, 4, 2]\n", "x.yaml:4", "level 2 of decoder_depth is given twice"),
    (
        '  deep:\n    "a": {decoder_depth: 2}\n    "a ": {decoder_depth: 4}\n',
        "x.yaml:6",
        'levels "a" and "a " of deep look alike: rename one of them',
    ),
    ("  decoder_depth:\n  - 2\n  - x\n", "x.yaml:6", "model.decoder_depth must be a whole number"),
    (
        "  target: [pixels]\n",
        "x.yaml:4",
        'unknown pretrain.target "pixels" (did you mean "pixel"?)',
    ),
    ("  patch_size: [7]\n", "x.yaml:4", "image_size 30 is not divisible by patch_size 7"),
    ("  encoder_width: [30]\n", "x.yaml:4", "encoder_width 30 is not divisible by 4"),
    ("  weight_decay: [true]\n", "x.yaml:4", '"weight_decay" could be any of'),
    ("  pretrain.weight_decay: [true]\n", "x.yaml:4", 'must be a number, not "true"'),
    ("  pretrain.weight_decay: [.nan]\n", "x.yaml:4", "must be finite"),
    ("  beta1: [: \n", "x.yaml:", "not valid YAML"),
    ("2001-99-99: 1\n", "x.yaml:4", 'unknown key "2001-99-99"'),
    ("phases: &x [*x]\n", "x.yaml", "an alias that contains itself"),
]


@pytest.mark.parametrize(("line", "place", "message"), BAD, ids=[b[0].strip() for b in BAD])
def test_a_bad_line_is_named_with_its_place(write_study, tmp_path, line, place, message):
    with pytest.raises(UserError) as error:
        planned(write_study(SMALL + line), tmp_path)
    assert place in str(error.value) and message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("ratio", ["0", "1", "1.2", "-0.1"])
def test_a_ratio_outside_0_and_1(write_study, tmp_path, ratio):
    with pytest.raises(UserError, match=r"x.yaml:3: mask_ratio is .*, must lie between 0 and 1"):
        planned(write_study(SMALL.replace("0.5", ratio)), tmp_path)


def test_a_ratio_that_keeps_no_patch(write_study, tmp_path):
    message = r"x.yaml:3: mask_ratio 0.99 keeps none of the 36 patches \(6 x 6\); .* is 0.9722"
    with pytest.raises(UserError, match=message):
        planned(write_study(SMALL.replace("0.5", "0.99")), tmp_path)


@pytest.mark.parametrize("factors", ["", "factors: {}\n", "factors: [mask_ratio]\n"])
def test_a_study_without_factors(write_study, tmp_path, factors):
    with pytest.raises(UserError, match="factors needs a recipe field and its levels"):
        planned(write_study("recipe: toy\n" + factors), tmp_path)


def test_bad_recipes(write_study, tmp_path):
    cases = {
        "pretrain: {epoch: 3}": 'toy.yaml:1: unknown pretrain key "epoch" (did you mean "epochs"?)',
        "pretrian: {epochs: 3}": 'unknown section "pretrian" (did you mean "pretrain"?)',
        "pretrain: 3": 'toy.yaml:1: section "pretrain" must hold `key: value` lines',
        "data: {name: fashion}": 'unknown data.name "fashion" (did you mean "fashion_mnist"?)',
        "data: {image_size: 16}\nmodel: {patch_size: 4}": "image_size 16 is below the 28 pixels",
        "data: {image_size: 32, train_images: 59500}": "5000 for validation and 59500 for training",
        "- 1": "toy.yaml:1: expected keys and values",
    }
    for recipe, message in cases.items():
        with pytest.raises(UserError) as error:
            planned(write_study(SMALL, recipe + "\n"), tmp_path)
        assert message in str(error.value), recipe


def test_missing_files_and_recipes(write_study, tmp_path):
    with pytest.raises(UserError, match="none.yaml: cannot read it: No such file"):
        planned(tmp_path / "none.yaml", tmp_path)
    path = write_study(SMALL.replace("toy", "tou"))
    with pytest.raises(UserError, match=r'x.yaml:1: unknown recipe "tou" \(did you mean "toy"\?\)'):
        planned(path, tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file"):
        planned(path, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("pretrain.epoch=2", 'unknown key "pretrain.epoch" (did you mean "pretrain.epochs"?)'),
        ("pretrain.epochs", "expected field=value"),
        ("pretrain.epochs=0", "epochs is 0, must be at least 1"),
    ],
)
def test_bad_changes_from_the_command_line(write_study, tmp_path, change, message):
    with pytest.raises(UserError) as error:
        planned(write_study(SMALL), tmp_path, changes=[change])
    assert str(error.value).startswith(f"--set {change}: ") and message in str(error.value)


def test_every_shipped_study_is_expanded_and_priced():
    from conftest import ROOT

    from mae_ablation.study.estimate import estimate

    for path in (ROOT / "studies").glob("*.yaml"):
        plans = plan_studies([path], store=ROOT / "none")
        assert estimate(plans, lanes=2).seconds > 60
        for recipe in (ROOT / "studies" / "recipes").glob("*.yaml"):
            assert plan_study(path, store=ROOT / "none", recipe=recipe.stem).trials


def test_training_from_scratch_is_left_out_with_the_fine_tuning_it_stands_under(write_study):
    text = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\nphases: [pretrain, {}scratch]\n"
    with pytest.raises(UserError, match="x.yaml:4: scratch is a row under fine-tuning"):
        load_study(write_study(text.format("linear_probe, ")))
    assert load_study(write_study(text.format("finetune, "))).phases[1:] == ("finetune", "scratch")
    with pytest.raises(UserError, match="--phases: scratch is a row under fine-tuning"):
        load_study(write_study(text.format("finetune, ")), phases=["pretrain", "scratch"])
