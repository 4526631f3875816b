"""Fixed sine-cosine position table of a patch grid (paper, appendix A.1)."""

import torch
from torch.nn import functional as F


def axis_table(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Map positions (n,) to sines, then cosines, (n, width), of frequencies 10000^(-2i/width)."""
    frequencies = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = positions.double()[:, None] * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def position_table(width: int, grid: tuple[int, int]) -> torch.Tensor:
    """Build a table (1, 1 + rows x columns, width), float32; the class token's row is zero.

    Its width is a multiple of 4; it is computed in float64.
    """
    # the first half of the channels encodes the column, as in the official checkpoints
    rows, columns = grid
    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    table = torch.cat([axis_table(column, width // 2), axis_table(row, width // 2)], dim=1)
    return torch.cat([torch.zeros(1, width, dtype=table.dtype), table])[None].float()


def interpolate_positions(
    table: torch.Tensor, from_grid: tuple[int, int], to_grid: tuple[int, int], extra_tokens: int
) -> torch.Tensor:
    """Take a position table (1, extra + rows x columns, D) to another grid: bicubic, its first
    `extra_tokens` rows kept."""
    if tuple(from_grid) == tuple(to_grid):
        return table
    # in float32, whatever the table is kept in
    extra, patches = table[:, :extra_tokens], table[:, extra_tokens:]
    image = patches.transpose(1, 2).unflatten(2, from_grid)
    image = F.interpolate(image.float(), size=to_grid, mode="bicubic", align_corners=False)
    return torch.cat([extra, image.flatten(2).transpose(1, 2).to(table.dtype)], dim=1)
