"""Reconstructions: of each level the picture after the last epoch, small enough for a page."""

import base64
import io
from typing import NamedTuple

import pandas as pd

from mae_ablation.report.metrics import list_metrics
from mae_ablation.report.readings import trials_behind
from mae_ablation.study.plan import Plan

ROWS, IMAGES_KEPT = 4, 8  # of a picture in the store (train/pictures.py)
IMAGES_SHOWN = 5  # images of a picture
IMAGE_SIDE = 56  # pixels of an image at most
COLOURS = 96  # of a coloured picture: a quarter of its bytes
MOST_LEVELS = 30  # levels


class LevelPicture(NamedTuple):
    """A level's picture. Rows: original, masked, reconstruction, the same between what is seen."""

    level: str
    seed: int
    step: int
    data: str  # a PNG file in base64
    width: int
    height: int


def list_reconstructions(plan: Plan, results: pd.DataFrame) -> list[LevelPicture]:
    """List the last picture of each level, from its first seed that has any."""
    metric, found = list_metrics(plan)[0], []
    rows = [(i, row.label) for i, row in enumerate(plan.rows) if not row.same_as]
    for number, level in rows[:MOST_LEVELS]:
        for seed, trial in trials_behind(plan, results, metric, number).items():
            folder = trial.phases[0].folder(plan.store)
            if steps := folder.pictures():
                png, size = _shrink(folder.picture(max(steps)))
                data = base64.b64encode(png).decode()
                found.append(LevelPicture(level, seed, max(steps), data, *size))
                break
    return found


def say_left_out_levels(plan: Plan) -> str:
    """Say how many levels have a picture, where that is not all of them; else ""."""
    count = sum(not row.same_as for row in plan.rows)
    return f"Shown are the first {MOST_LEVELS} of {count} levels." if count > MOST_LEVELS else ""


def _shrink(png: bytes) -> tuple[bytes, tuple[int, int]]:
    """Cut a picture to its first images, at most IMAGE_SIDE pixels wide; returns its size, too."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png))
    width, height = picture.size
    picture = picture.crop((0, 0, width * IMAGES_SHOWN // IMAGES_KEPT, height))
    side = min(IMAGE_SIDE, height // ROWS)
    size = side * picture.width // (height // ROWS), side * ROWS
    picture = picture.resize(size, Image.Resampling.BOX)

    # of a few colours it is a fraction of the bytes, all of which stand in the page
    if picture.mode == "RGB":
        picture = picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue(), size
