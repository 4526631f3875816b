"""Which patches the encoder sees. Every sampler returns shuffled patch indices, kept ones first."""

import torch


def random_shuffle(n: int, patches: int, generator: torch.Generator) -> torch.Tensor:
    """One uniform permutation of the patches per image: (n, patches) int64 (paper, section 3).

    Noise is drawn on the generator's device, so that a seed means the same masks everywhere.
    """
    noise = torch.rand(n, patches, generator=generator, device=generator.device)
    return noise.argsort(dim=1)


def removed_mask(shuffle: torch.Tensor, keep: int) -> torch.Tensor:
    """Mask (n, patches) in image order: 0 where kept, 1 where removed, float32."""
    mask = torch.ones(shuffle.shape, device=shuffle.device)
    return mask.scatter_(1, shuffle[:, :keep], 0.0)


def gather_patches(tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows `index` (n, k) of tokens (n, patches, d) -> (n, k, d)."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
