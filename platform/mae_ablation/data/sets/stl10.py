"""STL-10, read by torchvision.

Training is on the 5,000 labelled images; the 100,000 unlabelled ones come in the same archive,
which torchvision checks as a whole, and are not used.
"""

from mae_ablation.data.sources import Archive
from mae_ablation.registry import register


@register.dataset("stl10", version=1)
class Stl10(Archive):
    """STL-10: 5,000 labelled and 8,000 test colour images of 96 pixels."""

    order = 40
    reader = "STL10"
    splits = ({"split": "train"}, {"split": "test"})
    fingerprint = "stl10-91f7769df0f17e558f3565bffb0c7dfb"
    classes = 10
    train_images, test_images = 5_000, 8_000
    files = tuple(
        f"stl10_binary/{part}.bin"
        for part in ("train_X", "train_y", "unlabeled_X", "test_X", "test_y")
    )
