"""Reconstructions: of each level the picture after the last epoch, small enough for a page."""

import base64
import io
from dataclasses import dataclass

import pandas as pd

from mae_ablation.report.metrics import list_metrics
from mae_ablation.report.readings import trials_behind
from mae_ablation.study.plan import Plan
from mae_ablation.study.trial import Trial

ROWS, IMAGES_KEPT = 4, 8  # of a picture in the store (train/pictures.py)
IMAGES_SHOWN = 5  # images of a picture
IMAGE_SIDE = 56  # pixels of an image at most
COLOURS = 96  # of a coloured picture: a quarter of its bytes
MOST_LEVELS = 30  # levels


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelPicture:
    """A level's picture. Rows: original, masked, reconstruction, the same between what is seen."""

    level: str
    seed: int
    step: int
    data: str
    """A PNG file in base64."""
    width: int
    height: int


def list_reconstructions(plan: Plan, results: pd.DataFrame) -> list[LevelPicture]:
    """List one for each level that has any, from the first of its seeds that has; no level
    twice."""
    metric = list_metrics(plan)[0]
    each = [
        (label, trials_behind(plan, results, metric, i))
        for i, label in _trained_rows(plan)[:MOST_LEVELS]
    ]
    return [found for label, trials in each if (found := _last_picture(plan, label, trials))]


def _trained_rows(plan: Plan) -> list[tuple[int, str]]:
    """List number and label of the rows that are trainings of their own."""
    return [(i, row.label) for i, row in enumerate(plan.rows) if not row.same_as]


def say_left_out_levels(plan: Plan) -> str:
    """Say how many levels have a picture, where that is not all of them; else ""."""
    count = len(_trained_rows(plan))
    return f"Shown are the first {MOST_LEVELS} of {count} levels." if count > MOST_LEVELS else ""


def _last_picture(plan: Plan, level: str, trials: dict[int, Trial]) -> LevelPicture | None:
    """Return the last picture of the first seed that has any."""
    for seed, trial in trials.items():
        folder = trial.phases[0].folder(plan.store)
        if steps := folder.pictures():
            step = max(steps)
            png, (width, height) = _shrink(folder.picture(step))
            data = base64.b64encode(png).decode()
            return LevelPicture(
                level=level, seed=seed, step=step, data=data, width=width, height=height
            )
    return None


def _shrink(png: bytes) -> tuple[bytes, tuple[int, int]]:
    """Cut a picture to its first images, at most IMAGE_SIDE pixels wide; returns its size, too."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png))
    width, height = picture.size
    picture = picture.crop((0, 0, width * IMAGES_SHOWN // IMAGES_KEPT, height))
    side = min(IMAGE_SIDE, height // ROWS)
    size = side * picture.width // (height // ROWS), side * ROWS
    picture = picture.resize(size, Image.Resampling.BOX)
    if picture.mode == "RGB":
        picture = picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue(), size
