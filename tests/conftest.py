"""Shared toys: the smallest recipe that trains, a store of its own, the repository's root."""

import os
from functools import partial
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]

# what tests start imports this checkout, stays on this machine and has the threads of a lane
os.environ["PYTHONPATH"] = str(ROOT / "platform")
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("RAY_ADDRESS", None)

# thousands of toy results need not outlive a power failure
os.fsync = lambda descriptor: None


def small_model(seed=0, **changes):
    """A masked autoencoder of 4 x 6 patches of 2 pixels, three channels, with a seed's weights."""
    from mae_ablation.mae.initialise import initialise
    from mae_ablation.mae.model import MaskedAutoencoder
    from mae_ablation.train.optim import generator

    shape = dict(
        image_size=(8, 12),
        patch_size=2,
        channels=3,
        encoder_width=16,
        encoder_depth=2,
        encoder_heads=4,
        decoder_width=8,
        decoder_depth=1,
        decoder_heads=2,
    )
    model = MaskedAutoencoder(**{**shape, **changes})
    return initialise(model, generator(seed, "init/encoder"), generator(seed, "init/decoder"))


@pytest.fixture
def toy(tmp_path_factory):
    """The toy recipe with an epoch more, a checkpoint after every step."""
    from mae_ablation.study.recipe_file import read_recipe
    from mae_ablation.study.settings import resolve

    path = tmp_path_factory.mktemp("recipe") / "toy.yaml"
    path.write_text(TOY_RECIPE.replace("epochs: 2", "epochs: 3, checkpoint_every_s: 0"))
    return resolve(read_recipe(path).settings)


@pytest.fixture
def own_components():
    """Whatever components a test loads are gone after it."""
    import sys

    from mae_ablation import registry

    registry.load_plugins([])
    kept = dict(registry._components), dict(registry._plugins), set(sys.modules), list(sys.path)
    yield
    for known, before in zip((registry._components, registry._plugins), kept[:2], strict=True):
        known.clear()
        known.update(before)
    for name in set(sys.modules) - kept[2]:
        if name == "lab" or name.startswith(("lab.", "mae_ablation_plugin")):
            del sys.modules[name]
    sys.path[:] = kept[3]
    registry._forget()


@pytest.fixture
def images(tmp_path):
    """Two classes, six training and two validation images each, JPEG and PNG, of many shapes."""
    import torch
    from torchvision.io import write_jpeg, write_png

    from mae_ablation.data import folder
    from mae_ablation.train.optim import generator

    rng = generator(0, "images")
    for split, count in (("train", 6), ("val", 2)):
        for name in ("cat", "dog"):
            inside = tmp_path / split / name
            inside.mkdir(parents=True)
            for i in range(count):
                size = (3, 24 + 4 * i, 40 - 3 * i)
                picture = torch.randint(0, 256, size, dtype=torch.uint8, generator=rng)
                if i % 2:
                    write_jpeg(picture, str(inside / f"{i}.JPEG"))
                else:
                    write_png(picture, str(inside / f"{i}.png"))
    folder.forget()
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    from mae_ablation.store.folder import PhaseFolder

    (tmp_path / "phase").mkdir()
    return PhaseFolder.at(tmp_path / "phase")


def write_place(
    place: Path, study: str, recipe: str = "", name: str = "x", **pretrain: float
) -> Path:
    """Write studies/x.yaml and studies/recipes/toy.yaml, as a clone has them; returns the study.

    `pretrain`: changes of the recipe, such as more epochs.
    """
    recipes = place / "studies" / "recipes"
    recipes.mkdir(parents=True, exist_ok=True)
    if pretrain:
        settings = yaml.safe_load(recipe or TOY_RECIPE)
        settings["pretrain"].update(pretrain)
        recipe = yaml.safe_dump(settings)
    (recipes / "toy.yaml").write_text(recipe or TOY_RECIPE)
    path = place / "studies" / f"{name}.yaml"
    path.write_text(study)
    return path


@pytest.fixture
def write_study(tmp_path):
    """Writes a study and its recipe; see `write_place`."""
    return partial(write_place, tmp_path)


@pytest.fixture
def planned(request, write_study, tmp_path):
    """Plans a study from its text; without one, from the STUDY (and RECIPE) of its test file."""
    from mae_ablation.api import plan_study

    def plan(text: str = "", recipe: str = "", **asked):
        path = write_study(
            text or request.module.STUDY, recipe or getattr(request.module, "RECIPE", "")
        )
        return plan_study(path, store=tmp_path / "store", **asked)

    return plan


@pytest.fixture(scope="module")
def s3():
    """URI of a place in a bucket; a server on loopback stands in for S3."""
    server = pytest.importorskip("moto.server", reason="needs moto[server]")
    import boto3

    thread = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    thread.start()
    host, port = thread.get_host_and_port()
    values = {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    boto3.client("s3").create_bucket(Bucket="mae")
    yield "s3://mae/results"
    thread.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def without_figures(monkeypatch):
    """Reports in a fraction of the time, where figures are not the question."""

    def draw_figure(plan, table, results, folder):
        (folder / "figure.svg").write_text("<svg/>")
        return [folder / "figure.svg"]

    monkeypatch.setattr("mae_ablation.report.figure.draw_figure", draw_figure)
    monkeypatch.setattr("mae_ablation.report.html.curves_svg", lambda plan, results: None)


# trains in well under a second: 6 x 6 patches, 200 images
TOY_RECIPE = """\
data: {image_size: 30, train_images: 200, validation_images: 100}
model:
  patch_size: 5
  encoder_width: 16
  encoder_depth: 1
  encoder_heads: 2
  decoder_width: 8
  decoder_depth: 1
  decoder_heads: 2
pretrain: {epochs: 2, warmup_epochs: 1, batch_size: 50}
linear_probe: {epochs: 2, warmup_epochs: 1, batch_size: 50}
"""
