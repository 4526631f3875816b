"""Commands about single models: reconstruct, export, masks, data; and their one-line errors."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps
from timm.models import load_state_dict
from timm.models.vision_transformer import VisionTransformer
from toys import a_folder, change, trial_of

from mae_ablation import cli
from mae_ablation.mae.checkpoints import export_official, open_checkpoint
from mae_ablation.store.folder import Store
from mae_ablation.study.identity import pretrain_document
from mae_ablation.train.inspect import open_model, read_image
from mae_ablation.train.models import build_model
from mae_ablation.train.run import PhaseRun
from mae_ablation.train.trial import run_trial


@pytest.fixture
def picture(tmp_path):
    """A photograph of sorts: 50 x 40, RGB."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


@pytest.fixture
def trained(toy, tmp_path):
    """A finished pre-training with normalised patches in a store; returns store and identity."""
    trial = trial_of(change(toy, "pretrain", target="pixel_norm"), "pretrain")
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
    again = open_checkpoint(tmp_path / "b.pth").state
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    assert call("export", *words[:2], "--out", tmp_path / "timm.pth") == 0
    encoder = open_checkpoint(tmp_path / "timm.pth").state
    assert not any(name.startswith("decoder") for name in encoder)


def test_masks_draws_the_samplings(tmp_path):
    assert call("masks", "--out", tmp_path / "masks.png") == 0
    assert size(tmp_path / "masks.png")[0] > 1000


def a_checkpoint(toy, path):
    """An official file of the toy model for three channels."""
    export_official(build_model(toy, 3, 0), path)
    return path


def test_what_export_writes_reconstruct_and_timm_read(toy, picture, tmp_path, capsys):
    whole = a_checkpoint(toy, tmp_path / "mae.pth")
    words = ["export", "--checkpoint", whole]
    assert call(*words, "--format", "official", "--out", tmp_path / "mae.safetensors") == 0
    assert "official format, a safetensors file" in capsys.readouterr().out
    drawn = ["reconstruct", "--image", picture, "--out", tmp_path / "o.png", "--checkpoint"]
    assert call(*drawn, tmp_path / "mae.safetensors") == 0  # heads are in its metadata
    assert call(*words, "--out", tmp_path / "vit.safetensors") == 0
    theirs = VisionTransformer(
        img_size=30,
        patch_size=5,
        num_classes=0,
        embed_dim=16,
        depth=1,
        num_heads=2,
        global_pool="token",
    )
    theirs.load_state_dict(load_state_dict(tmp_path / "vit.safetensors"), strict=True)
    capsys.readouterr()
    assert "holds the encoder only" in refused(capsys, *drawn, tmp_path / "vit.safetensors")
    again = ["export", "--checkpoint", tmp_path / "vit.safetensors", "--heads", "2,2"]
    assert call(*again, "--out", tmp_path / "again.pth") == 0
    assert "the suffix decides" in refused(capsys, *words, "--out", tmp_path / "vit.onnx")


def test_a_parallel_model_s_checkpoint_is_drawn_and_what_was_left_is_said(
    toy, picture, tmp_path, capsys
):
    content = torch.load(a_checkpoint(toy, tmp_path / "a.pth"), weights_only=True)
    content["model"] = {f"module._orig_mod.{k}": v.half() for k, v in content["model"].items()}
    content["model_ema"] = content["model"]
    torch.save(content, tmp_path / "b.pth")
    words = ["reconstruct", "--checkpoint", tmp_path / "b.pth", "--image", picture]
    assert call(*words, "--out", tmp_path / "o.png") == 0
    assert capsys.readouterr().out.endswith(
        "; the weights under model are taken, not those under model_ema; saved as float16, "
        "computed as float32\n"
    )


def test_the_beginning_of_an_identity_is_enough_while_it_is_the_only_one(
    trained, picture, tmp_path, capsys
):
    store, identity = trained
    mine = ["--store", store.root, "--out"]
    drawn = ["reconstruct", "--image", picture, "--checkpoint"]
    for prefix in (identity[:1], identity[:6], identity[:4].upper()):
        assert call(*drawn, prefix, *mine, tmp_path / "o.png") == 0
        assert call("export", "--checkpoint", prefix, *mine, tmp_path / "vit.safetensors") == 0
    twin = identity[:5] + ("0" if identity[5] != "0" else "1") + identity[6:]
    other = "0" if identity[0] != "0" else "f"
    store.phase("pretrain", "twin", twin).begin({})
    store.phase("knn", "other", other * 12).begin({})
    capsys.readouterr()
    error = refused(capsys, *drawn, identity[:4], *mine, tmp_path / "o.png")
    assert f"{identity[:4]!r} is the beginning of several: pretrain/" in error
    assert identity in error and f"pretrain/twin-{twin}" in error
    assert call(*drawn, identity[:6], *mine, tmp_path / "o.png") == 0
    capsys.readouterr()
    error = refused(capsys, *drawn, other, *mine, tmp_path / "o.png")
    assert f"no pretrain phase {other!r} among 3; knn/other-{other * 12} is of another" in error


def places_that_cannot_be_written(tmp_path, monkeypatch):
    """A folder, a path below a file, and one in a folder that is closed, with what is said."""
    (tmp_path / "file").touch()
    (tmp_path / "there.pth").mkdir()
    closed, allowed = tmp_path / "closed", os.access
    closed.mkdir()
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != closed and allowed(path, mode)
    )
    return {
        tmp_path / "there.pth": "is a folder: give the file's name, too",
        tmp_path / "file" / "o.pth": f"cannot be written: {tmp_path}/file is not a folder",
        closed / "new" / "o.pth": f"cannot be written: no permission in {closed}",
    }


def test_a_place_that_cannot_be_written_is_one_line_before_anything_is_read(
    tmp_path, monkeypatch, capsys
):
    for place, said in places_that_cannot_be_written(tmp_path, monkeypatch).items():
        for words in (
            ["reconstruct", "--checkpoint", "none.pth", "--image", "none.png"],
            ["export", "--checkpoint", "none.pth"],
            ["masks"],
            ["compare", "a", "b"],
        ):
            assert refused(capsys, *words, "--out", place) == f"{place}: {said}\n"


def test_what_the_user_can_mend_is_said_before_torch_is_imported(tmp_path):
    code = (
        "import sys, mae_ablation.cli as c\n"
        "for words in (['export', '--checkpoint', 'none.pth', '--out', 'a.pth'],\n"
        "              ['export', '--checkpoint', 'a.pth', '--out', 'a.onnx'],\n"
        "              ['reconstruct', '--checkpoint', 'abc', '--image', 'a.png'],\n"
        "              ['masks', '--out', '/']):\n"
        "    assert c.main(words) == 2\n"
        "heavy = {'torch', 'torchvision', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 4


def test_a_full_disk_under_a_picture_is_one_line(tmp_path, monkeypatch, capsys):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    error = refused(capsys, "masks", "--out", tmp_path / "m.png")
    assert error == f"{tmp_path}/m.png: cannot be written: No space left on device\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_a_phone_s_photo_stands_as_a_person_sees_it(toy, tmp_path, format):
    inspected = open_model(str(a_checkpoint(toy, tmp_path / "a.pth")), Store(tmp_path), None)
    photo = np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        Image.fromarray(photo).save(tmp_path / "phone", format=format, exif=exif)
        with Image.open(tmp_path / "phone") as stored:
            seen = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
        ours = read_image(tmp_path / "phone", inspected)[0].permute(1, 2, 0) * 255
        assert np.array_equal(ours.round().numpy(), seen), orientation


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
    assert error == f"{text}: not an image that can be read: not a picture of a known format\n"
    animation = tmp_path / "moving.jpg"
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue")]
    frames[0].save(animation, format="GIF", save_all=True, append_images=frames[1:])
    assert "holds 2 pictures" in refused(capsys, *mine, "--image", animation)
    assert "no such file" in refused(capsys, *mine, "--image", tmp_path / "none.png")
    full = ["--mask-ratio", "0.99"]
    assert "leaves none or all" in refused(capsys, *mine, "--image", picture, *full)
    grid = ["--sampling", "grid", "--mask-ratio", "0.5"]
    error = refused(capsys, *mine, "--image", picture, *grid)
    assert "--sampling: grid sampling keeps 9 patches, not 18" in error

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
    error = refused(capsys, *words, "--store", store.root)
    assert "no pretrain phase '0123456789ab' among 1:" in error


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
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/set/val/dog/1.png: cannot be read as an image: not a picture of a known "
        "format",
        "2 training and 2 validation images of 2 classes",
        "smallest image: 40 px on the short side (train/cat/1.png); what is below a recipe's "
        "data.image_size is enlarged",
        "1 of 4 images cannot be read",
    ]


def test_a_phase_run_in_a_folder_of_its_own(toy, tmp_path):
    """A checkpoint is known by the phase.json beside it."""
    from mae_ablation.train.pretrain import pretrain

    folder = a_folder(tmp_path, "mine")
    folder.begin(pretrain_document(toy, 0, "f", 1))
    pretrain(toy, 0, PhaseRun(folder=folder))
    model = open_model(str(tmp_path / folder.checkpoints()[0].name), Store(tmp_path), None)
    assert (model.keep, model.sampling, len(model.mean)) == (9, "random", 1)
