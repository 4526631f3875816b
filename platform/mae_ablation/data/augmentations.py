"""Changes of training images (paper, Table 1e)."""

from mae_ablation.recipe.checks import check
from mae_ablation.registry import register


@register.augmentation("none", version=1)
class Plain:
    """No random crop, no flip."""

    order = 10
    as_evaluated = True


@register.augmentation("crop_fixed", version=1)
class CropFixed:
    """Crops of the image's own size, moved by up to an eighth of it; half are flipped."""

    order = 20
    streamed = "anywhere"

    def boxes(self, n, size, generator):
        from mae_ablation.data.augment import shifted_boxes

        return shifted_boxes(n, size, generator)


@register.augmentation("crop_random", version=1)
class CropRandom:
    """Crops of random size and shape, resized back; half are flipped."""

    order = 30
    uses = ("crop_min_area",)
    streamed = "box"

    def boxes(self, n, size, generator, min_area, drawn_once):
        from mae_ablation.data.augment import random_resized_boxes

        return random_resized_boxes(n, size, min_area, generator, drawn_once)


@register.augmentation("crop_jitter", version=1)
class CropJitter(CropRandom):
    """Crops of random size, then brightness, contrast, saturation and hue changed."""

    order = 40

    def check_data(self, recipe, channels: int) -> None:
        # hue and saturation are defined for red, green and blue alone
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
