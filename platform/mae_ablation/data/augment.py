"""Augmentation of whole batches: crop, resize and flip are two matrix products per image.

Resizing is linear and separable, so a crop box and a flip become one weight matrix per axis and
image, and a batch is resampled by `rows @ image @ columns^T`. Weights are those of bicubic
interpolation (a = -0.5) inside the box, as torchvision's antialiased `resized_crop` computes them.

Shapes: n images, c channels, s source side, t target side.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch.nn import functional as F

from mae_ablation.data.augmentations import Plain
from mae_ablation.data.transfer import channel_constants, send
from mae_ablation.registry import Augmentation, ask

SHIFT = 8  # `shifted_boxes` are moved by up to this part of the side
_ATTEMPTS = 10  # at a box that fits
TABLE_SIDE = 40  # pixels up to which all weights are kept: 10 MB at 32, by the fourth power of it


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """Says how images are shown to a model; the defaults change nothing but the pixels' scale."""

    augmentation: Augmentation = Plain()
    crop_min_area: float = 0.2
    """crops of random size: smallest share of the image's area"""
    crop_drawn_once: bool = False
    """crops of random size: a box that does not fit is cut to the image, not drawn again"""
    randaugment_magnitude: int = 0
    """RandAugment after crop and flip; 0: none"""
    randaugment_fill: tuple[float, ...] = (0.5,)
    """colour, in [0, 1], of what a rotation or a shift uncovers: the data set's mean, say"""
    image_size: int | None = None
    """side in pixels of what comes out; None: that of the split"""


class Boxes(NamedTuple):
    """Crop boxes in source pixels, each (n,) int64, and which images are mirrored (n,) bool."""

    top: torch.Tensor
    left: torch.Tensor
    height: torch.Tensor
    width: torch.Tensor
    flip: torch.Tensor


def random_resized_boxes(
    n: int,
    size: int | tuple[int, int],
    min_area: float,
    generator: torch.Generator,
    drawn_once: bool = False,
) -> Boxes:
    """Draw boxes of area uniform in [min_area, 1], aspect ratio log-uniform in [3/4, 4/3].

    The rule is that of torchvision's RandomResizedCrop; half of the boxes are flipped.

    Args:
        size: side of square images, or (height, width).
        drawn_once: a box that does not fit is cut to the image instead, as in the linear probe of
            the official code: fewer large boxes are lost (mean area of 375 x 500 pixels with
            `min_area` 0.08: 0.52 instead of 0.43).
    """
    # all attempts at once
    tall, wide = (size, size) if isinstance(size, int) else size
    shape = (1 if drawn_once else _ATTEMPTS, n)
    area = tall * wide * torch.empty(shape).uniform_(min_area, 1.0, generator=generator)
    bound = math.log(4 / 3)
    # aspect ratios are symmetric about 1 on a logarithmic scale
    aspect = torch.empty(shape).uniform_(-bound, bound, generator=generator).exp()
    width = (area * aspect).sqrt().round().long()
    height = (area / aspect).sqrt().round().long()
    if drawn_once:
        width, height = width.clamp(1, wide), height.clamp(1, tall)

    # the first box that fits; where none does, the largest of a permitted shape, in the centre:
    # of a square image that is all of it
    fits = (width > 0) & (width <= wide) & (height > 0) & (height <= tall)
    first = fits.int().argmax(dim=0)[None]
    none = ~fits.any(dim=0)
    width = width.gather(0, first)[0].masked_fill(none, min(wide, round(tall * 4 / 3)))
    height = height.gather(0, first)[0].masked_fill(none, min(tall, round(wide * 4 / 3)))
    top = uniform_below(tall - height + 1, generator)
    left = uniform_below(wide - width + 1, generator)
    return Boxes(
        top=torch.where(none, (tall - height) // 2, top),
        left=torch.where(none, (wide - width) // 2, left),
        height=height,
        width=width,
        flip=torch.rand(n, generator=generator) < 0.5,
    )


def shifted_boxes(n: int, side: int, generator: torch.Generator) -> Boxes:
    """Draw boxes of full size, moved by up to 1/8 of the side, half flipped; outside is black."""
    reach = side // SHIFT
    full = torch.full((n,), side)
    return Boxes(
        top=uniform_below(torch.full((n,), 2 * reach + 1), generator) - reach,
        left=uniform_below(torch.full((n,), 2 * reach + 1), generator) - reach,
        height=full,
        width=full,
        flip=torch.rand(n, generator=generator) < 0.5,
    )


def uniform_below(bound: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw integers uniform in [0, bound), elementwise."""
    return (torch.rand(bound.shape, generator=generator) * bound).long().minimum(bound - 1)


def boxes_for(
    view: View, n: int, size: int | tuple[int, int], generator: torch.Generator
) -> Boxes | None:
    """Draw the boxes of one batch, if it is cropped.

    Raises:
        ValueError: a user's augmentation draws a box that the weights below are not made for.
    """
    how = {"min_area": view.crop_min_area, "drawn_once": view.crop_drawn_once}
    boxes = ask(view.augmentation.boxes, n, size, generator, **how)
    component = view.augmentation.component
    if boxes is None or component.plugin is None:
        return boxes
    tall, wide = (size, size) if isinstance(size, int) else size
    for start, extent, side in ((boxes.top, boxes.height, tall), (boxes.left, boxes.width, wide)):
        least, most = start.new_tensor((-(side // SHIFT), 1)), start.new_tensor((side - 1, side))
        found = torch.stack([start, extent], dim=1)
        if not ((least <= found) & (found <= most)).all():
            raise ValueError(
                f"augmentation {component.name} draws boxes outside of {side} pixels: begin from "
                f"{least[0]} to {most[0]}, 1 to {side} pixels long"
            )
    return boxes


def cubic_taps(offset: torch.Tensor) -> torch.Tensor:
    """Evaluate Keys' cubic kernel, a = -0.5, at four pixels around a point: (n, t) -> (n, 4, t).

    Args:
        offset: of the point from the second of the four, in [0, 1).
    """

    def near(x: torch.Tensor) -> torch.Tensor:  # up to 1
        return (1.5 * x - 2.5) * x * x + 1

    def far(x: torch.Tensor) -> torch.Tensor:  # from 1 to 2
        return ((-0.5 * x + 2.5) * x - 4) * x + 2

    return torch.stack([far(1 + offset), near(offset), near(1 - offset), far(2 - offset)], dim=1)


def axis_weights(
    start: torch.Tensor, extent: torch.Tensor, side: int, mirrored: torch.Tensor
) -> torch.Tensor:
    """Compute weights (n, side, side) that resample pixels [start, start + extent) to `side`.

    A box is never larger than the image, so that nothing shrinks: the kernel reaches four pixels.
    Where the box reaches beyond the image, the missing pixels count as zeros.

    Args:
        mirrored: (n,) bool: the result runs backwards.
    """
    # points between the box's own pixels, and the kernel on those within it
    scale = extent[:, None].float() / side
    device = start.device
    at = scale * (torch.arange(side, device=device) + 0.5) - 0.5  # (n, t), from the first pixel
    at = torch.where(mirrored[:, None], at.flip(1), at)
    # the kernel reaches from the pixel before the point to the second one behind it
    first = at.floor()
    weights = cubic_taps(at - first)
    near = torch.arange(-1, 3, device=device)[:, None]
    pixels = first.long()[:, None] + near  # (n, 4, t), likewise
    weights *= (pixels >= 0) & (pixels < extent[:, None, None])

    # at the box's edge the kernel is cut off, not mirrored: what is left sums to 1
    weights /= weights.sum(dim=1, keepdim=True)

    # as pixels of the image
    pixels += start[:, None, None]
    weights *= (pixels >= 0) & (pixels < side)
    dense = torch.zeros(len(start), side, side, device=device)  # (n, s, t)
    return dense.scatter_add_(1, pixels.clamp_(0, side - 1), weights).mT


def known_weights(
    start: torch.Tensor, extent: torch.Tensor, side: int, mirrored: torch.Tensor
) -> torch.Tensor:
    """Look `axis_weights` up where images are small: a fifth of the time."""
    if side > TABLE_SIDE:
        return axis_weights(start, extent, side, mirrored)
    number = ((start + side // SHIFT) * side + extent - 1) * 2 + mirrored
    return every_weight(side, start.device).index_select(0, number)


@cache
def every_weight(side: int, device: torch.device) -> torch.Tensor:
    """Compute weights (boxes, side, side) of all boxes of an axis, shifted ones too, mirrored."""
    starts, extents = torch.arange(-(side // SHIFT), side), torch.arange(1, side + 1)
    start, extent, mirrored = torch.cartesian_prod(starts, extents, torch.arange(2)).unbind(1)
    return axis_weights(start, extent, side, mirrored.bool()).contiguous().to(device)


def crop_resize_flip(images: torch.Tensor, boxes: Boxes) -> torch.Tensor:
    """Crop float images (n, c, s, s) to their boxes, resize back to (s, s), mirror."""
    n, channels, side, _ = images.shape
    # a few integers per image travel; the weights, larger than the images, are made on the device
    start = torch.cat([boxes.top, boxes.left])
    extent = torch.cat([boxes.height, boxes.width])
    mirrored = torch.cat([torch.zeros_like(boxes.flip), boxes.flip])
    numbers = send(torch.stack([start, extent, mirrored.long()]), images.device)
    rows, columns = known_weights(numbers[0], numbers[1], side, numbers[2].bool()).chunk(2)
    # a product for each image, all of its channels at once: rows first, then columns
    lines = rows @ images.transpose(1, 2).reshape(n, side, channels * side)
    lines = lines.view(n, side * channels, side) @ columns.mT
    return lines.view(n, side, channels, side).transpose(1, 2).contiguous()


def normalise(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]):
    """Subtract the mean of pixels (n, c, h, w), divide by the deviation, per channel."""
    mean, std = (channel_constants(tuple(v), images.device) for v in (mean, std))
    return (images - mean).div_(std)


def cropped(images: torch.Tensor, boxes: Boxes | None) -> torch.Tensor:
    """Turn uint8 images (n, c, s, s) into float32 pixels in [0, 1], cropped as `boxes` say."""
    pixels = images.float().div_(255)
    # clamped to the range of a pixel, as torchvision does for uint8
    return pixels if boxes is None else crop_resize_flip(pixels, boxes).clamp_(0, 1)


def resized(pixels: torch.Tensor, size: int | None) -> torch.Tensor:
    """Resize pixels (n, c, s, s), antialiased bicubic; None: as they are. Floats stay in [0, 1]."""
    if size is None or size == pixels.shape[-1]:
        return pixels
    out = F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True)
    return out.clamp(0, 1) if out.is_floating_point() else out
