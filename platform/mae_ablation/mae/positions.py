"""Fixed sine-cosine position table of a patch grid (paper, appendix A.1)."""

import torch


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
