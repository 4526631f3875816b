"""Statistics of the three ways to choose the patches that are removed."""

import pytest
import torch

from mae_ablation.mae import masking
from mae_ablation.mae.masking import (
    MAX_ASPECT,
    block_masks,
    draw_blocks,
    removed_mask,
)
from mae_ablation.registry import find_component

MANY = 10_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sample_shuffle(sampling, n, grid, keep, generator):
    return find_component("sampler", sampling).cls().shuffle(n, grid, keep, generator)


def masks(sampling: str, grid: tuple[int, int], keep: int, n: int = MANY) -> torch.Tensor:
    """(n, rows, columns), 1 where removed."""
    return removed_mask(sample_shuffle(sampling, n, grid, keep, seeded()), keep).unflatten(1, grid)


def neighbours_both_removed(mask: torch.Tensor) -> float:
    """Mean number of pairs of patches side by side, or one above the other, both removed."""
    beside = mask[:, :, 1:] * mask[:, :, :-1]
    above = mask[:, 1:] * mask[:, :-1]
    return ((beside.sum() + above.sum()) / len(mask)).item()


@pytest.mark.parametrize(
    ("sampling", "grid", "keep"),
    [
        ("random", (6, 6), 9),
        ("block", (6, 6), 9),
        ("block", (6, 6), 35),
        ("block", (14, 14), 49),
        ("block", (5, 9), 1),
        ("block", (1, 40), 10),
        ("grid", (6, 6), 9),
        ("grid", (4, 10), 10),
    ],
)
def test_every_mask_is_a_permutation_with_the_exact_count(sampling, grid, keep):
    patches = grid[0] * grid[1]
    shuffle = sample_shuffle(sampling, MANY, grid, keep, seeded())
    assert shuffle.dtype == torch.int64
    assert torch.equal(shuffle.sort(dim=1).values, torch.arange(patches).expand(MANY, -1))
    assert (removed_mask(shuffle, keep).sum(dim=1) == patches - keep).all()


def test_random_removes_every_position_alike():
    rate = masks("random", (6, 6), 9).mean(dim=0)
    assert (rate - 0.75).abs().max() < 4 * (0.75 * 0.25 / MANY) ** 0.5


@pytest.mark.parametrize(("grid", "keep"), [((6, 6), 9), ((14, 14), 49)])
def test_blocks_reach_every_edge_and_are_symmetric(grid, keep):
    rate = masks("block", grid, keep).mean(dim=0)
    corners = rate[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.min() > 0.1
    assert rate.max() < 0.99
    for mirrored in (rate.flip(0), rate.flip(1), rate.T):
        assert (rate - mirrored).abs().max() < 0.03  # over 4 sigma of a difference
    assert rate[-1].mean() == pytest.approx(rate[0].mean().item(), abs=0.01)
    assert rate[:, -1].mean() == pytest.approx(rate[:, 0].mean().item(), abs=0.01)
    assert rate[grid[0] // 2, grid[1] // 2] > corners.max()  # more blocks cover the middle


@pytest.mark.parametrize(("grid", "keep"), [((6, 6), 18), ((14, 14), 98)])
def test_blocks_hang_together(grid, keep):
    block = neighbours_both_removed(masks("block", grid, keep, n=1000))
    random = neighbours_both_removed(masks("random", grid, keep, n=1000))
    assert block > 1.3 * random


@pytest.mark.parametrize("left_over", [147, 30, 5])
def test_a_block_has_the_area_and_the_aspect_it_should(left_over):
    blocks = draw_blocks(torch.full((2000,), left_over), (14, 14), seeded())
    h, w = blocks.height.double(), blocks.width.double()
    assert ((h - 0.5) <= MAX_ASPECT * (w + 0.5)).all()  # half a patch: sides are rounded
    assert ((w - 0.5) <= MAX_ASPECT * (h + 0.5)).all()
    assert ((h - 0.5) * (w - 0.5) <= left_over).all()
    assert ((h + 0.5) * (w + 0.5) >= min(16, left_over)).all()
    assert (h > w).double().mean() == pytest.approx((w > h).double().mean().item(), abs=0.03)


def test_a_block_stands_anywhere_it_fits_the_last_row_included():
    blocks = draw_blocks(torch.full((2000,), 12), (6, 6), seeded())
    fits = (blocks.height <= 6) & (blocks.width <= 6)
    bottom, right = blocks.top + blocks.height, blocks.left + blocks.width
    assert bottom[fits].max() == right[fits].max() == 6
    assert blocks.top.min() == blocks.left.min() == 0
    at_top = (blocks.top == 0)[fits].double().mean()
    assert at_top == pytest.approx((bottom == 6)[fits].double().mean().item(), abs=0.02)


def test_what_blocks_leave_is_filled_with_random_patches(monkeypatch):
    monkeypatch.setattr(masking, "MAX_ROUNDS", 1)
    removed = block_masks(200, (14, 14), 49, seeded())
    assert (removed.flatten(1).sum(dim=1) == 147).all()


def test_within_kept_and_removed_the_order_is_random():
    for sampling in ("block", "grid"):
        shuffle = sample_shuffle(sampling, 1000, (6, 6), 9, seeded())
        rising = (shuffle.diff(dim=1) > 0).double().mean(dim=0)
        assert rising[:8].mean() == pytest.approx(0.5, abs=0.05)
        assert rising[9:].mean() == pytest.approx(0.5, abs=0.05)


def test_grid_keeps_the_top_left_of_every_two_by_two():
    expected = torch.tensor([[0, 1, 0, 1], [1, 1, 1, 1]] * 2).float()
    assert (masks("grid", (4, 4), 4, n=20) == expected).all()


@pytest.mark.parametrize(
    ("grid", "keep", "message"), [((7, 6), 10, "even sides"), ((6, 6), 12, "keeps 9 patches")]
)
def test_grid_is_refused_where_it_has_no_exact_solution(grid, keep, message):
    with pytest.raises(ValueError, match=message):
        sample_shuffle("grid", 2, grid, keep, seeded())


@pytest.mark.parametrize("sampling", ["random", "block", "grid"])
def test_a_seed_means_the_same_masks(sampling):
    one, two, other = (sample_shuffle(sampling, 8, (6, 6), 9, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
