"""Writes images.npz: stripes of four directions in noise, 240 to train on and 80 to test."""

import numpy as np

SIDE, CLASSES = 16, 4


def draw(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 1, SIDE, SIDE) uint8 and their directions (count,)."""
    labels = np.arange(count) % CLASSES
    y, x = np.mgrid[:SIDE, :SIDE]
    angles = np.pi * labels / CLASSES
    phase = rng.uniform(0, 2 * np.pi, count)
    along = x * np.cos(angles)[:, None, None] + y * np.sin(angles)[:, None, None]
    waves = np.sin(along * 1.2 + phase[:, None, None]) + rng.normal(0, 0.6, along.shape)
    return np.uint8(np.clip(128 + 60 * waves, 0, 255))[:, None], labels


rng = np.random.default_rng(0)
(train_images, train_labels), (test_images, test_labels) = draw(240, rng), draw(80, rng)
np.savez(
    "images.npz",
    train_images=train_images,
    train_labels=train_labels,
    test_images=test_images,
    test_labels=test_labels,
)
