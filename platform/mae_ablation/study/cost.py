"""What a training costs, by arithmetic on its shapes: FLOPs per image, parameters, bytes.

Pure numbers, so that a plan needs no model. Only matrix products are counted, two FLOPs per
multiply-accumulate (the convention of the paper's Table 1c and of torch's FlopCounterMode).
"""

from mae_ablation.study.recipe import Recipe

BACKWARD = 2  # a backward pass costs twice a forward pass


def block_flops(tokens: int, width: int, mlp_ratio: float) -> float:
    """Forward pass of one Transformer block over a sequence."""
    linear = tokens * width * width * (4 + 2 * mlp_ratio)  # qkv, projection, two MLP layers
    attention = 2 * tokens * tokens * width  # scores and weighted sum
    return 2 * (linear + attention)


def encoder_flops(recipe: Recipe, channels: int, patches: int, masked: int = 0) -> float:
    """Forward pass of the encoder over `patches` embedded patches, `masked` mask tokens and the
    class token."""
    m = recipe.model
    embed = 2 * patches * m.patch_size**2 * channels * m.encoder_width
    tokens = patches + masked + m.class_token
    return embed + m.encoder_depth * block_flops(tokens, m.encoder_width, m.mlp_ratio)


def prediction_width(recipe: Recipe, channels: int) -> int:
    """Numbers the decoder predicts for a patch: pixels, PCA coefficients or a score per code."""
    if recipe.pretrain.target == "pca":
        return recipe.pca_components(channels)
    if recipe.pretrain.target == "dvae_token":
        dalle_codes = 8192
        return dalle_codes if recipe.tokenizer.source == "dalle" else recipe.tokenizer.codes
    return recipe.model.patch_size**2 * channels


def pretrain_flops(recipe: Recipe, channels: int) -> float:
    """Forward pass of one pre-training image: encoder on the kept patches (and mask tokens, where
    it sees them), decoder on all. A tokeniser's own cost is not in it."""
    m = recipe.model
    masked = (recipe.patches - recipe.kept_patches) if m.encoder_mask_tokens else 0
    seen = recipe.kept_patches + masked + m.class_token
    handover = 2 * seen * m.encoder_width * m.decoder_width
    tokens = recipe.patches + m.class_token
    decoder = m.decoder_depth * block_flops(tokens, m.decoder_width, m.mlp_ratio)
    predict = 2 * recipe.patches * m.decoder_width * prediction_width(recipe, channels)
    encoder = encoder_flops(recipe, channels, recipe.kept_patches, masked)
    return encoder + handover + decoder + predict


def activation_bytes(recipe: Recipe) -> float:
    """What one image of pre-training keeps for the backward pass, in float32, roughly.

    Per token and block: both norms, queries, keys and values (twice: as projected and by head),
    attention's output, the MLP's hidden layer before and after its non-linearity; and the scores.
    """
    m = recipe.model
    masked = (recipe.patches - recipe.kept_patches) if m.encoder_mask_tokens else 0
    seen = recipe.kept_patches + masked + m.class_token
    encoder = m.encoder_depth * block_floats(seen, m.encoder_width, m.encoder_heads, m.mlp_ratio)
    tokens = recipe.patches + m.class_token
    decoder = m.decoder_depth * block_floats(tokens, m.decoder_width, m.decoder_heads, m.mlp_ratio)
    return 4 * (encoder + decoder)


def block_floats(tokens: int, width: int, heads: int, mlp_ratio: float) -> float:
    """Numbers that one Transformer block keeps of a sequence."""
    return tokens * width * (12 + 2 * mlp_ratio) + heads * tokens**2


def training_flops(forward_flops: float) -> float:
    """Forward and backward pass."""
    return forward_flops * (1 + BACKWARD)


def parameters(recipe: Recipe, channels: int) -> int:
    """Trainable parameters of encoder and decoder."""
    m = recipe.model
    decoder = stack_parameters(m.decoder_width, m.decoder_depth, m.mlp_ratio) + m.decoder_width
    between = (m.encoder_width + 1) * m.decoder_width
    prediction = (m.decoder_width + 1) * prediction_width(recipe, channels)
    return encoder_parameters(recipe, channels) + between + decoder + prediction


def encoder_parameters(recipe: Recipe, channels: int) -> int:
    """Trainable parameters of the encoder."""
    m = recipe.model
    values = m.patch_size**2 * channels
    tokens = 1 + m.class_token + m.encoder_mask_tokens
    stack = stack_parameters(m.encoder_width, m.encoder_depth, m.mlp_ratio)
    return stack + (values + tokens) * m.encoder_width


def stack_parameters(width: int, depth: int, mlp_ratio: float) -> int:
    """Those of Transformer blocks and the norm behind them."""
    hidden = int(width * mlp_ratio)
    matrices = 4 * width * width + 2 * width * hidden
    vectors = 4 * width + hidden + width + 4 * width  # biases of qkv and projection, MLP; norms
    return depth * (matrices + vectors) + 2 * width
