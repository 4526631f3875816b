"""Pictures of single models and of masks: titled panels side by side."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no screen is needed

import matplotlib.pyplot as plt
import numpy as np

from mae_ablation.study.places import written

PANEL = 2.2  # inches


def draw_panels(
    panels: Mapping[str, np.ndarray], names: Sequence[str], caption: str, out: Path
) -> None:
    """Write `out`: a row per image, a column per title, of arrays (images, h, w, c) in [0, 1]."""
    rows, columns = len(names), len(panels)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(PANEL * columns, PANEL * rows + 0.6),
        squeeze=False,
        layout="constrained",
    )
    for column, (title, images) in zip(axes.T, panels.items(), strict=True):
        column[0].set_title(title, fontsize="medium")
        for axis, image in zip(column, images, strict=True):
            show(axis, image)
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name, fontsize="small")
    figure.supxlabel(caption, fontsize="small", wrap=True)
    save(figure, out)


def draw_masks(pictures: Mapping[str, np.ndarray], out: Path) -> None:
    """Write `out`: arrays (h, w, c) in [0, 1] side by side under their titles."""
    figure, axes = plt.subplots(
        1, len(pictures), figsize=(PANEL * len(pictures), PANEL + 0.3), layout="constrained"
    )
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.set_title(title, fontsize="medium")
        show(axis, picture)
    save(figure, out)


def show(axis, image: np.ndarray) -> None:
    """An image without ticks; one channel as grey."""
    axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def save(figure, out: Path) -> None:
    """A PNG, whatever the name says; the same picture is the same file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    plt.close(figure)
    with written(out) as file:
        file.write(buffer.getvalue())
