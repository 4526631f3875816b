"""Seeds and test images: which of the two limits a difference."""

import numpy as np
import pytest

from mae_ablation.report.limits import (
    class_accuracies,
    limiting,
    margin_allows,
    split_variance,
)
from mae_ablation.study.seeds_needed import seeds_to_see


def answers(rng, seeds, images, *, seed_part=0.0, image_part=0.0):
    """Paired differences in {-1, 0, 1} without effect; parts as chances of a right answer more."""
    chance = 0.5 + rng.normal(0, seed_part, (seeds, 1)) + rng.normal(0, image_part, (1, images))
    draws = rng.random((2, seeds, images))
    return (draws[0] < chance).astype(int) - (draws[1] < 0.5).astype(int)


def test_the_parts_by_hand():
    # Every seed has the same answers: all of the error is the images'.
    same = split_variance([[1, 0, 0, -1, 1, 1], [1, 0, 0, -1, 1, 1]])
    assert same.difference == pytest.approx(100 / 3)
    assert same.parts.seed_sd == 0
    assert same.image_se == pytest.approx(100 * np.std([1, 0, 0, -1, 1, 1], ddof=1) / 6**0.5)
    # All images of a seed have the same: all of it is the seeds'.
    apart = split_variance([[1, 1, 1], [0, 0, 0], [-1, -1, -1]])
    assert (apart.parts.seed_sd, apart.image_se) == (pytest.approx(100), 0)


def test_the_parts_are_found_again():
    rng = np.random.default_rng(0)
    found = [
        split_variance(answers(rng, 6, 1000, seed_part=0.02, image_part=0.3)) for _ in range(60)
    ]
    assert np.mean([f.image_se**2 for f in found]) ** 0.5 == pytest.approx(30 / 1000**0.5, rel=0.1)
    noise = (0.5 - 0.3**2) / 1000  # of two answers at random, within a seed
    assert np.mean([f.parts.seed_sd**2 for f in found]) ** 0.5 == pytest.approx(
        100 * (0.02**2 + noise) ** 0.5, rel=0.1
    )


def test_the_interval_counts_both_parts():
    rng = np.random.default_rng(1)
    found = [
        split_variance(answers(rng, 10, 400, seed_part=0.01, image_part=0.3)) for _ in range(600)
    ]
    covered = np.mean([f.low <= 0 <= f.high for f in found])
    assert covered == pytest.approx(0.95, abs=0.03)
    halves = [2.262 * f.seed_se for f in found]
    seeds_only = np.mean([abs(f.difference) <= h for f, h in zip(found, halves, strict=True)])
    assert seeds_only < 0.9  # what an interval over seeds alone would have covered


def test_few_seeds_are_never_made_more_certain_by_images():
    rng = np.random.default_rng(2)
    for _ in range(50):
        found = split_variance(answers(rng, 3, 400, seed_part=0.05, image_part=0.2))
        alone = 4.3027 * found.seed_se  # t of two degrees of freedom
        assert found.high - found.difference >= alone * (1 - 1e-4)


def test_the_sentence_says_what_helps():
    assert limiting(0.8, 0.3) == (
        "test images: ± 0.3; seeds: ± 0.8: more seeds help, more images do not"
    )
    assert limiting(0.2, 0.5).endswith("more images help, more seeds do not")
    assert limiting(0.5, 0.4).endswith("more of either helps")
    one = split_variance([[1, 0, 0, -1]])
    said = limiting(one.seed_se, one.image_se)
    assert said.endswith("seeds: unknown from one: more seeds help")


def test_no_number_of_seeds_sees_what_the_images_hide():
    assert seeds_to_see(1.0, seed_sd=1.0, image_se=0.0) == 10  # power.t.test, paired: 9.9
    assert seeds_to_see(1.0, seed_sd=1.0, image_se=0.2) == 14
    assert seeds_to_see(1.0, seed_sd=1.0, image_se=0.4) is None
    assert seeds_to_see(1.0, seed_sd=0.0, image_se=0.1) == 2


def test_no_equivalence_is_claimed_within_the_error_of_the_images():
    assert margin_allows(0.5, 0.2) and margin_allows(0.5, None)
    assert not margin_allows(0.2, 0.15)


def test_accuracies_of_classes():
    label = np.array([0, 0, 1, 1, 1])
    predicted = np.array([[0, 1, 1, 1, 0], [0, 0, 1, 0, 0]])
    found = class_accuracies(predicted, label, 3)
    assert found[:2] == pytest.approx([75.0, 50.0]) and np.isnan(found[2])
