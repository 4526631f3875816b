"""A folder of images that the user has."""

from mae_ablation.data.sources import Known
from mae_ablation.registry import register


@register.dataset("imagenet100", version=1)
class Imagenet100(Known):
    """100 classes of ImageNet-1K, in files."""

    order = 70
    in_files = True
    classes = 100
    train_images, test_images = 126_689, 5_000
