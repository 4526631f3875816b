"""Reconstructions of the same few test images along a pre-training, as small pictures.

Rows: original, masked, reconstruction, reconstruction between the visible patches. The pictures
are for people; nothing is selected by them.
"""

import io

import torch

from mae_ablation.data.augment import View, normalise
from mae_ablation.data.dataset import Dataset
from mae_ablation.data.feed import Feed
from mae_ablation.mae.model import MaskedAutoencoder
from mae_ablation.mae.picture import panels
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.registry import ask
from mae_ablation.train.optim import generator
from mae_ablation.train.run import PhaseRun

IMAGES = 8
SIDE_PIXELS = 96  # smaller images are enlarged to at least this


class EpochPictures:
    """Draws a picture after some of the epochs, with the same images and masks for every seed."""

    def __init__(
        self, recipe: Recipe, model: MaskedAutoencoder, data: Dataset, run: PhaseRun
    ) -> None:
        settings = recipe.pretrain
        self._model, self._data, self._run = model, data, run
        self._keep = recipe.kept_patches
        wanted = settings.reconstructions if model.target.can_draw else 0
        self._epochs = {round(settings.epochs * (i + 1) / wanted) for i in range(wanted)}
        if not wanted:
            return
        # spread over the test split; masks of the last epoch, the same for every seed
        index = torch.linspace(0, len(data.test) - 1, IMAGES).long()
        feed = Feed(data.test, View(), run.device)
        pixels, _ = next(iter(feed.batches([index], generator(0, "album/images"))))
        self._images = normalise(pixels, data.mean, data.std)
        given = (IMAGES, model.grid, self._keep, generator(0, "album/masks"))
        last = {"epoch": settings.epochs - 1, "epochs": settings.epochs}
        self._shuffle = ask(recipe.sampler.shuffle, *given, **last).to(run.device)

    def draw_after(self, epoch: int, step: int) -> None:
        """Draw and save the picture of an epoch, if it is one of those; rank zero does."""
        if epoch in self._epochs:
            self._run.workers.on_rank_zero(lambda: self._draw(step))

    def _draw(self, step: int) -> None:
        data = self._data
        self._model.eval()
        drawn = panels(self._model, self._images, self._shuffle, self._keep, data.mean, data.std)
        self._model.train()
        rows = [torch.cat(list(part), dim=-1) for part in drawn]  # images side by side
        self._run.folder.save_picture(step, to_png(torch.cat(rows, dim=-2), SIDE_PIXELS))


def to_png(picture: torch.Tensor, side: int) -> bytes:
    """Encode pixels (c, h, w) in [0, 1], each quarter of the height at least `side` pixels high.

    Three of more channels are shown as colours, the first of two as grey.
    """
    from PIL import Image

    picture = picture[: 3 if len(picture) >= 3 else 1]
    times = max(1, -(-side * 4 // picture.shape[-2]))
    large = picture.repeat_interleave(times, -1).repeat_interleave(times, -2)
    array = (large * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(array.squeeze()).save(file, format="PNG")
    return file.getvalue()
