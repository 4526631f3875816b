"""Images of a numpy file."""

from mae_ablation import register
from mae_ablation.registry import path


@register.dataset("npz", version=1)
class Npz:
    """Arrays train_images, train_labels, test_images and test_labels of an .npz file."""

    file: str = path("images.npz")
    inverted: bool = False

    def read(self):
        import numpy as np

        with np.load(self.file) as arrays:
            found = dict(arrays)
        for part in ("train_images", "test_images"):
            found[part] = 255 - found[part] if self.inverted else found[part]
        return found
