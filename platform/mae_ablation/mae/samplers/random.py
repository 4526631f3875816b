"""Any patches (paper, section 3)."""

from mae_ablation.registry import register


@register.sampler("random", version=1)
class Random:
    """Patches drawn uniformly, without replacement."""

    order = 10
    examples = (("random 75 %", 4),)

    def shuffle(self, n, grid, keep, generator):
        from mae_ablation.mae.masking import random_shuffle

        return random_shuffle(n, grid[0] * grid[1], generator)
