"""Masks of patches, which the samplers are made of: shuffled patch indices, kept ones first.

Shapes: n images, L patches on a grid of rows x columns, a candidates for a block.
"""

import math
from typing import NamedTuple

import torch
from torch.nn import functional as F

from mae_ablation.recipe.recipe import Recipe
from mae_ablation.registry import ask

# height / width of a block lies between the inverse of this and this (BEiT, appendix)
MAX_ASPECT = 1 / 0.3
MIN_SHARE = 16 / 196  # smallest block, as a share of the patches (BEiT: 16 of 196)
# blocks drawn at once: a rejected block changes nothing, so the first that fits of several is the
# same draw as one after the other, in a third of the rounds
CANDIDATES = 8
# for grids on which hardly a block fits: of 4,096 masks the slowest took 20 rounds at 147 of
# 14 x 14 patches, 33 at 177
MAX_ROUNDS = 40


class Blocks(NamedTuple):
    """Rectangles of patches: four int64 tensors of one shape."""

    top: torch.Tensor
    left: torch.Tensor
    height: torch.Tensor
    width: torch.Tensor


def random_shuffle(n: int, patches: int, generator: torch.Generator) -> torch.Tensor:
    """One uniform permutation of the patches per image: (n, patches) int64 (paper, section 3).

    Noise is drawn on the generator's device, so that a seed means the same masks everywhere.
    """
    noise = torch.rand(n, patches, generator=generator, device=generator.device)
    return noise.argsort(dim=1)


def shuffle_within(removed: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Kept patches of removed (n, rows, columns), then the removed ones, each in random order."""
    removed = removed.flatten(1)
    noise = torch.rand(removed.shape, generator=generator, device=generator.device)
    return (noise + removed).argsort(dim=1)  # noise lies below 1


def grid_mask(grid: tuple[int, int], keep: int) -> torch.Tensor:
    """Bool (rows, columns), false at the top left of every 2 x 2 cell (paper, Figure 6)."""
    rows, columns = grid
    if rows % 2 or columns % 2:
        raise ValueError(f"grid sampling needs even sides, not {rows} x {columns} patches")
    if keep * 4 != rows * columns:
        raise ValueError(f"grid sampling keeps {rows * columns // 4} patches, not {keep}")
    removed = torch.ones(grid, dtype=torch.bool)
    removed[::2, ::2] = False
    return removed


def block_masks(
    n: int, grid: tuple[int, int], keep: int, generator: torch.Generator
) -> torch.Tensor:
    """Bool (n, rows, columns): true on the union of random blocks, exactly L - keep patches.

    BEiT's rule: a block that adds more patches than are still to be removed is refused, and
    another one drawn. Unlike BEiT's it does not end before the count is reached: what is missing
    after MAX_ROUNDS is filled with random patches.
    """
    # all images of the batch at once, each until its own count is reached
    rows, columns = grid
    masks = torch.zeros(n, rows, columns, dtype=torch.bool, device=generator.device)
    left_over = torch.full((n,), rows * columns - keep, device=generator.device)
    for _ in range(MAX_ROUNDS):
        if not left_over.any():
            return masks
        blocks = draw_blocks(left_over, grid, generator)
        chosen, added = _first_that_fits(blocks, masks, left_over)
        masks |= _painted(chosen, grid)
        left_over = left_over - added
    filled = shuffle_within(masks, generator)  # what is kept too many stands behind the kept
    return removed_mask(filled, keep).bool().view_as(masks)


def draw_blocks(
    left_over: torch.Tensor, grid: tuple[int, int], generator: torch.Generator
) -> Blocks:
    """Candidates (n, CANDIDATES) for the next block of each image.

    The area is uniform between the smallest block and `left_over` (n,), the patches still to be
    removed; the aspect ratio is log-uniform. A block that is too large for the grid stands at 0.
    """
    rows, columns = grid
    shape = (4, len(left_over), CANDIDATES)
    # one draw for everything, so that a round costs one call of the generator
    u, v, *places = torch.rand(shape, generator=generator, device=generator.device)
    most = left_over[:, None].float()
    least = most.clamp(max=MIN_SHARE * rows * columns)  # else the bounds swap near the end
    area = least + (most - least) * u
    aspect = torch.exp(math.log(MAX_ASPECT) * (2 * v - 1))
    height, width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    # floored below: the last row and column are as likely as the first
    top = places[0] * (rows - height + 1).clamp(min=0)
    left = places[1] * (columns - width + 1).clamp(min=0)
    return Blocks(*torch.stack((top, left, height, width)).long())


def _first_that_fits(
    blocks: Blocks, masks: torch.Tensor, left_over: torch.Tensor
) -> tuple[Blocks, torch.Tensor]:
    """First acceptable block of each image, every field (n, 1), and the patches it adds (n,).

    Where none is acceptable the block has no height and adds nothing.
    """
    # a block may overlap what is removed, but must add something and not too much
    added = _patches_added(blocks, masks)
    fits = (blocks.height <= masks.shape[1]) & (blocks.width <= masks.shape[2])
    fits &= (added >= 1) & (added <= left_over[:, None])
    first = fits.int().argmax(dim=1, keepdim=True)
    found = fits.gather(1, first)
    chosen = Blocks(*(field.gather(1, first) for field in blocks))
    return chosen._replace(height=chosen.height * found), (added.gather(1, first) * found)[:, 0]


def _patches_added(blocks: Blocks, masks: torch.Tensor) -> torch.Tensor:
    """Patches (n, a) inside each block that `masks` (n, rows, columns) does not remove yet."""
    rows, columns = masks.shape[1:]
    sums = F.pad((~masks).cumsum(1).cumsum(2), (1, 0, 1, 0)).flatten(1)  # of all above and left
    # sums of rectangles by their four corners (summed-area table)
    bottom = (blocks.top + blocks.height).clamp(max=rows) * (columns + 1)
    right = (blocks.left + blocks.width).clamp(max=columns)
    top, left = blocks.top * (columns + 1), blocks.left
    corners = torch.cat((bottom + right, bottom + left, top + right, top + left), dim=1)
    whole, beside, above, both = sums.gather(1, corners).chunk(4, dim=1)
    return whole - beside - above + both


def _painted(blocks: Blocks, grid: tuple[int, int]) -> torch.Tensor:
    """Bool (n, rows, columns), true inside the one block (n, 1) of each image."""
    row, column = (torch.arange(side, device=blocks.top.device) for side in grid)
    in_rows = (row >= blocks.top) & (row < blocks.top + blocks.height)
    in_columns = (column >= blocks.left) & (column < blocks.left + blocks.width)
    return in_rows[:, :, None] & in_columns[:, None, :]


def require_permutations(recipe: Recipe) -> None:
    """Try a user's sampler before anything is trained.

    Raises:
        ValueError: it gives no permutation of the patches for each image.
    """
    sampler, epochs = recipe.sampler, recipe.pretrain.epochs
    if sampler.component.plugin is None:
        return
    rng, grid = torch.Generator().manual_seed(0), (recipe.grid, recipe.grid)
    for epoch in {0, epochs - 1}:  # a curriculum's ends
        at = {"epoch": epoch, "epochs": epochs}
        found = ask(sampler.shuffle, 2, grid, recipe.kept_at(epoch), rng, **at)
        wanted = torch.arange(recipe.patches).expand(2, -1)
        if found.dtype != torch.int64 or not torch.equal(found.sort(dim=1).values, wanted):
            raise ValueError(
                f"sampler {sampler.component.name} gives {str(found.dtype)[6:]} of "
                f"{tuple(found.shape)}: return each image's permutation of the {recipe.patches} "
                f"patches, int64 of {tuple(wanted.shape)}"
            )


def removed_mask(shuffle: torch.Tensor, keep: int) -> torch.Tensor:
    """Mask (n, patches) in image order: 0 where kept, 1 where removed, float32."""
    mask = torch.ones(shuffle.shape, device=shuffle.device)
    return mask.scatter_(1, shuffle[:, :keep], 0.0)


def gather_patches(tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows `index` (n, k) of tokens (n, patches, d) -> (n, k, d)."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
