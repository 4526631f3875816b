"""Commands about single models: reconstruct, export, masks, data; and their one-line errors."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from test_phases import a_folder

from mae_ablation import cli
from mae_ablation.mae.checkpoints import export_official, read_checkpoint
from mae_ablation.phases.inspect import open_model
from mae_ablation.phases.models import build_model
from mae_ablation.phases.run import PhaseRun
from mae_ablation.phases.trial import run_trial
from mae_ablation.store.folder import Store
from mae_ablation.study.identity import pretrain_document
from mae_ablation.study.trial import make_trial


@pytest.fixture
def picture(tmp_path):
    """A photograph of sorts: 50 x 40, RGB."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


@pytest.fixture
def trained(toy, tmp_path):
    """A finished pre-training with normalised patches in a store; returns store and identity."""
    from mae_ablation.data.catalog import facts

    class AStudy:
        phases = ("pretrain",)
        measure = "accuracy"

    recipe = dataclasses.replace(
        toy, pretrain=dataclasses.replace(toy.pretrain, target="pixel_norm")
    )
    trial = make_trial(AStudy, recipe, 0, "pretrain", "toy", facts(toy.data))
    assert run_trial(trial, tmp_path / "store") is None
    return Store(tmp_path / "store"), trial.id


def call(*words):
    return cli.main([str(word) for word in words])


def size(path):
    with Image.open(path) as image:
        return image.size


def test_a_trial_of_the_store_reconstructs_an_image(trained, picture, tmp_path, capsys):
    store, identity = trained
    out = tmp_path / "out.png"
    words = ["reconstruct", "--checkpoint", identity, "--image", picture, picture]
    assert call(*words, "--store", store.root, "--out", out) == 0
    said = capsys.readouterr().out
    assert "random sampling keeps 9 of 36 patches" in said
    assert "true mean and contrast, removed ones too" in said
    assert size(out)[0] > 1000
    first = out.read_bytes()
    more = ["--mask-ratio", "0.5", "--sampling", "block", "--seed", "3"]
    assert call(*words, "--store", store.root, "--out", out, *more) == 0
    assert "block sampling keeps 18 of 36 patches" in capsys.readouterr().out
    assert out.read_bytes() != first


def test_an_official_file_is_read_and_written(toy, picture, tmp_path, capsys):
    model = build_model(toy, 3, 0)
    export_official(model, tmp_path / "mae_visualize.pth")
    opened = open_model(str(tmp_path / "mae_visualize.pth"), Store(tmp_path), None).model
    images, shuffle = torch.randn(2, 3, 30, 30), torch.arange(36).expand(2, -1)
    with torch.no_grad():
        assert torch.equal(model(images, shuffle, 9), opened(images, shuffle, 9))
    out = tmp_path / "out.png"
    words = ["--checkpoint", tmp_path / "mae_visualize.pth", "--out", out]
    assert call("reconstruct", "--image", picture, *words) == 0
    assert "true mean" not in capsys.readouterr().out
    assert call("export", *words[:2], "--format", "official", "--out", tmp_path / "b.pth") == 0
    again = read_checkpoint(tmp_path / "b.pth")
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    assert call("export", *words[:2], "--out", tmp_path / "timm.pth") == 0
    encoder = read_checkpoint(tmp_path / "timm.pth")
    assert not any(name.startswith("decoder") for name in encoder)


def test_masks_draws_the_samplings(tmp_path):
    assert call("masks", "--out", tmp_path / "masks.png") == 0
    assert size(tmp_path / "masks.png")[0] > 1000


def refused(capsys, *words):
    assert call(*words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_what_cannot_be_reconstructed_is_one_line(trained, toy, picture, tmp_path, capsys):
    store, identity = trained
    mine = ["reconstruct", "--checkpoint", identity, "--store", store.root]
    text = tmp_path / "notes.txt"
    text.write_text("not an image")
    error = refused(capsys, *mine, "--image", text)
    assert error.startswith(f"{text}: not an image")
    assert "no such file" in refused(capsys, *mine, "--image", tmp_path / "none.png")
    full = ["--mask-ratio", "0.99"]
    assert "leaves none or all" in refused(capsys, *mine, "--image", picture, *full)
    grid = ["--sampling", "grid", "--mask-ratio", "0.5"]
    error = refused(capsys, *mine, "--image", picture, *grid)
    assert "grid keeps one patch of every 2 x 2: impossible on 6 x 6 patches with 18" in error

    model = build_model(toy, 3, 0)
    encoder = {k: v for k, v in model.state_dict().items() if not k.startswith("decoder")}
    torch.save({"model": encoder}, tmp_path / "mae_pretrain.pth")
    words = ["reconstruct", "--checkpoint", tmp_path / "mae_pretrain.pth", "--image", picture]
    assert "holds the encoder only" in refused(capsys, *words)
    torch.save({"model": model.state_dict()}, tmp_path / "unusual.pth")
    words[2] = tmp_path / "unusual.pth"
    error = refused(capsys, *words)
    assert (
        "does not say how many attention heads its encoder of width 16 has: give --heads" in error
    )
    assert call(*words, "--heads", "2,2", "--out", tmp_path / "o.png") == 0
    capsys.readouterr()
    words[2] = text
    assert "not a checkpoint" in refused(capsys, *words)
    words[2] = "0123456789ab"
    assert "no pre-training 0123456789ab in" in refused(capsys, *words, "--store", store.root)


def test_a_checkpoint_of_another_shape_names_keys_and_shapes(toy, tmp_path):
    from mae_ablation.mae.checkpoints import load_into
    from mae_ablation.study.errors import UserError

    wide = dataclasses.replace(toy, model=dataclasses.replace(toy.model, encoder_width=32))
    state = build_model(wide, 1, 0).state_dict()
    with pytest.raises(UserError, match=r"cls_token: file \(1, 1, 32\), model \(1, 1, 16\)"):
        load_into(build_model(toy, 1, 0), state, place="x.pth")


def test_a_folder_of_images_is_checked(tmp_path, picture, capsys):
    assert "no folder" in refused(capsys, "data", tmp_path / "nowhere")
    for split in ("train", "val"):
        (tmp_path / "set" / split).mkdir(parents=True)
    assert "class" in refused(capsys, "data", tmp_path / "set")
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "set" / split / name).mkdir()
            (tmp_path / "set" / split / name / "1.png").write_bytes(picture.read_bytes())
    assert call("data", tmp_path / "set", "--classes", "2") == 0
    assert "3" in refused(capsys, "data", tmp_path / "set", "--classes", "3")
    (tmp_path / "set" / "val" / "dog" / "1.png").write_bytes(b"broken")
    assert call("data", tmp_path / "set") == 2
    assert "val/dog/1.png: cannot be read as an image" in capsys.readouterr().out


def test_a_phase_run_in_a_folder_of_its_own(toy, tmp_path):
    """A checkpoint is known by the phase.json beside it."""
    from mae_ablation.phases.pretrain import pretrain

    folder = a_folder(tmp_path, "mine")
    folder.begin(pretrain_document(toy, 0, "f"))
    pretrain(toy, 0, PhaseRun(folder=folder))
    model = open_model(str(tmp_path / folder.checkpoints()[0].name), Store(tmp_path), None)
    assert (model.keep, model.sampling, len(model.mean)) == (9, "random", 1)
