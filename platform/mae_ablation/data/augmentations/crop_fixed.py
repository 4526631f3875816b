"""Crops of a fixed size (paper, Table 1e)."""

from mae_ablation.registry import register


@register.augmentation("crop_fixed", version=1)
class CropFixed:
    """Crops of the image's own size, moved by up to an eighth of it; half are flipped."""

    order = 20
    streamed = "anywhere"

    def boxes(self, n, size, generator):
        from mae_ablation.data.augment import shifted_boxes

        return shifted_boxes(n, size, generator)
