"""Any folder of images: train/CLASS/*.jpg and val/CLASS/*.jpg."""

from mae_ablation.data.sources import Known
from mae_ablation.errors import UserError
from mae_ablation.registry import register


@register.dataset("image_folder", version=1)
class ImageFolder(Known):
    """A folder of yours: train/CLASS/*.jpg and val/CLASS/*.jpg."""

    order = 80
    in_files = True

    def facts(self, data) -> dict:
        """Nothing is known of a folder that is not there."""
        from mae_ablation.data.folder import LAYOUT

        raise UserError(f"no folder {self.location(data)}: expected {LAYOUT} in it")
