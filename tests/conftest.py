"""Shared toys: the smallest recipe that trains, a store of its own, the repository's root."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("RAY_ADDRESS", None)

ROOT = Path(__file__).parents[1]


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
def toy():
    """Arguments of a recipe that trains in well under a second: 6 x 6 patches, 200 images."""
    from mae_ablation.recipe.recipe import Data, Model, Pretrain, Recipe
    from mae_ablation.train.evaluations.linear_probe import LinearProbe

    return Recipe(
        data=Data(image_size=30, train_images=200, validation_images=100),
        model=Model(
            patch_size=5,
            encoder_width=16,
            encoder_depth=1,
            encoder_heads=2,
            decoder_width=8,
            decoder_depth=1,
            decoder_heads=2,
        ),
        pretrain=Pretrain(epochs=3, warmup_epochs=1, batch_size=50, checkpoint_every_s=0),
        linear_probe=LinearProbe(epochs=3, warmup_epochs=1, batch_size=50, checkpoint_every_s=0),
    )


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


@pytest.fixture
def write_study(tmp_path):
    """Writes studies/x.yaml and studies/recipes/toy.yaml; returns the study's path."""

    def write(study: str, recipe: str = "") -> Path:
        studies = tmp_path / "studies"
        (studies / "recipes").mkdir(parents=True, exist_ok=True)
        (studies / "recipes" / "toy.yaml").write_text(recipe or TOY_RECIPE)
        (studies / "x.yaml").write_text(study)
        return studies / "x.yaml"

    return write


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
