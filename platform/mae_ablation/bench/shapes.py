"""Shapes: the models whose training steps are compared, small to large."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A masked autoencoder, a batch, and the threads that compute it. 75 % of patches masked."""

    name: str
    image_size: int
    patch_size: int
    channels: int
    encoder: tuple[int, int, int]
    """width, depth, heads"""
    decoder: tuple[int, int, int]
    batch: int
    threads: int
    steps: int
    """of a round"""

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def keep(self) -> int:
        return self.patches // 4


SHAPES = {
    "laptop": Shape(
        name="laptop recipe (30 px, patch 5, 96 x 3 + 64 x 1, batch 128)",
        image_size=30,
        patch_size=5,
        channels=1,
        encoder=(96, 3, 4),
        decoder=(64, 1, 4),
        batch=128,
        threads=1,
        steps=20,
    ),
    "vit_tiny": Shape(
        name="ViT-T (32 px, patch 4, 192 x 12 + 128 x 4, batch 64)",
        image_size=32,
        patch_size=4,
        channels=3,
        encoder=(192, 12, 3),
        decoder=(128, 4, 4),
        batch=64,
        threads=1,
        steps=3,
    ),
    "vit_base": Shape(
        name="ViT-B/16 (224 px, 768 x 12 + 512 x 8, batch 8)",
        image_size=224,
        patch_size=16,
        channels=3,
        encoder=(768, 12, 12),
        decoder=(512, 8, 16),
        batch=8,
        threads=2,
        steps=1,
    ),
}
