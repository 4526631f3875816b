"""The shipped studies and recipes against the paper's tables, and what levels can be."""

import pytest
from conftest import ROOT
from toys import session_of

from mae_ablation.api import plan_studies, plan_study
from mae_ablation.errors import UserError
from mae_ablation.recipe.presets import difference
from mae_ablation.report.summary import describe_plans, describe_together, settings_lines
from mae_ablation.study.paper import FIELDS, paper_row, paper_tables
from mae_ablation.study.plan import missing, trials_of

STUDIES = ROOT / "studies"
FILES = sorted(p for p in STUDIES.glob("*.yaml") if p.stem != "paper")
OWN = ("decoder_grid", "tuned_probe")  # questions that the paper does not ask
OF_THE_PAPER = [path for path in FILES if path.stem not in OWN]
NOWHERE = ROOT / "none"


def planned(path, recipe="imagenet", **more):
    return plan_study(path, store=NOWHERE, recipe=recipe, **more)


# against the paper ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OF_THE_PAPER, ids=lambda p: p.stem)
def test_levels_and_baseline_are_the_paper_s(path):
    plan = planned(path)
    (factor,) = plan.study.factors
    table = paper_tables()[plan.study.paper]
    prefix = "vit_l_" if plan.study.paper == "table_2" else None  # and vit_h_, by the model

    def row_of(value):
        value = f"{prefix}{value}" if prefix else value
        return paper_row(plan.study.paper, factor.field, value)

    rows = [row_of(level.value) for level in factor.levels]
    assert all(rows), "every level is a row of the paper's"
    wanted = [row for row in table["rows"] if "ViT-H" not in row.get("backbone", "")]
    assert sorted(str(r["level"]) for r in rows) == sorted(str(r["level"]) for r in wanted)
    base = next(row for row in plan.rows if row.is_baseline)
    accuracy = plan.study.measure == "accuracy"
    default = table["default_level"] if accuracy else "vit_l_with_dec8"
    assert row_of(base.level.value)["level"] == default


def test_every_table_and_figure_of_the_ablations_has_a_study():
    assert {planned(path).study.paper for path in OF_THE_PAPER} == set(paper_tables())
    assert set(FIELDS) <= set(paper_tables())


def test_table_1_and_figures_5_and_7_are_32_pre_trainings():
    plans = plan_studies([STUDIES / "paper.yaml"], store=NOWHERE, recipe="imagenet", seeds=1)
    papers = {plan.study.paper for plan in plans}
    assert papers == {f"table_1{x}" for x in "abcdef"} | {"figure_5", "figure_7"}
    trained = [t for t in trials_of(plans) if t.source == "pretrain"]
    assert len(trained) == 32
    assert {p.kind for t in trained for p in t.phases} == {"pretrain", "linear_probe", "finetune"}
    assert "(32 distinct pre-trainings)" in describe_together(plans)
    prepared = [t.label for t in missing(trials_of(plans), plans[0].store) if t.source == "prepare"]
    assert sorted(prepared) == ["pca imagenet-224px-patch16", "tokenizer imagenet-224px-in_domain"]
    sources = {t.source for t in trials_of(plans)}
    assert sources == {"pretrain", "random"}, "raw pixels of 224 x 224 are no features"


def test_all_studies_are_listed_once_and_share_their_trials():
    files = sorted(STUDIES.glob("*.yaml"))
    session = session_of(*files, store=NOWHERE)
    plans = session.plans
    assert sorted(plan.study.name for plan in plans) == [path.stem for path in FILES]
    text = describe_plans(session.suites, plans, 2)
    assert text.startswith("paper: Table 1 and Figures 5 and 7 = decoder_depth, decoder_width")
    assert all(f"{path.stem}: " in text for path in FILES)


IMAGENET = """\
model: encoder 1024 x 24 blocks (16 heads), patch 16, decoder 512 x 8 (16 heads)
pretrain: AdamW, lr 0.00015 x 4096 / 256 = 0.0024, weight decay 0.05, betas 0.9 and 0.95, \
800 epochs (40 warm-up, cosine), crop_random, random masking 75 %, target pixel
linear_probe: paper protocol, LARS, lr 0.1 x 16384 / 256 = 6.4, weight decay 0, momentum 0.9, \
90 epochs (10 warm-up, cosine), cls
finetune: AdamW, lr 0.001 x 1024 / 256 = 0.004, weight decay 0.05, betas 0.9 and 0.999, \
layer decay 0.75, 50 epochs (5 warm-up, cosine), RandAugment (9, 0.5), label smoothing 0.1, \
mixup 0.8, cutmix 1, drop path 0.1, random erasing 0, EMA 0
scratch: AdamW, lr 0.0001 x 4096 / 256 = 0.0016, weight decay 0.3, betas 0.9 and 0.95, \
layer decay 1, 200 epochs (20 warm-up, cosine), RandAugment (9, 0.5), label smoothing 0.1, \
mixup 0.8, cutmix 1, drop path 0.2, random erasing 0, EMA 0.9999"""


def test_the_recipe_imagenet_is_tables_8_to_11_for_vit_l():
    recipe = planned(STUDIES / "mask_ratio.yaml").study.baseline
    phases = ("pretrain", "linear_probe", "finetune", "scratch")
    assert settings_lines(recipe, phases).startswith(IMAGENET)
    assert (recipe.data.image_size, recipe.patches, recipe.kept_patches) == (224, 196, 49)
    assert recipe.partial.epochs_tried == (50, 100, 200)


@pytest.mark.parametrize(
    ("recipe", "encoder", "finetune", "scratch"),
    [
        ("imagenet_vitb", "768 x 12 blocks (12 heads), patch 16", (100, 0.1), (300, 0.1)),
        ("imagenet_vith", "1280 x 32 blocks (16 heads), patch 14", (50, 0.2), (200, 0.2)),
    ],
)
def test_what_depends_on_the_model_s_size(recipe, encoder, finetune, scratch):
    """All else is as for ViT-L."""
    _, pretrain, probe, tuned, alone = IMAGENET.splitlines()
    tuned = tuned.replace("50 epochs", f"{finetune[0]} epochs")
    alone = alone.replace("200 epochs", f"{scratch[0]} epochs")
    expected = [
        f"model: encoder {encoder}, decoder 512 x 8 (16 heads)",
        pretrain,
        probe,
        tuned.replace("drop path 0.1", f"drop path {finetune[1]}"),
        alone.replace("drop path 0.2", f"drop path {scratch[1]}"),
    ]
    r = planned(STUDIES / "mask_ratio.yaml", recipe).study.baseline
    phases = ("pretrain", "linear_probe", "finetune", "scratch")
    assert settings_lines(r, phases).splitlines()[:5] == expected


def test_wall_clock_of_vit_h_stands_beside_the_paper_s_of_vit_h():
    from mae_ablation.report.table import paper_number

    hours = {}
    for recipe in ("imagenet", "imagenet_vith"):
        plan = planned(STUDIES / "wall_clock.yaml", recipe)
        hours[recipe] = [paper_number(plan, "pretrain_hours", row) for row in plan.rows]
    assert hours == {"imagenet": [42.4, 15.4, 11.6], "imagenet_vith": [119.6, 34.5, 29.3]}


def test_trainings_for_their_hours_are_shared_with_no_other_study():
    plans = plan_studies(
        [STUDIES / f"{n}.yaml" for n in ("wall_clock", "decoder_depth")], store=NOWHERE
    )
    ids = [{t.id for t in plan.trials} for plan in plans]
    assert not ids[0] & ids[1]


def test_the_official_code_s_fine_tuning_differs_where_it_says_so():
    assert difference("paper_table9", "repo_finetune_md", "B") == {
        "base_lr": (1e-3, 5e-4),
        "layer_decay": (0.75, 0.65),
        "random_erasing": (0.0, 0.25),
    }
    assert difference("paper_table9", "repo_finetune_md", "L") == {
        "random_erasing": (0.0, 0.25),
        "drop_path": (0.1, 0.2),
    }
    changed = planned(STUDIES / "target.yaml", changes=["finetune.preset=repo_finetune_md"])
    assert changed.study.baseline.finetune.drop_path == 0.2


def test_a_preset_lies_beneath_what_is_said(write_study, tmp_path):
    study = "recipe: toy\nfactors:\n  finetune.preset: [paper_table9, repo_finetune_md]\n"
    path = write_study(study + "baseline: {finetune.epochs: 7}\n")
    (factor,) = plan_study(path, store=tmp_path).study.factors
    one, two = (level.recipe.finetune for level in factor.levels)
    assert (one.epochs, two.epochs) == (7, 7)
    assert (one.random_erasing, two.random_erasing) == (0, 0.25)


# scale -------------------------------------------------------------------------------

SCALED = """\
data: {image_size: 30, train_images: 200, validation_images: 100}
model: {patch_size: 5, encoder_width: 16, encoder_depth: 2, encoder_heads: 2, decoder_width: 8,
        decoder_depth: 1, decoder_heads: 2}
pretrain: {epochs: 8, warmup_epochs: 1, batch_size: 50}
linear_probe: {epochs: 2, warmup_epochs: 1, batch_size: 50}
levels:
  decoder_width: {128: 4, 512: 8, 1024: null}
skip: [finetune]
"""
WIDTHS = "factors:\n  decoder_width: [128, 512, 1024]\nbaseline: {decoder_width: 512}\n"


def test_levels_of_the_paper_are_taken_to_the_recipe_s_scale(write_study, tmp_path):
    study = "recipe: toy\npaper: table_1b\nphases: [linear_probe, finetune]\n" + WIDTHS
    plan = plan_study(write_study(study, SCALED), store=tmp_path)
    assert [row.label for row in plan.rows] == ["128 (here 4)", "512 (here 8)"]
    assert [row.recipe.model.decoder_width for row in plan.rows] == [4, 8]
    assert plan.study.factors[0].left_out == ("1024",)
    assert plan.study.phases == ("pretrain", "linear_probe")
    text = describe_plans([], [plan], 2)
    assert "no counterpart at this scale for 1024" in text
    assert "leaves out finetune; --phases pretrain,linear_probe,finetune" in text
    asked = plan_study(write_study(study, SCALED), store=tmp_path, phases=("finetune",))
    assert asked.study.phases == ("pretrain", "finetune") and asked.study.skipped == (
        "linear_probe",
    )


def test_levels_of_one_s_own_are_meant_as_they_stand(write_study, tmp_path):
    plan = plan_study(write_study("recipe: toy\n" + WIDTHS, SCALED), store=tmp_path)
    assert [row.recipe.model.decoder_width for row in plan.rows] == [128, 512, 1024]


def test_named_levels_change_several_fields_at_once(write_study, tmp_path):
    study = (
        "recipe: toy\nfactors:\n  how:\n    plain: {}\n"
        "    block_50: {mask_sampling: block, mask_ratio: 0.5}\n"
    )
    plan = plan_study(write_study(study, SCALED), store=tmp_path)
    (factor,) = plan.study.factors
    assert factor.field is None and factor.name == "how"
    block = plan.rows[1].recipe.pretrain
    assert (block.mask_sampling, block.mask_ratio) == ("block", 0.5)
    assert plan.rows[0].is_baseline
    assert plan.level_label(plan.rows[1].trials[0], factor) == "block_50"


def test_mask_tokens_cost_what_the_reference_counts():
    """Matrix products of ViT-L/16, decoder 8 x 512: 3.23 times, with every patch embedded and
    predicted in both; what training executes, which leaves that out, is a little more."""
    from mae_ablation.recipe.cost import nominal_flops, pretrain_flops

    plan = planned(STUDIES / "mask_token.yaml")
    recipes = [next(r.recipe for r in plan.rows if r.level.value == v) for v in ("with", "without")]
    for count, ratio in ((nominal_flops, 3.23), (pretrain_flops, 3.24)):
        dear, cheap = (count(recipe, plan.data.channels) for recipe in recipes)
        assert dear / cheap == pytest.approx(ratio, abs=0.005)
    dearer = plan_study(STUDIES / "mask_token_flops.yaml", store=NOWHERE, recipe="imagenet")
    epochs = {row.level.value: row.recipe.pretrain.epochs for row in dearer.rows}
    assert epochs == {"with": 247, "without": 800}


# suites -----------------------------------------------------------------------------------------


def test_a_suite_is_its_studies(write_study, tmp_path):
    path = write_study("recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\n")
    path.with_name("y.yaml").write_text("recipe: toy\nfactors:\n  decoder_depth: [1, 2]\n")
    suite = path.with_name("all.yaml")
    suite.write_text("studies: [x, y]\nseeds: 2\n")
    plans = plan_studies([suite], store=tmp_path)
    assert [(p.study.name, p.study.seeds) for p in plans] == [("x", (0, 1)), ("y", (0, 1))]
    trials = trials_of(plans)
    assert len([t for t in trials if t.source == "pretrain"]) == 3 * 2
    assert len({t.label for t in trials}) == len(trials)
    assert "16 trials - 6 shared between studies = 10" in describe_together(plans)
    suite.write_text("studies: [x, y]\nseeds: [3, 7]\n")
    assert plan_study(suite, store=tmp_path).study.seeds == (3, 7)
    with pytest.raises(UserError, match=r"x.yaml: .*all.yaml asks for it with another recipe or"):
        plan_studies([path, suite], store=tmp_path)


def test_rows_that_differ_in_any_evaluation_are_two(write_study, tmp_path):
    """Also where that evaluation is not the last of the phases."""
    study = (
        "recipe: toy\nfactors:\n  linear_probe.pooling: [cls, mean]\n"
        "phases: [linear_probe, finetune]\n"
    )
    plan = plan_study(
        write_study(study, SCALED), store=tmp_path, phases=("linear_probe", "finetune")
    )
    probes = [row.trials[0].phases[1].recipe.linear_probe.pooling for row in plan.rows]
    assert probes == ["cls", "mean"] and [row.same_as for row in plan.rows] == [None, None]
    (trained,) = [t for t in plan.trials if t.source == "pretrain"]
    kinds = [phase.kind for phase in trained.phases]
    assert sorted(kinds) == ["finetune", "linear_probe", "linear_probe", "pretrain"]


# bad input --------------------------------------------------------------------------------------

BAD = [
    (
        "factors:\n  mask_sampling: [grid]\nbaseline: {data.image_size: 35}\n",
        "x.yaml:3: grid sampling keeps one patch of every 2 x 2: impossible on 7 x 7 patches",
    ),
    (
        "factors:\n  mask_sampling: [grid]\nbaseline: {mask_ratio: 0.5}\n",
        "keeps one patch of every 2 x 2, 9 of 36: mask_ratio must be 0.75, not 0.5",
    ),
    (
        "factors:\n  pca.components: [26]\nbaseline: {target: pca}\n",
        "x.yaml, components 26: pca.components 26 is above the 25 values of a 5 x 5 x 1 patch",
    ),
    (
        "factors:\n  blocks: [1, 3]\n",
        "x.yaml:3: partial.blocks 3 is above the 2 blocks of the encoder",
    ),
    ("factors:\n  blocks: [1.5]\n", "x.yaml:3: blocks is 1.5, must be 0, 0.5 or a whole number"),
    (
        "factors:\n  class_token: [false]\n",
        "x.yaml:3: linear_probe.pooling cls needs a class token: take mean",
    ),
    ("factors:\n  how: {}\n", 'x.yaml:3: unknown factor "how"'),
    ("factors:\n  how:\n    a: 3\n", "x.yaml:4: expected `field: value` lines"),
    ("factors:\n  how:\n    a: {mask_ration: 1}\n", 'x.yaml:4: unknown key "mask_ration"'),
    ("factors:\n  epochs_tried: [3]\n", 'x.yaml:3: partial.epochs_tried must be a list, not "3"'),
    (
        "factors:\n  class_token: [3]\n",
        'x.yaml:3: model.class_token must be true or false, not "3"',
    ),
    (
        "budget: flops\nfactors:\n  pretrain.epochs: [2, 3]\n",
        "budget flops sets the epochs, and so does pretrain_epochs: one of them",
    ),
    ("budget: time\nfactors:\n  blocks: [1]\n", 'x.yaml:2: unknown budget "time"'),
    (
        "factors:\n  tokenizer.source: [dalle]\n",
        "x.yaml:3: source dalle needs file: PATH",
    ),
    (
        "factors:\n  data.name: [image_folder]\n",
        "x.yaml, name image_folder: no folder",
    ),
    (
        "factors:\n  reading: [stream]\n",
        "data.reading stream needs a file per image; fashion_mnist is read as a whole: take cache",
    ),
    (
        "factors:\n  pretrain.warmup_epochs: [8]\n",
        "x.yaml:3: warmup_epochs 8 is not below the 8 epochs of the training",
    ),
    (
        "factors:\n  epochs_tried: [[3, 6]]\n",
        "x.yaml:3: epochs_tried [3, 6] must be different, and above warmup_epochs 5",
    ),
    ("factors:\n  partial.epochs: [3]\n", 'x.yaml:3: unknown factor "partial.epochs"'),
    (
        "factors:\n  finetune.batch_size: [33]\n",
        "x.yaml:3: batch_size 33 is odd: mixup and cutmix pair the images of a batch",
    ),
    (
        "baseline: {data.name: imagenet, data.image_size: 220, data.train_images: null}\n"
        "factors:\n  mask_ratio: [0.5]\n",
        "imagenet at 220 px is 193 GB in memory, more than 32: take data.reading=stream",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_what_cannot_be_is_one_line(write_study, tmp_path, text, message):
    with pytest.raises(UserError) as error:
        plan_study(write_study("recipe: toy\n" + text, SCALED), store=tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_token_file_with_another_hash(write_study, tmp_path):
    weights = tmp_path / "encoder.pt"
    weights.write_bytes(b"weights")
    changes = [
        "target=dvae_token",
        "tokenizer.source=dalle",
        f"tokenizer.file={weights}",
        "tokenizer.sha256=" + "0" * 64,
    ]
    path = write_study("recipe: toy\nfactors:\n  mask_ratio: [0.5]\n", SCALED)
    with pytest.raises(UserError, match="0" * 64):
        plan_study(path, store=tmp_path, changes=changes)


def test_bad_levels_and_suites(write_study, tmp_path):
    path = write_study("recipe: toy\nfactors:\n  mask_ratio: [0.5]\n", SCALED)
    recipe = path.parent / "recipes" / "toy.yaml"
    cases = {
        "levels: 3": "levels must hold",
        "levels: {decoder_widht: {1: 1}}": 'unknown levels key "decoder_widht"',
        "levels: {decoder_width: 3}": "decoder_width needs pairs",
        "skip: [finetun]": 'unknown evaluation "finetun" (did you mean "finetune"?)',
    }
    for text, message in cases.items():
        recipe.write_text(text + "\n")
        with pytest.raises(UserError) as error:
            plan_study(path, store=tmp_path)
        assert message in str(error.value)
    suite = path.with_name("all.yaml")
    suite.write_text("studies: [x, z]\n")
    with pytest.raises(UserError, match=r'all.yaml:1: unknown study "z"'):
        plan_studies([suite], store=tmp_path)
