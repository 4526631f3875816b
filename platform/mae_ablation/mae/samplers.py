"""Samplers choose the patches that are removed (paper, Table 1f)."""

from mae_ablation.recipe.checks import check
from mae_ablation.registry import register


@register.sampler("random", version=1)
class Random:
    """Patches drawn uniformly, without replacement."""

    order = 10
    examples = (("random 75 %", 4),)

    def shuffle(self, n, grid, keep, generator):
        from mae_ablation.mae.masking import random_shuffle

        return random_shuffle(n, grid[0] * grid[1], generator)


@register.sampler("block", version=1)
class Block:
    """Blocks of patches are removed, by BEiT's rule."""

    order = 20
    examples = (("block-wise 50 %", 2), ("block-wise 75 %", 4))

    def shuffle(self, n, grid, keep, generator):
        from mae_ablation.mae.masking import block_masks, shuffle_within

        return shuffle_within(block_masks(n, grid, keep, generator), generator)


@register.sampler("grid", version=1)
class EvenGrid:
    """One patch of every 2 x 2 is kept, the one at the top left."""

    order = 30
    one_of = 4
    examples = (("grid 75 %", 4),)

    def check(self, recipe) -> None:
        # a grid that does not fit would remove another share than the recipe says
        rule = "grid sampling keeps one patch of every 2 x 2"
        check(
            recipe.grid % 2 == 0,
            f"{rule}: impossible on {recipe.grid} x {recipe.grid} patches, take an even grid",
            *("pretrain.mask_sampling", "data.image_size", "model.patch_size"),
        )
        check(
            recipe.kept_patches * 4 == recipe.patches,
            f"{rule}, {recipe.patches // 4} of {recipe.patches}: mask_ratio must be 0.75, not "
            f"{recipe.pretrain.mask_ratio}",
            *("pretrain.mask_sampling", "pretrain.mask_ratio"),
        )

    def shuffle(self, n, grid, keep, generator):
        from mae_ablation.mae.masking import grid_mask, shuffle_within

        removed = grid_mask(grid, keep).to(generator.device)
        return shuffle_within(removed.expand(n, -1, -1), generator)
