"""Figures as files, and SVG within a page: the same figure is the same file."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no screen is needed

import matplotlib.pyplot as plt
import numpy as np

from mae_ablation.store import atomic
from mae_ablation.study.places import written

plt.rcParams["text.parse_math"] = False  # levels and titles are words, whatever $ is in them

# options of each kind of file; without the time, which would make every file another
STABLE = {
    "png": {"dpi": 150},
    "svg": {"dpi": 150, "metadata": {"Date": None}},
    "pdf": {"dpi": 150, "metadata": {"CreationDate": None}},
}

PICTURE_PANEL = 2.2  # inches of a picture among others
PIXELS_PER_POINT = 4 / 3
FRONT = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>", re.DOTALL)
SIZE = re.compile(r'<svg ([^>]*?)width="([\d.]+)pt" height="[\d.]+pt"')
SVG_NAMES = re.compile(r'(\bid="|url\(#|href="#)')


def save_figure(figure, folder: Path, stem: str = "figure") -> list[Path]:
    """Write `STEM.png`, `.svg`, `.pdf` and close the figure; returns the paths."""
    paths = [folder / f"{stem}.{kind}" for kind in STABLE]
    figure.draw_without_rendering()  # to lay it out once is enough for all kinds of file
    figure.set_layout_engine("none")
    for path in paths:
        with atomic.replacing(path) as file:
            _write(figure, file, path.suffix[1:])
    plt.close(figure)
    return paths


def figure_as_svg(figure) -> str:
    """Return the figure as SVG, and close it."""
    buffer = io.BytesIO()
    _write(figure, buffer, "svg")
    plt.close(figure)
    return buffer.getvalue().decode()


def _write(figure, file, kind: str) -> None:
    # else an SVG's names would be random
    with plt.rc_context({"svg.hashsalt": "mae-ablation"}):
        figure.savefig(file, format=kind, **STABLE[kind])


def inline_svg(svg: str, prefix: str) -> str:
    """Make an SVG file an element of a page: as wide as it was at most, with names of its own."""
    svg = SVG_NAMES.sub(rf"\g<1>{prefix}-", FRONT.sub("", svg))
    if size := SIZE.search(svg):
        width = f"{float(size[2]) * PIXELS_PER_POINT:.0f}px"
        style = f'<svg {size[1]}style="width:100%;height:auto;max-width:{width}"'
        svg = svg.replace(size[0], style, 1)
    return svg.strip()


def draw_panels(
    panels: Mapping[str, np.ndarray], names: Sequence[str], caption: str, out: Path
) -> None:
    """Write `out`, a PNG whatever its name says: a row per named image, a column per title.

    `panels`: by title arrays (images, h, w, c) in [0, 1]; one channel is grey.
    """
    rows, columns = len(names), len(panels)
    size = (PICTURE_PANEL * columns, PICTURE_PANEL * rows + (0.6 if caption else 0.3))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for column, (title, images) in zip(axes.T, panels.items(), strict=True):
        column[0].set_title(title, fontsize="medium")
        for axis, image in zip(column, images, strict=True):
            axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name, fontsize="small")
    if caption:
        figure.supxlabel(caption, fontsize="small", wrap=True)
    with written(out) as file:
        _write(figure, file, "png")
    plt.close(figure)
