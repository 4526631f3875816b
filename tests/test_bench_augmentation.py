"""Augmentation: both sides of the benchmark show the same pixels."""

import pytest
import torch

from mae_ablation.bench import augmentation
from mae_ablation.bench.laptop import Training
from mae_ablation.data.augment import cropped, normalise, random_resized_boxes

torch.set_num_threads(1)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_same_box_gives_the_same_pixels(mirrored):
    images = smooth(16)
    boxes = random_resized_boxes(16, 32, 0.2, torch.Generator().manual_seed(0))
    boxes = boxes._replace(flip=torch.full((16,), mirrored))
    ours = normalise(cropped(images, boxes), augmentation.MEAN, augmentation.STD)
    pictures = augmentation.Pictures(images)
    crop, flip = pictures.transform.transforms[:2]
    flip.p = float(mirrored)
    for i, box in enumerate(zip(*boxes[:4], strict=True)):
        crop.get_params = lambda image, scale, ratio, box=box: tuple(map(int, box))
        # apart by rounding to whole values, as PIL does after each axis
        assert (pictures[i] - ours[i]).abs().max() < 1.6 / 255 / min(augmentation.STD)


def smooth(n):
    """Images (n, 3, 32, 32) uint8 like photographs: neighbours are alike."""
    coarse = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    fine = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")
    return (64 + 128 * fine).byte()  # nothing to clamp: PIL clamps after each axis


def test_both_sides_show_every_image():
    pixels = smooth(augmentation.BATCH)
    assert [len(batch) for batch in augmentation.their_loader(pixels)] == [augmentation.BATCH]
    row = augmentation.against_torchvision(rounds=1, images=augmentation.BATCH)
    assert row.values == tuple(b / a for a, b in zip(row.ours, row.theirs, strict=True))


def test_a_batch_is_part_of_its_step(toy):
    fed, whole = augmentation.fed_and_whole(Training(toy), 3)
    assert 0 < fed < whole
