"""A regular grid (paper, Table 1f, Figure 6)."""

from mae_ablation.recipe.checks import check
from mae_ablation.registry import register


@register.sampler("grid", version=1)
class Grid:
    """One patch of every 2 x 2 is kept, the one at the top left."""

    order = 30
    one_of = 4
    examples = (("grid 75 %", 4),)

    def check(self, recipe) -> None:
        check(
            recipe.grid % 2 == 0,
            f"grid sampling keeps one patch of every 2 x 2: impossible on {recipe.grid} x "
            f"{recipe.grid} patches, take an even grid",
            "pretrain.mask_sampling",
            "data.image_size",
            "model.patch_size",
        )
        check(
            recipe.kept_patches * 4 == recipe.patches,
            f"grid sampling keeps one patch of every 2 x 2, {recipe.patches // 4} of "
            f"{recipe.patches}: mask_ratio must be 0.75, not {recipe.pretrain.mask_ratio}",
            "pretrain.mask_sampling",
            "pretrain.mask_ratio",
        )

    def shuffle(self, n, grid, keep, generator):
        from mae_ablation.mae.masking import grid_mask, shuffle_within

        removed = grid_mask(grid, keep).to(generator.device)
        return shuffle_within(removed.expand(n, -1, -1), generator)
