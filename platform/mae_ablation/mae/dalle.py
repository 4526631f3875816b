"""Encoder of the DALL-E dVAE (Ramesh et al., 2021), the tokenizer of the paper's Table 1d.

Only the architecture: weights come from a file of the user's. Written from its description; the
parameter names are those of the released weights.

Shapes: n images, i channels in, o channels out, k kernel side, V vocabulary.
"""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from mae_ablation.mae.checkpoints import check_fit, open_checkpoint
from mae_ablation.study.places import require_hash

STRIDE = 8  # pixels per token: three poolings by 2
GROUPS, BLOCKS = 4, 2
GAIN = 1 / (GROUPS * BLOCKS) ** 2  # of a residual path
_AT_A_TIME = 64  # images: 0.8 GB for one activation of the first group at 112 x 112


class Conv(nn.Module):
    """Convolution that keeps the size, with parameters `w` (o, i, k, k) and `b` (o,)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(channels_out, channels_in, kernel, kernel))
        self.b = nn.Parameter(torch.zeros(channels_out))
        nn.init.normal_(self.w, std=(channels_in * kernel**2) ** -0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.w, self.b, padding=self.w.shape[-1] // 2)


class Bottleneck(nn.Module):
    """Three 3x3 and a 1x1 convolution, a ReLU before each; inside a quarter as wide as outside."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        inner = channels_out // 4
        same = channels_in == channels_out
        self.id_path = nn.Identity() if same else Conv(channels_in, channels_out, 1)
        sizes = [(channels_in, inner, 3), (inner, inner, 3), (inner, inner, 3)]
        layers = OrderedDict()
        for number, size in enumerate([*sizes, (inner, channels_out, 1)], start=1):
            layers[f"relu_{number}"] = nn.ReLU()
            layers[f"conv_{number}"] = Conv(*size)
        self.res_path = nn.Sequential(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.id_path(x) + GAIN * self.res_path(x)


class DalleEncoder(nn.Module):
    """Images to logits over the vocabulary, one position for 8 x 8 pixels.

    Args:
        hidden: channels of the first group; the others have 2, 4 and 8 times as many.
        vocabulary: tokens. The released weights have 256 and 8192, 53.79 M parameters.
    """

    def __init__(self, *, hidden: int = 256, vocabulary: int = 8192) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        # names of layers are those of the released weights: blocks.group_1.block_1.res_path
        layers = OrderedDict(input=Conv(3, hidden, 7))
        channels = hidden
        for number in range(1, GROUPS + 1):
            group, wider = OrderedDict(), hidden * 2 ** (number - 1)
            for block in range(1, BLOCKS + 1):
                group[f"block_{block}"] = Bottleneck(channels, wider)
                channels = wider
            if number < GROUPS:
                group["pool"] = nn.MaxPool2d(2)
            layers[f"group_{number}"] = nn.Sequential(group)
        output = OrderedDict(relu=nn.ReLU(), conv=Conv(channels, vocabulary, 1))
        layers["output"] = nn.Sequential(output)
        self.blocks = nn.Sequential(layers)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (n, 3, h, w), mapped to [0.1, 0.9] -> logits (n, V, h / 8, w / 8)."""
        return self.blocks(pixels)

    @torch.no_grad()
    def tokens(self, pixels: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Find the tokens (n, L) int64 of pixels (n, 1 or 3, h, w) in [0, 1], one per patch.

        The images are resized so that a patch has 8 pixels a side: 112 for 14 x 14 patches.
        """
        size, tokens = tuple(STRIDE * side for side in grid), []
        for part in pixels.split(_AT_A_TIME):
            resized = F.interpolate(part, size=size, mode="bicubic", antialias=True)
            mapped = 0.8 * resized.clamp(0, 1) + 0.1  # bicubic overshoots; the dVAE saw 0.1 to 0.9
            tokens.append(self(mapped.expand(-1, 3, -1, -1)).argmax(dim=1).flatten(1))
        return torch.cat(tokens)


def load_dalle(path: Path | str, sha256: str) -> DalleEncoder:
    """Build the encoder with a file's weights, ready for `tokens`, sizes as in the file.

    Raises:
        UserError: another hash; a pickled module; names or shapes that do not fit.
    """
    require_hash(Path(path), sha256, str(path))
    state = open_checkpoint(path, convert=".state_dict()").state
    # sizes are the file's: small ones serve tests
    first, last = state.get("blocks.input.w"), state.get("blocks.output.conv.w")
    sizes = {} if first is None or last is None else dict(hidden=len(first), vocabulary=len(last))
    with torch.device("meta"):  # the weights are taken, not copied
        encoder = DalleEncoder(**sizes)
    check_fit(encoder.state_dict(), state, str(path))
    encoder.load_state_dict(state, assign=True)
    return encoder.float().eval().requires_grad_(False)
