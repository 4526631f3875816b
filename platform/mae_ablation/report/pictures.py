"""Reconstructions: of each level the picture after the last epoch, small enough for a page."""

import base64
import io
from dataclasses import dataclass

from mae_ablation.study.plan import Plan, Row

ROWS, IMAGES = 4, 8  # of a picture in the store (phases/album.py)
SHOWN = 5  # images of a picture
SIDE = 56  # pixels of an image at most
COLOURS = 96  # of a coloured picture: a quarter of its bytes
MOST = 30  # levels


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconstruction:
    """A level's picture. Rows: original, masked, reconstruction, the same between what is seen."""

    level: str
    seed: int
    step: int
    data: str
    """of a PNG file, in base64"""
    width: int
    height: int


def reconstructions(plan: Plan) -> list[Reconstruction]:
    """One for each level that has any, from the first of its seeds that has; no level twice."""
    rows = [row for row in plan.rows if not row.same_as][:MOST]
    return [found for row in rows if (found := last_picture(plan, row))]


def last_picture(plan: Plan, row: Row) -> Reconstruction | None:
    for seed, trial in row.trials.items():
        folder = trial.phases[0].folder(plan.store)
        if steps := folder.pictures():
            step = max(steps)
            png, (width, height) = small(folder.picture(step))
            data = base64.b64encode(png).decode()
            return Reconstruction(
                level=row.label, seed=seed, step=step, data=data, width=width, height=height
            )
    return None


def small(png: bytes) -> tuple[bytes, tuple[int, int]]:
    """The first images of a picture, each at most SIDE pixels wide; and the size of that."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png))
    width, height = picture.size
    picture = picture.crop((0, 0, width * SHOWN // IMAGES, height))
    side = min(SIDE, height // ROWS)
    size = side * picture.width // (height // ROWS), side * ROWS
    picture = picture.resize(size, Image.Resampling.BOX)
    if picture.mode == "RGB":
        picture = picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue(), size
