"""A folder of images that the user has."""

from mae_ablation.data.sources import Known
from mae_ablation.registry import register


@register.dataset("imagenet", version=1)
class Imagenet(Known):
    """ImageNet-1K: 1,281,167 training images of 1,000 classes, in files."""

    order = 60
    in_files = True
    classes = 1000
    train_images, test_images = 1_281_167, 50_000
