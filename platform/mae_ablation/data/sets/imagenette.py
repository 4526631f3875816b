"""Imagenette: ten classes of ImageNet, a folder of images that torchvision fetches."""

from mae_ablation.data.sources import Archive
from mae_ablation.registry import register


@register.dataset("imagenette", version=1)
class Imagenette(Archive):
    """Ten easy classes of ImageNet: 9,469 and 3,925 images, in files."""

    order = 50
    in_files = True
    reader = "Imagenette"
    splits = ({"split": "train"}, {"split": "val"})
    classes = 10
    train_images, test_images = 9_469, 3_925

    def location(self, data):
        """torchvision unpacks it into a folder of its own inside, which then is the one."""
        folder = super().location(data)
        inside = folder / "imagenette2"
        return inside if inside.is_dir() else folder
