"""Every shipped study runs to its table, all together, at the smoke recipe's scale."""

import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

from mae_ablation.data.dataset import load_dataset
from mae_ablation.recipe.recipe import Data

STUDIES = sorted(p.stem for p in (ROOT / "studies").glob("*.yaml") if p.stem != "paper")


def write_images(folder):
    """A few of the bundled images as files: the bundled test split alone would take minutes."""
    data = load_dataset(Data(image_size=28))
    for part, split, each in (("train", data.train, 70), ("val", data.test, 10)):
        for label in range(data.classes):
            place = folder / part / str(label)
            place.mkdir(parents=True)
            for i in (split.labels == label).nonzero()[:each, 0].tolist():
                Image.fromarray(split.images[i, 0].numpy()).save(place / f"{i}.png")


@pytest.mark.slow
def test_every_study_runs_to_its_table(tmp_path):
    write_images(tmp_path / "images")
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    files = sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "studies").glob("*.yaml"))
    few = ["data.name=image_folder", "data.folder=images", "data.validation_images=100"]
    quick = ["pretrain.epochs=1", "pretrain.warmup_epochs=0"]
    changes = [word for change in few + quick for word in ("--set", change)]
    done = subprocess.run(
        [sys.executable, "-m", "mae_ablation", "run", *files, "--recipe", "smoke"]
        + [*changes, "--seeds", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trials finished" in done.stdout and "FAILED" not in done.stdout
    for study in STUDIES:
        (folder,) = (tmp_path / "reports").glob(f"{study}-smoke-*")
        page = (folder / "table.md").read_text()
        assert "1/1" in page and "0/1" not in page, study
        assert (folder / "figure.png").stat().st_size > 10_000
    (target,) = (tmp_path / "reports").glob("target-smoke-*")
    assert "dvae_token (stand-in, in-domain)" in (target / "table.md").read_text()
