"""Crops of random size (paper, Table 1e: what the paper trains with)."""

from mae_ablation.registry import register


@register.augmentation("crop_random", version=1)
class CropRandom:
    """Crops of random size and shape, resized back; half are flipped."""

    order = 30
    uses = ("crop_min_area",)
    streamed = "box"

    def boxes(self, n, size, generator, min_area, drawn_once):
        from mae_ablation.data.augment import random_resized_boxes

        return random_resized_boxes(n, size, min_area, generator, drawn_once)
