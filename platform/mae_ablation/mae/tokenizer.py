"""Tokens of patches from a small vector-quantised autoencoder, trained on the study's own images.

It stands in for the DALL-E tokenizer of the paper's Table 1d where its weights are absent. The
codebook is a moving average of what was assigned to it (van den Oord et al., 2017, appendix A.1).

Shapes: n images, c channels, h x w pixels, L patches, w code width, N = n x L.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from mae_ablation.mae.patches import unpatchify

DECAY = 0.99  # of the codebook's moving averages, per batch
SMOOTHING = 1e-5  # Laplace's, of cluster sizes: a code without patches does not divide by zero
COMMITMENT = (
    0.25  # weight of what holds the encoder at its codes (van den Oord et al., section 3.2)
)
RESTART_AFTER = 20  # batches without a patch, after which a code starts anew


class Quantised(NamedTuple):
    """Holds what one forward pass gives."""

    reconstruction: torch.Tensor
    """(n, c, h, w)"""
    tokens: torch.Tensor
    """(n, L) int64, in the order of `patchify`"""
    loss: torch.Tensor
    """scalar: mean squared error of the pixels, and the commitment"""


class ResidualBlock(nn.Module):
    """x + 1x1(GELU(3x3(GELU(x)))): lets a patch see its neighbours."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.mix = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mix(F.gelu(self.conv(F.gelu(x))))


class PatchTokenizer(nn.Module):
    """Vector-quantised autoencoder with one token per patch, for pixels in [0, 1].

    Train with `forward` and, after each step of the optimiser, `update`; only `update` changes the
    codebook, and the state dict holds all of it. Before the first `update` every token is 0.

    Args:
        channels: of the images.
        patch_size: side in pixels; the stride of the encoder.
        codes: size of the vocabulary.
        width: channels inside encoder and decoder.
        code_width: values of a code.
    """

    def __init__(
        self, *, channels: int, patch_size: int, codes: int, width: int = 64, code_width: int = 16
    ) -> None:
        super().__init__()
        self.patch_size, self.vocabulary = patch_size, codes
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size),
            nn.GELU(),
            ResidualBlock(width),
            nn.Conv2d(width, code_width, kernel_size=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(code_width, width, kernel_size=1), nn.GELU(), ResidualBlock(width)
        )
        self.to_pixels = nn.Linear(width, patch_size**2 * channels)
        # the codebook and its moving averages: buffers, since no gradient moves them
        self.register_buffer("codebook", torch.zeros(codes, code_width))
        self.register_buffer("cluster_sizes", torch.zeros(codes))
        self.register_buffer("cluster_sums", torch.zeros(codes, code_width))
        self.register_buffer("batches_unused", torch.zeros(codes, dtype=torch.int64))
        self.register_buffer("seeded", torch.tensor(False))

    def forward(self, pixels: torch.Tensor) -> Quantised:
        """Reconstruct pixels (n, c, h, w) in [0, 1] from their tokens; changes no state."""
        # straight through: the gradient passes as if nothing had been quantised
        latents = self._encode(pixels)
        tokens = self._nearest(latents)
        codes = self.codebook[tokens]
        passed_through = latents + (codes - latents).detach()  # gradient as if not quantised
        grid = (pixels.shape[2] // self.patch_size, pixels.shape[3] // self.patch_size)
        decoded = self.decoder(passed_through.transpose(1, 2).unflatten(2, grid))
        patches = self.to_pixels(decoded.flatten(2).transpose(1, 2))
        reconstruction = unpatchify(patches, self.patch_size, grid)
        loss = F.mse_loss(reconstruction, pixels) + COMMITMENT * F.mse_loss(latents, codes)
        return Quantised(reconstruction, tokens, loss)

    @torch.no_grad()
    def tokens(self, pixels: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Find the tokens (n, L) int64 of pixels (n, c, h, w) in [0, 1], in `patchify`'s order; the
        grid is that of the model's patches, which are the tokeniser's, too."""
        return self._nearest(self._encode(pixels))

    @torch.no_grad()
    def update(self, pixels: torch.Tensor, generator: torch.Generator) -> None:
        """Move the codes to the mean of their patches; start unused codes anew.

        The first call takes the whole codebook from the batch. `generator` draws the patches from
        which codes start. Encodes the pixels once more, with the encoder as it now is.
        """
        encoded = self._encode(pixels)
        tokens, latents = self._nearest(encoded).flatten(), encoded.flatten(0, 1)
        if not self.seeded:
            self._start_codes(self.batches_unused >= 0, latents, generator)  # all of them
            self.seeded.fill_(True)
            return

        # moving averages of what was assigned (van den Oord et al., appendix A.1)
        counts = tokens.bincount(minlength=self.vocabulary)
        sums = torch.zeros_like(self.cluster_sums).index_add_(0, tokens, latents)
        self.cluster_sizes.lerp_(counts.to(self.cluster_sizes), 1 - DECAY)
        self.cluster_sums.lerp_(sums, 1 - DECAY)
        total = self.cluster_sizes.sum()
        sizes = (self.cluster_sizes + SMOOTHING) * total / (total + self.vocabulary * SMOOTHING)
        self.codebook.copy_(self.cluster_sums / sizes[:, None])
        self.batches_unused.add_(1).mul_(counts == 0)
        self._start_codes(self.batches_unused >= RESTART_AFTER, latents, generator)

    def _start_codes(
        self, which: torch.Tensor, latents: torch.Tensor, generator: torch.Generator
    ) -> None:
        """Codes `which` (codes,) bool become latents drawn from the batch (N, w), of size 1."""
        # drawn with repetition: a batch may have fewer patches than there are codes
        index = torch.randint(
            len(latents), (int(which.sum()),), generator=generator, device=generator.device
        )
        drawn = latents[index.to(latents.device)]
        self.codebook[which] = drawn
        self.cluster_sums[which] = drawn
        self.cluster_sizes[which] = 1.0
        self.batches_unused[which] = 0

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, L, w), float32: a token must not depend on the precision."""
        return self.encoder(pixels).flatten(2).transpose(1, 2).float()

    def _nearest(self, latents: torch.Tensor) -> torch.Tensor:
        """Index (n, L) of the nearest code; the latents' own square is the same for all codes."""
        codes = self.codebook
        rows = latents.detach().flatten(0, 1)
        distance = torch.addmm(codes.square().sum(dim=1), rows, codes.T, alpha=-2)
        return distance.argmin(dim=1).view(latents.shape[:2])


def perplexity(tokens: torch.Tensor, codes: int) -> float:
    """Count the codes in effective use: exp of the entropy of the tokens' shares, 1 to `codes`."""
    shares = tokens.flatten().bincount(minlength=codes).double() / tokens.numel()
    return torch.special.entr(shares).sum().exp().item()
