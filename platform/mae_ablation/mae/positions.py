"""Fixed sine-cosine position table of a patch grid (paper, appendix A.1)."""

import torch
from torch.nn import functional as F


def axis_table(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Sines, then cosines, of positions (n,) -> (n, width), frequencies 10000^(-2i/width)."""
    frequencies = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = positions.double()[:, None] * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def position_table(width: int, grid: tuple[int, int]) -> torch.Tensor:
    """Table (1, 1 + rows x columns, width), float32; the class token's row is zero.

    The first half of the channels encodes the column, the second half the row, as in the official
    checkpoints. Computed in float64.
    """
    if width % 4:
        raise ValueError(f"width {width} is not divisible by 4")
    rows, columns = grid
    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    table = torch.cat([axis_table(column, width // 2), axis_table(row, width // 2)], dim=1)
    return torch.cat([torch.zeros(1, width, dtype=table.dtype), table])[None].float()


def interpolate_positions(
    table: torch.Tensor, from_grid: tuple[int, int], to_grid: tuple[int, int], extra_tokens: int
) -> torch.Tensor:
    """Position table (1, extra + rows x columns, D) of another grid: bicubic, extra rows kept.

    Raises:
        ValueError: the table does not have the rows of `from_grid`.
    """
    rows, columns = from_grid
    if table.shape[1] != extra_tokens + rows * columns:
        raise ValueError(f"table of {table.shape[1]} rows, not {extra_tokens} + {rows} x {columns}")
    if tuple(from_grid) == tuple(to_grid):
        return table
    extra, patches = table[:, :extra_tokens], table[:, extra_tokens:]
    image = patches.transpose(1, 2).unflatten(2, from_grid)
    image = F.interpolate(image.float(), size=to_grid, mode="bicubic", align_corners=False)
    return torch.cat([extra, image.flatten(2).transpose(1, 2).to(table.dtype)], dim=1)
