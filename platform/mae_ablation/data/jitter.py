"""Colour jitter of whole batches (paper Table 1e), as torchvision's ColorJitter does it per image.

Brightness, contrast and saturation are multiplied by a factor, the hue is turned, in an order that
is drawn for every image. A step of that order is at most four tensor operations, one for the
images whose turn it is to change in each way; there is no loop over images.

Shapes: n images, c channels (1 or 3), h x w pixels. Factors are (n, 1, 1, 1) inside an operation.
"""

from typing import NamedTuple

import torch

from mae_ablation.data.transfer import channel_constants, send

# brightness, contrast and saturation change by a factor in 1 +- STRENGTH, the hue turns by up to
# HUE of the circle; the paper does not say how strong its jitter is
STRENGTH, HUE = 0.4, 0.1
LUMINANCE = (0.2989, 0.587, 0.114)  # weights of red, green and blue in grey, as in torchvision


class Jitter(NamedTuple):
    """Holds what is done to each of n images."""

    brightness: torch.Tensor
    """(n,) float, a factor; so are the next two"""
    contrast: torch.Tensor
    saturation: torch.Tensor
    hue: torch.Tensor
    """(n,) float, share of the colour circle"""
    order: torch.Tensor
    """(n, 4) int64, permutations of the operations 0 to 3 in the order of the fields above"""


def random_jitter(
    n: int, generator: torch.Generator, *, strength: float = STRENGTH, hue: float = HUE
) -> Jitter:
    """Draw factors uniform in [1 - strength, 1 + strength], hue in [-hue, hue], any order."""

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(n).uniform_(low, high, generator=generator)

    # drawn in this order, which is part of what a seed means
    low, high = 1 - strength, 1 + strength
    return Jitter(
        brightness=uniform(low, high),
        contrast=uniform(low, high),
        saturation=uniform(low, high),
        hue=uniform(-hue, hue),
        order=torch.rand(n, 4, generator=generator).argsort(dim=1),
    )


def apply_jitter(pixels: torch.Tensor, jitter: Jitter) -> torch.Tensor:
    """Jitter float pixels (n, c, h, w) in [0, 1]: a new tensor of the same shape and device."""
    pixels = pixels.clone()
    factors = send(torch.stack(jitter[:4]), pixels.device)[:, :, None, None, None]
    # the images of each operation are counted where they were drawn, and sent in one piece, so that
    # selecting them does not wait for a GPU
    turns = jitter.order.T
    counts = [turn.bincount(minlength=4).tolist() for turn in turns]
    images = send(turns.argsort(dim=1, stable=True), pixels.device)
    for turn, sizes in zip(images, counts, strict=True):
        groups = zip(turn.split(sizes), (brightness, contrast, saturation, turned_hue), strict=True)
        for number, (rows, change) in enumerate(groups):
            pixels[rows] = change(pixels[rows], factors[number][rows])
    return pixels


def grey(pixels: torch.Tensor) -> torch.Tensor:
    """Compute grey values (n, 1, h, w)."""
    if pixels.shape[1] == 1:
        return pixels
    return (pixels * channel_constants(LUMINANCE, pixels.device)).sum(dim=1, keepdim=True)


def brightness(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Scale towards, or away from, black."""
    return (pixels * factor).clamp(0, 1)


def contrast(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Scale away from, or towards, the image's mean grey."""
    mean = grey(pixels).mean(dim=(1, 2, 3), keepdim=True)
    return (pixels * factor + mean * (1 - factor)).clamp(0, 1)


def saturation(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Scale away from, or towards, each pixel's grey; one channel stays as it is."""
    if pixels.shape[1] == 1:
        return pixels
    return (pixels * factor + grey(pixels) * (1 - factor)).clamp(0, 1)


def turned_hue(pixels: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Turn the hue by a share of the circle at constant HSV saturation and value."""
    if pixels.shape[1] == 1:
        return pixels
    value, lowest = pixels.amax(dim=1, keepdim=True), pixels.amin(dim=1, keepdim=True)
    spread = value - lowest
    hue = sixths(pixels, value, spread) + 6 * share
    # each channel is the value minus the range times a trapezoid of the hue (in sixths of the
    # circle) that is 0 for the two sixths around the channel's own
    k = (channel_constants((5.0, 3.0, 1.0), pixels.device) + hue) % 6
    return value - spread * torch.minimum(k, 4 - k).clamp(0, 1)


def sixths(pixels: torch.Tensor, value: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Compute the hue (n, 1, h, w) in sixths of the circle, from red; grey has any."""
    red, green, blue = pixels.split(1, dim=1)
    spread = torch.where(spread == 0, 1.0, spread)
    # the largest channel says which third of the circle the hue lies in
    from_green, from_blue = 2 + (blue - red) / spread, 4 + (red - green) / spread
    other = torch.where(value == green, from_green, from_blue)
    return torch.where(value == red, (green - blue) / spread, other)
