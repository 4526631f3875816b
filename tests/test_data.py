"""The bundled images and the augmentation of whole batches."""

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from mae_ablation.data import fashion_mnist
from mae_ablation.data.augment import (
    boxes_for,
    crop_resize_flip,
    prepare,
    random_resized_boxes,
    shifted_boxes,
)
from mae_ablation.data.dataset import hold_out, load
from mae_ablation.phases.optim import generator
from mae_ablation.study.recipe import Data


def test_bundled_images_are_class_balanced_and_small():
    arrays = fashion_mnist.read()
    assert arrays["train_images"].shape == (10_000, 28, 28)
    assert arrays["test_images"].shape == (2_000, 28, 28)
    assert np.bincount(arrays["train_labels"]).tolist() == [1000] * 10
    assert np.bincount(arrays["test_labels"]).tolist() == [200] * 10
    assert fashion_mnist.FILE.stat().st_size < 8e6


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    damaged = tmp_path / "fashion_mnist.npz"
    damaged.write_bytes(fashion_mnist.FILE.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(fashion_mnist, "FILE", damaged)
    with pytest.raises(ValueError, match="sha256 is .*, expected .*: reinstall"):
        fashion_mnist.read()


def test_the_idx_reader_reads_what_the_format_says(tmp_path):
    import gzip

    from mae_ablation.data.make_fashion_mnist import read_idx

    raw = b"\x00\x00\x08\x02" + (2).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes(range(6))
    (tmp_path / "x.gz").write_bytes(gzip.compress(raw))
    assert read_idx(tmp_path / "x.gz").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_validation_is_held_out_of_training_and_balanced():
    labels = np.tile(np.arange(10), 100)
    train, validation = hold_out(labels, 200, None, 10)
    assert len(train) == 800 and len(validation) == 200
    assert not set(train) & set(validation)
    assert np.bincount(labels[validation]).tolist() == [20] * 10
    smaller, same = hold_out(labels, 200, 300, 10)
    assert np.bincount(labels[smaller]).tolist() == [30] * 10
    assert same.tolist() == validation.tolist() and set(smaller) <= set(train)


def test_images_are_padded_to_the_recipe_s_size():
    data = load(Data(image_size=30, validation_images=1000))
    assert data.train.images.shape == (9000, 1, 30, 30)
    assert data.train.images.dtype == torch.uint8
    assert data.train.images[:, :, 0].max() == 0 and data.train.images[:, :, :, -1].max() == 0
    original = fashion_mnist.read()["test_images"]
    assert np.array_equal(data.test.images[:, 0, 1:-1, 1:-1].numpy(), original)


@pytest.mark.parametrize("min_area", [0.08, 0.2])
def test_crops_agree_with_torchvision(min_area):
    images = torch.rand(64, 3, 30, 30)
    boxes = random_resized_boxes(64, 30, min_area, generator(0, "augment"))
    ours = crop_resize_flip(images, boxes)
    for i in range(64):
        top, left, height, width, flip = (int(part[i]) for part in boxes)
        theirs = TF.resized_crop(
            images[i], top, left, height, width, [30, 30], InterpolationMode.BICUBIC, antialias=True
        )
        theirs = TF.horizontal_flip(theirs) if flip else theirs
        assert torch.allclose(ours[i], theirs, atol=1e-5)


def test_random_boxes_follow_the_rule():
    boxes = random_resized_boxes(20_000, 60, 0.2, generator(1, "augment"))
    area = boxes.height * boxes.width / 3600
    aspect = boxes.width / boxes.height
    assert area.min() > 0.18 and area.max() == 1.0
    assert 0.5 < area.mean() < 0.6  # about uniform on [0.2, 1]; what does not fit is drawn again
    assert aspect.min() > 0.7 and aspect.max() < 1.42
    assert (boxes.top >= 0).all() and (boxes.top + boxes.height <= 60).all()
    assert (boxes.top + boxes.height == 60).any() and (boxes.left + boxes.width == 60).any()
    assert 0.48 < boxes.flip.float().mean() < 0.52


def test_fixed_crops_shift_and_mirror():
    images = torch.rand(50, 1, 16, 16)
    boxes = shifted_boxes(50, 16, generator(2, "augment"))
    ours = crop_resize_flip(images, boxes)
    assert boxes.top.min() == -2 and boxes.top.max() == 2
    for i in range(50):
        top, left, _, _, flip = (int(part[i]) for part in boxes)
        theirs = TF.crop(images[i], top, left, 16, 16)  # pads with zeros beyond the border
        theirs = TF.horizontal_flip(theirs) if flip else theirs
        assert torch.allclose(ours[i], theirs, atol=1e-6)


def test_no_augmentation_only_normalises():
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    assert boxes_for("none", 3, 8, 0.2, generator(0, "augment")) is None
    ours = prepare(images, None, (0.5,), (0.25,))
    assert torch.allclose(ours, (images / 255 - 0.5) / 0.25)
