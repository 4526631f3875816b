"""Block-wise masks (paper, Table 1f; Bao et al., 2021, BEiT)."""

from mae_ablation.registry import register


@register.sampler("block", version=1)
class Block:
    """Blocks of patches are removed, by BEiT's rule."""

    order = 20
    examples = (("block-wise 50 %", 2), ("block-wise 75 %", 4))

    def shuffle(self, n, grid, keep, generator):
        from mae_ablation.mae.masking import block_masks, shuffle_within

        return shuffle_within(block_masks(n, grid, keep, generator), generator)
