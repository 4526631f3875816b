"""Masks of the centre: what is removed lies together, where most pictures show something."""

from mae_ablation import register


@register.sampler("centre", version=1)
class Centre:
    """The patches nearest to the centre are removed."""

    softness: float = 0.2
    """0: the same patches in every image; 1: the border may be removed, too"""

    def shuffle(self, n, grid, keep, generator):
        """Permutations (n, L) of the patches, the outermost first."""
        import torch

        rows, columns = (torch.linspace(-1, 1, side, device=generator.device) for side in grid)
        distance = torch.hypot(rows[:, None], columns[None]).flatten()
        noise = torch.rand(n, len(distance), generator=generator, device=generator.device)
        return (distance + 2 * self.softness * noise + 1e-3 * noise).argsort(dim=1, descending=True)
