"""Crops of random size and colour jitter (paper, Table 1e)."""

from mae_ablation.data.augmentations.crop_random import CropRandom
from mae_ablation.recipe.checks import check
from mae_ablation.registry import register


@register.augmentation("crop_jitter", version=1)
class CropJitter(CropRandom):
    """Crops of random size, then brightness, contrast, saturation and hue changed."""

    order = 40

    def check_data(self, recipe, channels: int) -> None:
        message = "pretrain.augmentation crop_jitter needs 1 or 3 channels, the images have"
        check(channels in (1, 3), f"{message} {channels}: take crop_random")

    def note(self, recipe, channels: int) -> str:
        return "grey images: brightness and contrast only" if channels == 1 else ""

    def draw(self, n, generator):
        from mae_ablation.data.jitter import random_jitter

        return random_jitter(n, generator)

    def apply(self, pixels, drawn):
        from mae_ablation.data.jitter import apply_jitter

        return apply_jitter(pixels, drawn)
