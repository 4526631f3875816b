"""The open door: our own components and a user's, by name, from one registry."""

import ast
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from toys import change, trial_of

from mae_ablation import registry
from mae_ablation.cli import main
from mae_ablation.errors import UserError
from mae_ablation.store.plugin import read_plugin, unpack_plugin

PACKAGE = ROOT / "platform" / "mae_ablation"
LAB = ROOT / "tests" / "example_lab"
pytestmark = pytest.mark.usefixtures("own_components")
TARGET = """
from mae_ablation import register

@register.target("{name}", version=1)
class Mine:
    '''A target of mine.'''
    {body}
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A copy of the example lab, with its images, as the working directory."""
    shutil.copytree(LAB, tmp_path / "lab_copy")
    monkeypatch.chdir(tmp_path / "lab_copy")
    subprocess.run([sys.executable, "make_images.py"], check=True)
    return tmp_path / "lab_copy"


WRONG = """
from mae_ablation import register

@register.sampler("short", version=1)
class Short:
    '''Gives the visible patches alone.'''

    def shuffle(self, n, grid, keep, generator):
        import torch

        return torch.rand(n, grid[0] * grid[1], generator=generator).argsort(dim=1)[:, :keep]

@register.evaluation("silent", version=1)
class Silent:
    '''Prints instead of returning.'''

    def evaluate(self, job):
        print(len(job.data.test))
"""
CORNERS = """
from mae_ablation import register

@register.augmentation("corners", version=1)
class Corners:
    '''A part of the image, at its top left or its bottom right, and some light.'''

    share: float = 0.7
    streamed = "box"

    def boxes(self, n, size, generator):
        import torch
        from mae_ablation.data.augment import Boxes

        tall, wide = (torch.full((n,), round(side * self.share)) for side in size)
        low = torch.rand(n, generator=generator) < 0.5
        top, left = (torch.where(low, side - part, 0) for side, part in zip(size, (tall, wide)))
        return Boxes(top, left, tall, wide, flip=low)

    def draw(self, n, generator):
        import torch

        return (torch.rand(n, 1, 1, 1, generator=generator) / 4,)

    def apply(self, pixels, drawn):
        return (pixels + drawn[0].to(pixels.device)).clamp(0, 1)
"""


def file_of(tmp_path, body, name="mine"):
    file = tmp_path / "mine.py"
    file.write_text(TARGET.format(name=name, body=body))
    return str(file)


def refused(*plugins):
    with pytest.raises(UserError) as error:
        registry.load_plugins(plugins)
    assert "\n" not in str(error.value)
    return str(error.value)


# our own


def test_knn_is_one_file_and_so_is_pca():
    for name in ("knn", "pca"):
        files = [p for p in PACKAGE.rglob("*.py") if re.search(rf"\b{name}\b", p.read_text())]
        assert len(files) == 1, files


def test_no_list_of_components_stands_outside_the_registry():
    """Neither a Literal nor a comparison knows the name of a component, but in its own file."""
    words = {"none", "grid", "random"}  # of other lists, too
    components = [each for kind in registry.BASES for each in registry.list_components(kind)]
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        foreign = {each.name for each in components if each.cls.__module__ != module} - words
        for node in ast.walk(ast.parse(path.read_text())):
            held = [node.comparators] if isinstance(node, ast.Compare) else []
            held += [[node.slice]] if isinstance(node, ast.Subscript) else []
            constants = {
                each.value
                for part in held
                for item in part
                for each in ast.walk(item)
                if isinstance(each, ast.Constant)
            }
            assert not foreign & constants, f"{path}:{node.lineno}: {foreign & constants}"


# from outside


def test_readme_s_target_in_fifteen_lines(tmp_path, monkeypatch, capsys):
    readme = (ROOT / "README.md").read_text()
    section = readme[readme.index("### Your own target in fifteen lines") :]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    (tmp_path / "low_frequencies.py").write_text(code)
    shutil.copytree(ROOT / "studies" / "recipes", tmp_path / "recipes")
    (tmp_path / "study.yaml").write_text(re.search(r"```yaml\n(.*?)```", section, re.DOTALL)[1])
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "study.yaml", "--plugin", "low_frequencies.py"]) == 0
    assert "plug-ins: low_frequencies.py (" in capsys.readouterr().out

    from mae_ablation.api import plan_study
    from mae_ablation.store.folder import Store
    from mae_ablation.train.trial import run_trial

    trial = plan_study("study.yaml", plugins=["low_frequencies.py"]).trials[0]
    assert run_trial(trial, tmp_path / "store") is None
    assert trial.phases[0].folder(Store(tmp_path / "store")).result()["train_loss"] > 0


def test_components_are_listed_with_settings_and_origin(lab, capsys):
    assert main(["components", "--plugin", "lab"]) == 0
    said = capsys.readouterr().out
    assert "  hog  A histogram of the directions of each patch's gradients. (lab)" in said
    assert "      hog.bins: 9" in said
    assert "samplers: kept(patches, mask_ratio, *, epoch, epochs), shuffle(n, grid, keep" in said
    assert said.endswith(f"may say: {PACKAGE / 'registry.py'}\n")
    assert "  knn  Votes of the nearest training images, by cosine of frozen features. (mae" in said


def test_the_schema_for_editors_knows_a_component_s_settings(tmp_path, capsys):
    assert main(["schema", "recipe", "--plugin", file_of(tmp_path, "bins: int = 9")]) == 0
    (field,) = (v for k, v in json.loads(capsys.readouterr().out)["$defs"].items() if "bins" in k)
    assert field == {"type": "integer"}


def test_a_plan_with_plugins_imports_no_torch(lab):
    code = (
        "import sys\nfrom mae_ablation.cli import main\n"
        "assert main(['plan', 'studies/everything.yaml', '--plugin', 'lab']) == 0\n"
        "assert not {'torch', 'ray', 'mlflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_source_is_part_of_what_uses_it_and_travels(lab):
    """Another source is another identity of the trainings that use it, and the plan says so; other
    processes build the components from what they are sent."""
    from mae_ablation.api import plan_study
    from mae_ablation.store.folder import Store
    from mae_ablation.study.provenance import plugin_lines
    from mae_ablation.train.trial import run_trial

    def plan():
        asked = {"plugins": ["lab"], "store": "store", "changes": ["pretrain.epochs=2"]}
        return plan_study("studies/everything.yaml", **asked)

    before = plan()
    trial = before.trials[0]
    assert run_trial(trial, Store("store").root) is None
    assert plan().trials[0].id == trial.id
    hog = Path("lab/hog.py")
    hog.write_text(hog.read_text() + "# another line\n")
    after = plan()
    assert trial.id not in {each.id for each in after.trials}
    (line,) = [line for line in plugin_lines([after]) if "has changed" in line]
    assert "lab has changed since 1 result of the store was made" in line
    packed = [unpack_plugin(each.packed()) for each in registry.plugins()]
    assert packed == list(registry.plugins())


def test_an_installed_package_needs_no_flag(tmp_path, monkeypatch):
    """Its entry point names its module; what a driver has shipped comes before it."""
    package, facts = tmp_path / "lab", tmp_path / "my_lab-1.0.dist-info"
    for folder in (package, facts):
        folder.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[mae_ablation.components]\nmy-lab = lab.targets\n")
    (package / "__init__.py").write_text("")
    (package / "targets.py").write_text(TARGET.format(name="mine", body="bins: int = 9"))
    monkeypatch.syspath_prepend(tmp_path)
    registry.load_plugins([])
    found = registry.find_component("target", "mine")
    assert (found.origin, found.plugin.entry, found.plugin.module) == (
        "my-lab",
        True,
        "lab.targets",
    )
    assert [path for path, _ in found.plugin.files] == ["lab/__init__.py", "lab/targets.py"]
    assert found.meaning == {"mine": {"version": 1, "source": found.plugin.hash}}

    # a driver's own version of it
    source = (package / "targets.py").read_text().replace("9", "6").encode()
    sent = replace(found.plugin, files=(("lab/__init__.py", b""), ("lab/targets.py", source)))
    registry.install_plugins([sent])
    registry.load_plugins([])
    assert registry.find_component("target", "mine").cls().bins == 6


def test_a_file_is_the_same_plug_in_as_the_module_of_its_name(tmp_path, monkeypatch):
    file_of(tmp_path, "bins: int = 9")
    monkeypatch.chdir(tmp_path)
    assert read_plugin("mine.py").hash == read_plugin("mine").hash


def test_a_plan_names_the_first_and_the_last_count_of_a_curriculum(write_study, capsys):
    study = write_study(
        "recipe: toy\nbaseline: {mask_sampling: curriculum}\n"
        "factors:\n  curriculum.first: [0.25, 0.5]\nphases: [pretrain]\n"
    )
    plugin = str(ROOT / "tests" / "plugin_of_needs.py")
    assert main(["plan", str(study), "--plugin", plugin]) == 0
    said = capsys.readouterr().out
    assert "first=0.25 seed 0                keeps 27-9" in said
    assert "first=0.5 seed 0                 keeps 18-9" in said


def test_crops_of_one_s_own_are_drawn_by_the_workers_that_decode(images, tmp_path):
    """They build the augmentation from the source that is sent, and draw what one process draws."""
    import torch

    from mae_ablation.data.augment import View, boxes_for
    from mae_ablation.data.dataset import load_dataset
    from mae_ablation.data.feed import Feed
    from mae_ablation.recipe.recipe import Data

    file = tmp_path / "corners.py"
    file.write_text(CORNERS)
    registry.load_plugins([str(file)])
    place = {"name": "image_folder", "folder": str(images), "reading": "stream"}
    split = load_dataset(Data(**place, image_size=16, validation_images=2)).train
    view = View(augmentation=registry.find_component("augmentation", "corners").cls(share=0.5))

    def first_epoch(workers):
        feed = Feed(split, view, workers=workers)
        rng = torch.Generator().manual_seed(0)
        return torch.cat([pixels for pixels, _ in feed.batches([torch.arange(4)] * 2, rng)])

    alone = first_epoch(0)
    assert torch.equal(first_epoch(1), alone)
    assert not torch.equal(alone[:4], alone[4:])  # the same images, cropped anew
    wide = View(augmentation=registry.find_component("augmentation", "corners").cls(share=1.5))
    with pytest.raises(ValueError, match="corners draws boxes outside of 30 pixels: begin from -3"):
        boxes_for(wide, 2, (30, 40), torch.Generator())


def test_a_table_says_that_its_results_are_of_several_versions_of_the_code():
    from mae_ablation.study.provenance import mixed

    assert mixed(["a1", "a1"]) == ""
    assert mixed(["a1", "b2"]) == " (results of several versions of the code)"
    assert mixed(["a1+changes"]) == " (changes that no commit holds)"


def test_a_broken_plugin_is_one_line(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import os\n\nraise RuntimeError('no such thing')\n")
    assert refused(str(broken)) == f"{broken}:3: raises at import: RuntimeError: no such thing"
    broken.write_text("x = (\n")
    assert refused(str(broken)).startswith(f"{broken}:1: raises at import: SyntaxError")
    broken.write_text("x = 1\n")
    assert "registers no component" in refused(str(broken))
    assert "no such file" in refused(str(tmp_path / "absent.py"))
    assert "no such module" in refused("absent_module")
    assert "no such module" in refused("json.absent_module")
    with pytest.raises(UserError, match="known: block, grid, random.; one of your own .* --plugin"):
        registry.find_component("sampler", "curriculum")
    taken = file_of(tmp_path, "bins: int = 9", name="knn")
    assert "the name is taken by the evaluation of mae_ablation" in refused(taken)
    assert "setting bins has no default" in refused(file_of(tmp_path, "bins: int"))
    assert "setting bins is of type" in refused(file_of(tmp_path, "bins: list = ()"))
    wrong = file_of(tmp_path, "def of(self, patches, patchsize): return patches")
    assert 'unknown parameter of of "patchsize" (did you mean "patch_size"?)' in refused(wrong)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def of(self, patches): return patches[..., :3]", "target mine gives 3 numbers"),
        ("def of(self, patches): return patches * float('nan')", "target mine gives NaN"),
    ],
)
def test_a_target_that_is_wrong_fails_with_its_name(toy, tmp_path, body, reason):
    from mae_ablation.train.trial import run_trial

    registry.load_plugins([file_of(tmp_path, body)])
    recipe = change(toy, "pretrain", target="mine")
    assert reason in run_trial(trial_of(recipe, "pretrain"), tmp_path / "store")


def test_a_sampler_or_an_evaluation_that_is_wrong_fails_with_its_name(toy, tmp_path):
    from mae_ablation.train.trial import run_trial

    (tmp_path / "wrong.py").write_text(WRONG)
    registry.load_plugins([str(tmp_path / "wrong.py")])
    recipe = change(toy, "pretrain", mask_sampling="short")
    assert run_trial(trial_of(recipe, "pretrain"), tmp_path / "store") == (
        "pretrain: ValueError: sampler short gives int64 of (2, 9): return each image's "
        "permutation of the 36 patches, int64 of (2, 36)"
    )
    recipe = change(toy, "pretrain", epochs=2, reconstructions=0)
    said = run_trial(trial_of(recipe, "pretrain", "silent"), tmp_path / "store")
    assert "silent returns NoneType: return a dict of numbers such as test_acc1" in said


def test_components_may_need_more_than_one_call(toy, tmp_path):
    """A loss in another domain, weighted by distance, with a term on features; a ratio that grows;
    five channels; two columns."""
    from mae_ablation.data.catalog import require_fit
    from mae_ablation.recipe.cost import pretrain_flops
    from mae_ablation.recipe.recipe import Data
    from mae_ablation.store.folder import Store
    from mae_ablation.train.inspect import open_model
    from mae_ablation.train.trial import run_trial

    registry.load_plugins([str(ROOT / "tests" / "plugin_of_needs.py")])
    chosen = {"target": "frequencies", "mask_sampling": "curriculum", "reconstructions": 0}
    recipe = replace(
        toy,
        data=Data(name="five_channels", image_size=12, validation_images=20),
        model=replace(toy.model, patch_size=3),
        pretrain=replace(toy.pretrain, batch_size=40, **chosen),
    )
    assert recipe.kept_counts == {12: 1, 8: 1, 4: 1}
    alone = [replace(recipe.pretrain, mask_sampling="random", mask_ratio=r) for r in (0.25, 0.75)]
    dear, cheap = (pretrain_flops(replace(recipe, pretrain=each), 5) for each in alone)
    assert cheap < pretrain_flops(recipe, 5) < dear
    trial = trial_of(recipe, "pretrain", "two_numbers")
    assert run_trial(trial, tmp_path) is None
    trained, measured = (phase.folder(Store(tmp_path)).result() for phase in trial.phases)
    assert trained["train_loss"] > 0
    assert 0 <= measured["test_worst"] <= measured["test_acc1"] <= 100
    assert list(registry.metrics_of("two_numbers")) == ["two_numbers_acc1", "two_numbers_worst"]
    assert open_model(trial.id, Store(tmp_path), None).keep == 4  # drawn as at the end
    with pytest.raises(UserError, match="needs 1 or 3 channels, .* 5: set finetune.randaug.*=0"):
        require_fit(recipe, "x.yaml", ["pretrain", "finetune"])
    assert trial.phases[0].document["pretrain"]["kept_patches"] == [[12, 1], [8, 1], [4, 1]]


@pytest.mark.slow
def test_the_lab_runs_on_two_lanes_killed_once_and_from_an_empty_folder(lab):
    """All five components in one study, to its table; killed on the way, the same command ends."""
    words = ["-m", "mae_ablation", "run", "studies/everything.yaml", "--plugin", "lab"]
    command = [sys.executable, *words, "--lanes", "2", "--local"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in first.stdout:
        if "trials  finished" in line:
            break
    first.kill()
    first.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    table = Path("reports/everything/table.md").read_text()
    assert "Plug-ins: lab (" in table and "**Nearest centroid.**" in table
    assert len(re.findall(r"^\| (?:\*\*)?bins=", table, re.MULTILINE)) == 32  # one is bold
