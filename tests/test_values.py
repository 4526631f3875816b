"""A value is what its field's type says: numbers in any spelling, text and names as written."""

import pytest
from conftest import TOY_RECIPE

from mae_ablation.api import plan_study
from mae_ablation.errors import UserError
from mae_ablation.recipe.recipe import largest_ratio
from mae_ablation.registry import Sampler
from mae_ablation.report.compare import compare_reports
from mae_ablation.report.figure import is_geometric
from mae_ablation.report.findings import is_ordered
from mae_ablation.report.results import results_frame
from mae_ablation.report.saved import SavedReport
from mae_ablation.report.summary import describe_plans
from mae_ablation.report.table import table_frame
from mae_ablation.study.settings import read_change, resolve
from mae_ablation.study.study import load_study
from mae_ablation.tracking.description import (
    VIRIDIS,
    choose_colours,
    factor_metrics,
    make_params,
    number_levels,
)

STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\n"


def value(change):
    """The value of `--set`."""
    return read_change(change).value


# numbers -----------------------------------------------------------------------------------------


def test_whole_numbers_and_minus_zero():
    """Spellings of numbers are drawn at random in test_fuzz_values.py."""
    found = value("pretrain.epochs=.2e4")
    assert found == 2000 and type(found) is int
    assert str(value("pretrain.weight_decay=-0.0")) == "0.0"


def test_labels_are_a_number_or_a_share_and_a_share_of_one_is_all():
    """2000 and 2000.0 stay the whole number that older results were hashed with."""
    shape = read_change("model.patch_size=7")
    for written, meant in {"2e3": 2000, "2000.0": 2000, ".01": 0.01, "1.0": None}.items():
        recipe = resolve([shape, read_change(f"linear_probe.labels={written}")])
        assert repr(recipe.linear_probe.labels) == repr(meant)
    for refused in ("0", "1.5", "-0.1"):
        with pytest.raises(UserError, match="must be a share above 0 and up to 1, or a whole num"):
            resolve([shape, read_change(f"finetune.labels={refused}")])


REFUSED = [
    ("pretrain.epochs=1_000", 'must be a whole number, not "1_000": write 1000, without underscor'),
    ("pretrain.epochs=0800", 'must be a whole number, not "0800": write 800; a leading zero'),
    ("pretrain.epochs=1:30", 'must be a whole number, not "1:30"'),
    ("pretrain.epochs=2.5", 'must be a whole number, not "2.5"'),
    ("pretrain.epochs=1e999999999", "a number must be finite"),
    ("pretrain.epochs=٣", 'must be a whole number, not "٣"'),
    ("pretrain.base_lr=.inf", "must be finite"),
    ("pretrain.base_lr=1e-3e", 'must be a number, not "1e-3e"'),
    ("pretrain.base_lr=0,5", 'must be a number, not "0,5": write 0.5, with a point'),
    ("pretrain.base_lr=00.5", 'must be a number, not "00.5": write 0.5; a leading zero'),
    ("model.class_token=yes", 'must be true or false, not "yes": write true'),
    ("model.class_token=1", 'must be true or false, not "1"'),
    ("partial.epochs_tried=3", 'must be a list, not "3"'),
    ("partial.epochs_tried=[3", 'a list ends with "]"'),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[change for change, _ in REFUSED])
def test_a_spelling_of_something_else_is_refused_with_a_remedy(change, message):
    with pytest.raises(UserError) as error:
        read_change(change)
    assert str(error.value).startswith(f"--set {change}: ") and message in str(error.value)
    assert "\n" not in str(error.value)
    if ": write " in message:  # what is advised is taken
        advice = str(error.value).rsplit(": write ", 1)[1]
        read_change(f"{change.partition('=')[0]}={advice.split(',')[0].split(';')[0]}")


def test_lists_and_truth_values():
    assert value("partial.epochs_tried=[3, 6e0]") == (3, 6)
    assert value("model.class_token=False") is False
    assert value("model.encoder_mask_tokens=TRUE") is True


# text --------------------------------------------------------------------------------------------


def test_null_leaves_an_optional_field_unset(planned):
    assert value("data.folder=null") is None
    assert value("data.train_images=null") is None and value("data.train_images=~") is None
    said = 'data: {folder: "null", train_images: }\n'
    plan = load_recipe(planned, said)
    assert plan.data.folder.endswith("null") and plan.data.train_images is None


def load_recipe(planned, more):
    """The toy recipe with another data section."""
    sizes = "{image_size: 30, validation_images: 100, name: imagenette, "
    text = TOY_RECIPE.replace(TOY_RECIPE.splitlines()[0], more.strip().replace("{", sizes, 1))
    return planned(recipe=text).study.baseline


@pytest.mark.parametrize("text", ["2024", "~/d", "yes", "1:30", "'a #2'", "a#2"])
def test_text_in_a_file_is_what_is_written(planned, text):
    baseline = load_recipe(planned, f"data: {{folder: {text}}}")
    assert baseline.data.folder.endswith("/" + text.strip("'").removeprefix("~/"))


def test_text_that_yaml_would_cut_is_refused(planned):
    with pytest.raises(UserError) as error:
        planned(recipe=TOY_RECIPE + "tokenizer:\n  file: /d/exp #2\n")
    remedy = 'write "/d/exp #2" in quotes, or a space behind the #'
    assert f'tokenizer.file is "/d/exp" without "#2", a comment to YAML: {remedy}' in str(
        error.value
    )
    quoted = planned(recipe=TOY_RECIPE + 'tokenizer:\n  file: "/d/exp #2"\n')
    assert quoted.study.baseline.tokenizer.file == "/d/exp #2"
    assert planned(recipe=TOY_RECIPE + "tokenizer:\n  file: /d/exp # two\n")
    assert planned(recipe=TOY_RECIPE + "tokenizer:\n  epochs: 3 #two\n")


def test_titles_are_text(planned):
    assert planned(STUDY + "title: 2024\n").study.title == "2024"
    assert planned(STUDY + "title: null\n").study.title == "x"
    with pytest.raises(UserError, match=r'title is "Run" without "#2", a comment to YAML'):
        planned(STUDY + "title: Run #2\n")
    assert planned(STUDY + "title: >\n  Masking\n  ratio\n").study.title == "Masking ratio"
    with pytest.raises(UserError, match=r'x\.yaml:4: the title "two\\nlines" holds U\+000A'):
        planned(STUDY + "title: |\n  two\n  lines\n")


def test_an_error_about_a_folder_of_two_lines_is_one_line(planned):
    with pytest.raises(UserError) as error:
        planned(changes=["data.name=image_folder", "data.folder=/two\nlines"])
    assert "/two\\nlines" in str(error.value) and "\n" not in str(error.value)


# what else YAML has ------------------------------------------------------------------------------

NOT_READ = [
    ("seeds: !!int 3\n", "x.yaml:4: tag !!int is not read, the field says what a value is: remove"),
    ("title: !x y\n", "x.yaml:4: tag !x is not read"),
    ("baseline: &b {decoder_depth: 2}\ntune: {<<: *b}\n", 'x.yaml:5: merge key "<<" is not read'),
    ("seeds: 0\n", 'seeds must be a number from 1 or a list of numbers, not "0"'),
    ("seeds: 010\n", 'seeds must be a number from 1 or a list of numbers, not "010"'),
    ("seeds: 1e9\n", 'seeds "1e9" are too many: use 10,000 or fewer'),
    ("seeds: [1, 1.0]\n", "a seed is given twice: [1, 1.0]"),
    ('"": 1\n', "x.yaml:4: a key must be a plain word"),
    ("baseline: {decoder_depth: 1, decoder_depth: 2}\n", 'key "decoder_depth" is given twice'),
    (
        "baseline: {mask_ratio: .5, pretrain.mask_ratio: .6}\n",
        "x.yaml:4: pretrain.mask_ratio is given twice",
    ),
    (
        "tune: {linear_probe.penalty: [1, 2], penalty: [3]}\n",
        'x.yaml:4: linear_probe.penalty is given twice, here as "penalty"',
    ),
    ("title: " + "[" * 1200 + "\n", "x.yaml: not valid YAML: nested too deeply"),
]


@pytest.mark.parametrize(("line", "message"), NOT_READ, ids=[m[:40] for _, m in NOT_READ])
def test_what_is_not_read_is_one_line(planned, line, message):
    with pytest.raises(UserError) as error:
        planned(STUDY + line)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_aliases_stand_for_what_they_name(planned):
    plan = planned(
        "recipe: toy\nbaseline: {mask_ratio: &m 0.5}\nfactors: {mask_ratio: [*m, 0.75]}\n"
    )
    assert [row.level.value for row in plan.rows] == [0.5, 0.75] and plan.rows[0].is_baseline


def test_aliases_that_multiply_are_refused(planned):
    lines = ["title: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"k{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 7)]
    with pytest.raises(UserError, match="more than 100,000 values"):
        planned(STUDY + "\n".join(lines) + "\n")


# levels ------------------------------------------------------------------------------------------

RATES = "recipe: toy\nfactors:\n  pretrain.base_lr: [1e-3, 2e-3, 4e-3]\n"


def test_levels_in_exponents_are_numbers_everywhere(planned):
    plan = planned(RATES)
    (factor,) = plan.study.factors
    assert [level.value for level in factor.levels] == [0.001, 0.002, 0.004]
    assert [row.label for row in plan.rows] == ["baseline", "0.001", "0.002", "0.004"]
    assert is_ordered(factor) and is_geometric([level.value for level in factor.levels])
    trial = plan.rows[1].trials[0]
    (metric,) = factor_metrics(make_params(plan, trial), number_levels(plan.study))
    assert (metric.key, metric.value) == ("factor_pretrain_base_lr", 0.001)
    found = choose_colours(plan)
    shades = [found[row.trials[0].result_id] for row in plan.rows[1:]]
    assert shades == [VIRIDIS[0], VIRIDIS[4], VIRIDIS[8]]


@pytest.mark.parametrize("again", ["10e-4", '"0.001"'])
def test_a_level_in_another_spelling_is_the_same_level(planned, again):
    with pytest.raises(UserError) as error:
        planned(RATES.replace("4e-3", again))
    spelled = again.strip('"')
    said = "" if spelled == "0.001" else f', here as "{spelled}"'
    assert f"level 0.001 of pretrain.base_lr is given twice{said}" in str(error.value)


def test_the_paper_s_levels_are_found_in_any_spelling(planned):
    text = (
        "recipe: toy\npaper: figure_9\nphases: [partial]\nfactors: {blocks: [0, 5e-1, +1, 24.0]}\n"
    )
    recipe = TOY_RECIPE + "levels: {blocks: {0.0: 0, .5: .5, 1: null, 2.4e1: 1}}\n"
    plan = planned(text, recipe + "partial: {epochs_tried: [6]}\n")
    assert [row.label for row in plan.rows if row.level] == ["0", "0.5", "24 (here 1)"]
    assert plan.study.factors[0].left_out == ("1",)
    table = table_frame(plan, results_frame(plan)).set_index("level")
    assert table.loc[["0", "0.5", "24 (here 1)"], "paper"].tolist() == [73.5, 79.1, 84.9]
    with pytest.raises(UserError, match="toy.yaml:.*: level 1 of blocks is given twice"):
        planned(text, TOY_RECIPE + "levels: {blocks: {1: 1, 1.0: 1}}\n")


def test_combinations_are_left_out_in_any_spelling(planned):
    text = "recipe: toy\ndesign: grid\n"
    text += "factors: {mask_ratio: [0.5, 0.75], class_token: [true, false]}\n"
    text += "baseline: {linear_probe.pooling: mean, finetune.pooling: mean}\n"
    plan = planned(text + "exclude: [{mask_ratio: 5E-1, class_token: True}]\n")
    assert [row.label for row in plan.rows] == [
        "mask_ratio=0.5, class_token=false",
        "mask_ratio=0.75, class_token=true",
        "mask_ratio=0.75, class_token=false",
    ]


NAMES = ["yes", "010", "null", "1e3", "2024-01-01", "~", "nan", "1:30", "0x1f", "true", "a b"]


def test_names_of_levels_and_factors_stay_as_they_are_written(planned):
    levels = "".join(f"    {name}: {{decoder_depth: {i + 1}}}\n" for i, name in enumerate(NAMES))
    plan = planned(f"recipe: toy\nfactors:\n  010:\n{levels}")
    (factor,) = plan.study.factors
    assert factor.name == "010" and [level.value for level in factor.levels] == NAMES
    table = table_frame(plan, results_frame(plan))
    assert table["level"].tolist()[: len(NAMES)] == NAMES and not is_ordered(factor)
    assert set(table["factor"][: len(NAMES)]) == {"010"}
    places = number_levels(plan.study)["010"]
    assert [places[name] for name in NAMES] == list(range(len(NAMES))), "names are no numbers"


@pytest.mark.parametrize(
    ("levels", "wide"),
    [
        ([1e-3, 2e-3, 4e-3], True),
        ([0.01, 0.03, 0.1, 0.3], True),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9], False),
        ([0, 1, 10], False),
        ([1, 100], False),
    ],
)
def test_geometric_levels_stand_on_a_logarithmic_axis(levels, wide):
    assert is_geometric(levels) is wide


def report_with(folder, labels, factor="pretrain_base_lr"):
    """A saved report with one seed of each label."""
    columns = {"kind": "level", "metric": "linear_probe_acc1", "seed": "0", "trial_id": "t"}
    trials = [
        {"factor": factor, "level": label, "value": str(i), **columns}
        for i, label in enumerate(labels)
    ]
    return SavedReport(folder=folder, about={}, trials=trials)


def test_reports_have_levels_of_one_value_in_common(tmp_path):
    """An earlier report has its labels as its study wrote them."""
    one = report_with(tmp_path, ["1e-3", "2E-3", "0.004"])
    two = report_with(tmp_path, ["0.001", ".002", "0.008"])
    (section,) = compare_reports(one, two).sections
    assert [line[0] for line in section.table[1:]] == ["1e-3 / 0.001", "2E-3 / .002"]
    assert section.sentences[-2:] == ["Only in A: 0.004.", "Only in B: 0.008."]


def test_names_that_look_like_one_number_are_not_one_level(tmp_path):
    one = report_with(tmp_path, ["1e3", "1000"], factor="how")
    (section,) = compare_reports(one, one).sections
    assert [line[0] for line in section.table[1:]] == ["1e3", "1000"]
    same = report_with(tmp_path, ["1e-3", "0.001"])
    (section,) = compare_reports(same, same).sections
    assert [line[0] for line in section.table[1:]] == ["1e-3", "0.001"]


# recipes -----------------------------------------------------------------------------------------


def test_a_recipe_file_beside_the_study_is_found_from_anywhere(write_study, tmp_path, monkeypatch):
    path = write_study(STUDY.replace("toy", "mine.yaml"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UserError) as error:
        load_study(path)
    looked = f"looked in {path.parent}, {path.parent}/recipes, {tmp_path}/elsewhere"
    assert str(error.value).startswith(f'{path}:1: unknown recipe "mine.yaml"')
    assert str(error.value).endswith(looked)
    for folder, depth in (("elsewhere", 3), ("studies/recipes", 2), ("studies", 1)):
        deeper = TOY_RECIPE.replace("encoder_depth: 1", f"encoder_depth: {depth}")
        (tmp_path / folder / "mine.yaml").write_text(deeper)
        assert load_study(path).baseline.model.encoder_depth == depth
    assert load_study(path, recipe="mine.yaml").baseline.model.encoder_depth == 3, "typed here"


def test_a_recipe_beside_the_study_is_named_with_its_ending(write_study):
    path = write_study(STUDY.replace("toy", "mine"))
    path.with_name("mine.yaml").write_text(TOY_RECIPE)
    with pytest.raises(UserError, match=r'unknown recipe "mine" \(did you mean "mine.yaml"\?\)'):
        load_study(path)


def test_errors_name_who_said_it(write_study, tmp_path):
    path = write_study(STUDY)
    suite = path.with_name("all.yaml")
    suite.write_text("studies: [x]\nrecipe: tou\n")
    with pytest.raises(UserError, match=r'all.yaml:2: unknown recipe "tou"'):
        plan_study(suite, store=tmp_path)
    with pytest.raises(UserError, match=r'^--recipe: unknown recipe "tou"'):
        plan_study(suite, store=tmp_path, recipe="tou")
    place = r"x.yaml, recipe toy, --set pretrain.batch_size=201: "
    with pytest.raises(UserError, match=f"{place}.* is above the 200 training images"):
        plan_study(path, store=tmp_path, changes=["pretrain.batch_size=201"])


def test_evaluations_are_left_out_by_the_recipe_or_by_the_command(planned):
    text = STUDY + "phases: [pretrain, linear_probe, finetune]\n"
    said = describe_plans([], [planned(text, phases=("pretrain",))], 2)
    every = "--phases pretrain,linear_probe,finetune runs them too"
    assert f"note: --phases leaves out linear_probe, finetune; {every}" in said
    said = describe_plans([], [planned(text, TOY_RECIPE + "skip: [finetune]\n")], 2)
    assert "note: recipe toy leaves out finetune; --phases" in said
    tuned = text + "tune: {pretrain.base_lr: [1e-3, 2e-3]}\n"
    with pytest.raises(UserError, match="and --phases leaves no evaluation: add linear_probe"):
        planned(tuned, phases=("pretrain",))


# advice ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [2, 14, 39])
def test_a_mask_ratio_that_is_advised_keeps_a_patch(planned, side):
    sampler = Sampler()
    assert sampler.kept(side**2, largest_ratio(side**2, sampler)) >= 1
    assert largest_ratio(400, sampler) == 0.9974, "0.9975 of 400 patches keeps 0.99999999 of one"
    sizes = [f"data.image_size={2 * side}", "patch_size=2", "data.name=imagenette"]
    with pytest.raises(UserError) as error:
        planned(changes=[*sizes, "mask_ratio=0.99999"])
    advised = str(error.value).rsplit(" ", 1)[1]
    study = f"recipe: toy\nfactors: {{mask_ratio: [{advised}]}}\n"
    assert load_with(planned, study, sizes).kept_patches >= 1


def load_with(planned, study, changes):
    """The recipe of the only level of a study."""
    return planned(study, changes=changes).study.factors[0].levels[0].recipe


BIG = ["data.name=imagenet", "data.image_size=220", "data.train_images=null"]


@pytest.mark.parametrize(
    ("changes", "advice", "remedy"),
    [
        (["mask_sampling=grid", "mask_ratio=0.5"], "mask_ratio must be 0.75", "mask_ratio=0.75"),
        (["class_token=false"], "pooling cls needs a class token: take mean", "pooling=mean"),
        (["data.reading=stream"], "is read as a whole: take cache", "data.reading=cache"),
        (BIG, "take data.reading=stream", "data.reading=stream"),
        (["image_size=22000", "patch_size=50"], "take a smaller data.image_size", "image_size=100"),
        (["patch_size=30"], "take a smaller patch", "patch_size=15"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_advice_that_is_followed_helps(planned, changes, advice, remedy):
    def whole(change):
        name, value = change.split("=")
        section = {"pooling": "linear_probe", "image_size": "data"}.get(name)
        return f"{section}.{name}={value}" if section else change

    study = "recipe: toy\nfactors:\n  decoder_depth: [1]\n"
    with pytest.raises(UserError, match=advice):
        planned(study, changes=list(map(whole, changes)))
    assert planned(study, changes=list(map(whole, [*changes, remedy])))


def test_an_image_of_one_patch_cannot_be_masked(planned):
    with pytest.raises(UserError, match="patch_size 30 makes one patch of an image of 30 px"):
        planned(changes=["patch_size=30"])
