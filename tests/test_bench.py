"""What is measured is what is said: the sides of the benchmarks do the same work."""

import json

import pytest
import torch
from bench import __main__ as bench
from bench import steps, study, training
from bench.compare import Row, in_turn
from bench.probe import probe
from bench.steps import Shape

from mae_ablation.data.augment import cropped, normalise, random_resized_boxes
from mae_ablation.data.dataset import load_dataset

TOY = Shape(
    name="toy",
    image_size=8,
    patch_size=2,
    channels=3,
    encoder=(16, 1, 2),
    decoder=(8, 1, 2),
    batch=6,
    steps=1,
)


def a_row(**changes):
    values = {"what": "a step", "against": "theirs", "ours": [1.0, 2.0], "theirs": [4.0, 4.0]}
    return Row(**{**values, "note": "Measured twice.", **changes})


def test_both_sides_are_measured_in_turn():
    said = []
    sides = in_turn(lambda: said.append("o") or 2.0, lambda: said.append("t") or 6.0, 2)
    assert "".join(said) == "otot" and sides == ([2.0, 2.0], [6.0, 6.0])


def test_a_ratio_says_how_many_times_better_ours_is():
    assert a_row().ratios == [4.0, 2.0]
    assert a_row(unit="images/s").ratios == [0.25, 0.5]
    assert str(a_row()) == "| a step | theirs | 1.5 s | 4 s | 3 (2, 4) |"


def test_the_page_keeps_what_other_parts_measured(tmp_path):
    bench.keep(tmp_path, "steps", [a_row()])
    bench.keep(tmp_path, "probe", [a_row(what="a probe")])
    bench.keep(tmp_path, "steps", [a_row(what="another step")])
    text = (tmp_path / "performance.md").read_text()
    assert "| another step | theirs |" in text and "| a probe |" in text
    assert "| a step |" not in text and "- a probe: Measured twice." in text


def test_the_page_is_what_its_figures_make():
    reports = bench.ROOT / "reports"
    parts = json.loads((reports / "performance.json").read_text())
    assert (reports / "performance.md").read_text() == bench.page(parts)
    assert parts.keys() <= bench.PARTS.keys()


def test_our_side_takes_steps():
    step = steps.ours(TOY)
    images = torch.randn(TOY.batch, TOY.channels, TOY.image_size, TOY.image_size)
    step(images)
    step(images)
    assert [shape.patches for shape in steps.SHAPES.values()] == [36, 196]


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_same_box_gives_the_same_pixels(mirrored):
    images = smooth(16)
    boxes = random_resized_boxes(16, 32, 0.2, torch.Generator().manual_seed(0))
    boxes = boxes._replace(flip=torch.full((16,), mirrored))
    ours = normalise(cropped(images, boxes), training.MEAN, training.STD)
    pictures = training.Pictures(images)
    crop, flip = pictures.transform.transforms[:2]
    flip.p = float(mirrored)
    for i, box in enumerate(zip(*boxes[:4], strict=True)):
        crop.get_params = lambda image, scale, ratio, box=box: tuple(map(int, box))
        # apart by rounding to whole values, as PIL does after each axis
        assert (pictures[i] - ours[i]).abs().max() < 1.6 / 255 / min(training.STD)


def smooth(n):
    """Images (n, 3, 32, 32) uint8 like photographs: neighbours are alike."""
    coarse = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    fine = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")
    return (64 + 128 * fine).byte()  # nothing to clamp: PIL clamps after each axis


def test_both_sides_augment_every_image():
    (row,) = training.augmentation(1, images=training.BATCH)
    assert min(*row.ours, *row.theirs) > 0


def test_both_sides_probe_the_same_encoder(toy):
    (row,) = probe(1, toy)
    assert min(*row.ours, *row.theirs) > 0


def test_a_script_shows_the_product_s_images(toy):
    data = load_dataset(toy.data)
    loader = study.loader_of(data, [], 4, workers=0)
    ours = normalise(data.train.images[:4].float() / 255, data.mean, data.std)
    theirs = torch.stack([loader.dataset[i][0] for i in range(4)])
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("words", [("pretrain", "0.75"), ("probe", "random"), ("probe", "pixels")])
def test_a_script_times_its_steps(toy, capsys, words):
    study.main(*words, "0", toy)
    answer = json.loads(capsys.readouterr().out)
    assert answer["kept"] == 9 and 0 < answer["epoch_s"] < answer["loop_s"]


def test_a_step_between_two_measured_ones_lies_on_their_line():
    known = {10: 1.0, 20: 3.0, 40: 4.0}
    assert [study.between(known, x) for x in (10, 15, 30)] == [1.0, 2.0, 3.5]
