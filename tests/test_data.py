"""The bundled images and the augmentation of whole batches."""

import functools
import random
import warnings

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from mae_ablation.data import sets
from mae_ablation.data.augment import (
    TABLE_SIDE,
    View,
    boxes_for,
    crop_resize_flip,
    cropped,
    normalise,
    random_resized_boxes,
    shifted_boxes,
)
from mae_ablation.data.dataset import Split, from_arrays, keep_dataset, load_dataset, to_arrays
from mae_ablation.data.draws import draw_labelled, hold_out
from mae_ablation.data.feed import Feed, plain
from mae_ablation.data.jitter import apply_jitter, random_jitter
from mae_ablation.errors import UserError
from mae_ablation.recipe.recipe import Data
from mae_ablation.registry import find_component
from mae_ablation.train.optim import generator


def test_all_of_fashion_mnist_is_bundled_with_its_mean_and_deviation():
    arrays = sets.read_fashion_mnist()
    assert arrays["train_images"].shape == (60_000, 28, 28)
    assert arrays["test_images"].shape == (10_000, 28, 28)
    assert np.bincount(arrays["train_labels"]).tolist() == [6000] * 10
    assert np.bincount(arrays["test_labels"]).tolist() == [1000] * 10
    assert sets.FASHION_MNIST.stat().st_size < 31e6
    counts = np.bincount(arrays["train_images"].reshape(-1), minlength=256)
    values = np.arange(256) / 255
    mean = np.average(values, weights=counts)
    std = np.average((values - mean) ** 2, weights=counts) ** 0.5
    known = Data(name="fashion_mnist").set
    assert ((round(mean, 4),), (round(std, 4),)) == (known.mean, known.std)


def test_the_same_arrays_make_the_same_bundled_file(tmp_path):
    from make_fashion_mnist import write

    arrays = {"train_images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4)}
    for name in ("one.npz", "two.npz"):
        write(tmp_path / name, arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert np.array_equal(np.load(tmp_path / "one.npz")["train_images"], arrays["train_images"])


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    damaged = tmp_path / "fashion_mnist.npz"
    damaged.write_bytes(sets.FASHION_MNIST.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(sets, "FASHION_MNIST", damaged)
    with pytest.raises(ValueError, match="sha256 is .*, expected .*: reinstall"):
        sets.read_fashion_mnist.__wrapped__()


def test_the_idx_reader_reads_what_the_format_says(tmp_path):
    import gzip

    from make_fashion_mnist import read_idx

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


def test_held_out_images_are_drawn_from_the_whole_class_not_from_its_end():
    labels = np.repeat([0, 1], 1000)
    train, validation = hold_out(labels, 200, 200, 2)
    for drawn in (train, validation):
        place = drawn[drawn < 1000]
        assert len(place) == 100 and 400 < place.mean() < 600  # of 0 to 999
    assert hold_out(labels, 200, 200, 2)[1].tolist() == validation.tolist()


def test_labels_are_drawn_by_the_seed_and_a_smaller_draw_lies_in_a_larger_one():
    labels = np.tile(np.arange(10), 100)
    few = draw_labelled(labels, 50, 10, generator(0, "labels"))
    many = draw_labelled(labels, 200, 10, generator(0, "labels"))
    assert np.bincount(labels[few]).tolist() == [5] * 10 and set(few) <= set(many)
    assert draw_labelled(labels, 50, 10, generator(1, "labels")).tolist() != few.tolist()
    with pytest.raises(UserError, match="class 0 has 100 .*: use at most 1000"):
        draw_labelled(labels, 1010, 10, generator(0, "labels"))


def test_images_are_padded_to_the_recipe_s_size():
    data = load_dataset(Data(image_size=30, validation_images=1000))
    assert data.train.images.shape == (59_000, 1, 30, 30)
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.stride() == (900, 900, 30, 1)  # convolutions choose their way by it
    assert data.train.images[:, :, 0].max() == 0 and data.train.images[:, :, :, -1].max() == 0
    original = sets.read_fashion_mnist()["test_images"]
    assert np.array_equal(data.test.images[:, 0, 1:-1, 1:-1].numpy(), original)


@pytest.mark.parametrize("min_area", [0.08, 0.2])
@pytest.mark.parametrize("side", [30, 48], ids=["looked up", "computed"])
def test_crops_agree_with_torchvision(min_area, side):
    assert (side > TABLE_SIDE) == (side == 48)
    images = torch.rand(64, 3, side, side)
    boxes = random_resized_boxes(64, side, min_area, generator(0, "augment"))
    ours = crop_resize_flip(images, boxes)
    for i in range(64):
        top, left, height, width, flip = (int(part[i]) for part in boxes)
        theirs = TF.resized_crop(
            images[i],
            top,
            left,
            height,
            width,
            [side, side],
            InterpolationMode.BICUBIC,
            antialias=True,
        )
        theirs = TF.horizontal_flip(theirs) if flip else theirs
        assert torch.allclose(ours[i], theirs, atol=1e-5)


def test_a_box_that_is_drawn_once_is_cut_to_the_image():
    """More of the large boxes are left than where those that do not fit are drawn again."""
    for once, mean in ((True, 0.52), (False, 0.43)):
        rng = generator(0, "augment")
        boxes = random_resized_boxes(50_000, (375, 500), 0.08, rng, drawn_once=once)
        area = (boxes.height * boxes.width).double().mean() / (375 * 500)
        assert area.item() == pytest.approx(mean, abs=0.005)
        assert (boxes.top + boxes.height <= 375).all() and (boxes.left + boxes.width <= 500).all()


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


@pytest.mark.parametrize("side", [16, 48], ids=["looked up", "computed"])
def test_fixed_crops_shift_and_mirror(side):
    images = torch.rand(50, 1, side, side)
    boxes = shifted_boxes(50, side, generator(2, "augment"))
    ours = crop_resize_flip(images, boxes)
    assert boxes.top.min() == -side // 8 and boxes.top.max() == side // 8
    for i in range(50):
        top, left, _, _, flip = (int(part[i]) for part in boxes)
        theirs = TF.crop(images[i], top, left, side, side)  # pads with zeros beyond the border
        theirs = TF.horizontal_flip(theirs) if flip else theirs
        assert torch.allclose(ours[i], theirs, atol=1e-6)


def test_no_augmentation_only_normalises():
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    assert boxes_for(View(), 3, 8, generator(0, "augment")) is None
    ours = normalise(cropped(images, None), (0.5,), (0.25,))
    assert torch.allclose(ours, (images / 255 - 0.5) / 0.25)


@pytest.mark.parametrize("size", [(40, 90), (90, 40)])
def test_boxes_of_images_that_are_not_square(size):
    boxes = random_resized_boxes(5000, size, 0.08, generator(3, "augment"))
    assert (boxes.top >= 0).all() and (boxes.top + boxes.height == size[0]).any()
    assert (boxes.left >= 0).all() and (boxes.left + boxes.width == size[1]).any()
    assert (boxes.top + boxes.height <= size[0]).all()
    assert (boxes.left + boxes.width <= size[1]).all()
    assert (boxes.height * boxes.width).max() <= 40 * 54  # 40 x 53 1/3, rounded


def test_a_box_that_never_fits_is_the_largest_in_the_centre():
    boxes = random_resized_boxes(3, (30, 300), 1.0, generator(0, "augment"))
    assert boxes.height.tolist() == [30] * 3 and boxes.width.tolist() == [40] * 3
    assert boxes.top.tolist() == [0] * 3 and boxes.left.tolist() == [130] * 3
    square = random_resized_boxes(3, 30, 1.0, generator(0, "augment"))
    assert square.height.tolist() == square.width.tolist() == [30] * 3


def theirs_jittered(image, jitter, i):
    """torchvision's four functions on one image, in the order drawn for it."""
    adjust = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)
    for number in jitter.order[i].tolist():
        image = adjust[number](image, jitter[number][i].item())
    return image


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_agrees_with_torchvision(channels):
    images = torch.rand(96, channels, 12, 10)
    images[:8] = (images[:8] * 3).round() / 3  # ties of two or three channels, black and white
    jitter = random_jitter(96, generator(0, "augment"), hue=0.5)
    ours = apply_jitter(images, jitter)
    for i in range(96):
        assert torch.allclose(ours[i], theirs_jittered(images[i], jitter, i), atol=1e-5), i


def test_jitter_is_drawn_within_its_bounds_in_any_order():
    jitter = random_jitter(4000, generator(1, "augment"))
    for factor in jitter[:3]:
        assert 0.6 <= factor.min() < 0.61 and 1.39 < factor.max() <= 1.4
    assert -0.1 <= jitter.hue.min() < -0.099 and 0.099 < jitter.hue.max() <= 0.1
    assert len({tuple(order) for order in jitter.order.tolist()}) == 24
    same = random_jitter(5, generator(1, "augment"), strength=0.0, hue=0.0)
    images = torch.rand(5, 3, 6, 6)
    assert torch.allclose(apply_jitter(images, same), images, atol=1e-6)


@pytest.fixture
def split():
    images = torch.randint(0, 256, (20, 1, 16, 16), dtype=torch.uint8)
    return Split(images=images, labels=torch.arange(20))


def drawn(split, seed=0, workers=0, **view):
    """Pixels of one epoch in three batches, and the generator's state after it."""
    rng = generator(seed, "augment")
    order = torch.randperm(len(split), generator=generator(seed, "order"))
    if "augmentation" in view:
        view["augmentation"] = find_component("augmentation", view["augmentation"]).cls()
    feed = Feed(split, View(**view), workers=workers)
    batches = list(feed.batches(order.split(7), rng))
    assert torch.equal(torch.cat([labels for _, labels in batches]), split.labels[order])
    return torch.cat([pixels for pixels, _ in batches]), rng.get_state()


@pytest.mark.parametrize("augmentation", ["crop_fixed", "crop_random"])
def test_a_feed_from_memory_draws_batch_by_batch(split, augmentation):
    pixels, state = drawn(split, augmentation=augmentation)
    rng, expected = generator(0, "augment"), []
    for index in torch.randperm(20, generator=generator(0, "order")).split(7):
        view = View(augmentation=find_component("augmentation", augmentation).cls())
        boxes = boxes_for(view, len(index), 16, rng)
        images = split.images[index].float() / 255
        expected.append(crop_resize_flip(images, boxes).clamp(0, 1))
    assert torch.equal(pixels, torch.cat(expected)) and torch.equal(state, rng.get_state())


def test_a_feed_jitters_what_a_random_crop_left(split, monkeypatch):
    split = Split(images=split.images.expand(-1, 3, -1, -1), labels=split.labels)
    with monkeypatch.context() as patch:
        none = functools.partial(random_jitter, strength=0.0, hue=0.0)
        patch.setattr("mae_ablation.data.jitter.random_jitter", none)
        pixels, _ = drawn(split, augmentation="crop_jitter")
    assert pixels.shape == (20, 3, 16, 16)
    assert torch.allclose(pixels[:7], drawn(split, augmentation="crop_random")[0][:7], atol=1e-6)
    stronger, _ = drawn(split, augmentation="crop_jitter")
    assert not torch.allclose(stronger[:7], pixels[:7], atol=1e-2)
    assert stronger.min() >= 0 and stronger.max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_randaugment_is_seeded_and_leaves_no_trace(split, channels):
    split = Split(images=split.images.expand(-1, channels, -1, -1), labels=split.labels)
    settings = {"randaugment_magnitude": 9, "randaugment_fill": (0.2860,)}
    before = random.getstate(), np.random.get_state()[1].tolist()
    first, state = drawn(split, **settings)
    assert before == (random.getstate(), np.random.get_state()[1].tolist())
    random.seed(5)
    again, same = drawn(split, **settings)
    assert torch.equal(first, again) and torch.equal(state, same)
    original, _ = drawn(split)
    changed = (first != original).flatten(1).any(dim=1).sum()
    assert first.shape == original.shape and 5 <= changed < 20  # two operations, each half the time
    assert not torch.equal(first, drawn(split, seed=1, **settings)[0])


def test_the_whole_split_in_order_at_another_size(split):
    pixels, labels = zip(*plain(split, batch=8, image_size=24), strict=True)
    assert [len(part) for part in pixels] == [8, 8, 4]
    assert torch.cat(labels).tolist() == list(range(20))
    theirs = TF.resize(split.images / 255, [24], InterpolationMode.BICUBIC, antialias=True)
    assert torch.allclose(torch.cat(pixels), theirs.clamp(0, 1), atol=1e-6)


def test_a_data_set_is_handed_over_without_a_copy():
    data = Data(image_size=30)
    original = load_dataset(data)
    arrays = to_arrays(original)
    for value in arrays.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy = from_arrays(arrays)
    assert copy.train.images.data_ptr() == original.train.images.data_ptr()
    assert (copy.name, copy.mean, copy.classes) == ("fashion_mnist", (0.2860,), 10)
    assert torch.equal(copy.test.labels, original.test.labels)
    keep_dataset(Data(image_size=30, workers=1), copy)
    assert load_dataset(data) is copy and load_dataset(Data(image_size=30, download=True)) is copy


def test_a_class_too_small_for_a_balanced_choice():
    labels = np.repeat([0, 1], [10, 4])
    assert [len(part) for part in hold_out(labels, 4, None, 2)] == [10, 4]
    with pytest.raises(UserError, match="class 1 has 4 training images: 2 for validation and 3"):
        hold_out(labels, 4, 6, 2)
