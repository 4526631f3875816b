"""Benchmark's scripts: they do the product's work, image by image."""

from dataclasses import replace
from itertools import product

import torch
from torchvision.transforms import functional as TF

from mae_ablation.bench.scripts import Clock, Decoded, pretrain, probe, shifted, transform_of
from mae_ablation.data.augment import Boxes, crop_resize_flip, normalise
from mae_ablation.data.dataset import load


def test_images_without_augmentation_are_the_product_s(toy):
    data = load(toy.data)
    pictures = Decoded(data.train, transform_of(data, []))
    ours = normalise(data.train.images[:4].float() / 255, data.mean, data.std)
    theirs = torch.stack([pictures[i][0] for i in range(4)])
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert pictures[3][1] == data.train.labels[3]


def test_every_shift_of_a_script_is_one_of_the_product_s(toy):
    """All shifts and both directions of an image, and where a script's image is among them."""
    data = load(toy.data)
    image, side = data.train.images[0], toy.data.image_size
    reach = side // 8
    shifts = range(-reach, reach + 1)
    places = list(product(shifts, shifts, (False, True)))
    top, left, flip = (torch.tensor(values) for values in zip(*places, strict=True))
    full = torch.full((len(places),), side)
    shown = image.expand(len(places), -1, -1, -1).float() / 255
    ours = crop_resize_flip(shown, Boxes(top, left, full, full, flip))
    torch.manual_seed(0)
    crop, mirror = shifted(side)
    seen = set()
    for _ in range(20):
        theirs = TF.to_tensor(mirror(crop(TF.to_pil_image(image))))
        distance = (ours - theirs).abs().amax(dim=(1, 2, 3))
        assert distance.min() < 1e-5
        seen.add(places[int(distance.argmin())])
    assert len(seen) > 10


def test_both_scripts_run_and_time_their_steps(toy):
    recipe = replace(toy, pretrain=replace(toy.pretrain, augmentation="crop_fixed"))
    said = pretrain(recipe, 2, 0)
    assert said["kept"] == 9 and 0 < said["step_s"] < said["loop_s"]
    assert said["epoch_s"] == 4 * said["step_s"]  # 200 images in batches of 50
    for source in ("random", "pixels"):
        assert probe(recipe, 2, 0, source)["step_s"] > 0


def test_steps_are_counted_after_the_warm_up():
    clock = Clock(2)
    assert [clock.is_over(0.5) for _ in range(7)] == [False] * 6 + [True]
