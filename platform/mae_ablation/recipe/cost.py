"""What a training costs, by arithmetic on its shapes: FLOPs per image, parameters, bytes.

Pure numbers, so that a plan needs no model. Only matrix products are counted, two FLOPs per
multiply-accumulate (the convention of the paper's Table 1c and of torch's FlopCounterMode).
"""

from mae_ablation.recipe.recipe import Recipe

BACKWARD = 2  # a backward pass costs twice a forward pass


def block_flops(tokens: int, width: int, mlp_ratio: float) -> float:
    """Forward pass of one Transformer block over a sequence."""
    linear = tokens * width * width * (4 + 2 * mlp_ratio)  # qkv, projection, two MLP layers
    attention = 2 * tokens * tokens * width  # scores and weighted sum
    return 2 * (linear + attention)


def embed_flops(recipe: Recipe, channels: int, patches: int) -> float:
    """Forward pass of the linear map that embeds `patches` patches."""
    m = recipe.model
    return 2 * patches * m.patch_size**2 * channels * m.encoder_width


def encoder_flops(recipe: Recipe, channels: int, patches: int) -> float:
    """Forward pass of the encoder over `patches` patches and the class token."""
    m = recipe.model
    tokens = patches + m.class_token
    blocks = m.encoder_depth * block_flops(tokens, m.encoder_width, m.mlp_ratio)
    return embed_flops(recipe, channels, patches) + blocks


def prediction_width(recipe: Recipe, channels: int) -> int:
    """Numbers the decoder predicts for a patch: pixels, PCA coefficients or a score per code."""
    if recipe.pretrain.target == "pca":
        return recipe.pca_components(channels)
    if recipe.pretrain.target == "dvae_token":
        dalle_codes = 8192
        return dalle_codes if recipe.tokenizer.source == "dalle" else recipe.tokenizer.codes
    return recipe.model.patch_size**2 * channels


def pretrain_flops(recipe: Recipe, channels: int) -> float:
    """Forward and backward pass of one pre-training image, as they are executed.

    Removed patches are not embedded, and only patches whose error counts are predicted. What a
    tokeniser costs is not in it.
    """
    removed = recipe.patches - recipe.kept_patches
    counted = recipe.patches if recipe.pretrain.loss_on == "all" else removed
    forward = _forward_flops(recipe, channels, recipe.kept_patches, counted)
    embed = embed_flops(recipe, channels, recipe.kept_patches)
    target = 0  # coefficients are one more matrix product, without a gradient
    if recipe.pretrain.target == "pca":
        values = recipe.model.patch_size**2 * channels
        target = 2 * counted * values * recipe.pca_components(channels)
    return training_flops(forward, embed) + target


def nominal_flops(recipe: Recipe, channels: int) -> float:
    """Forward pass of one pre-training image as the paper's Table 1c counts it: every patch is
    embedded and predicted, whether it is needed or not."""
    return _forward_flops(recipe, channels, recipe.patches, recipe.patches)


def _forward_flops(recipe: Recipe, channels: int, embedded: int, predicted: int) -> float:
    """Forward pass: `embedded` patches, encoder on what it sees, decoder on all tokens,
    `predicted` patches."""
    m = recipe.model
    seen, tokens = _tokens(recipe)
    embed = embed_flops(recipe, channels, embedded)
    encoder = m.encoder_depth * block_flops(seen, m.encoder_width, m.mlp_ratio)
    handover = 2 * seen * m.encoder_width * m.decoder_width
    decoder = m.decoder_depth * block_flops(tokens, m.decoder_width, m.mlp_ratio)
    predict = 2 * predicted * m.decoder_width * prediction_width(recipe, channels)
    return embed + encoder + handover + decoder + predict


def _tokens(recipe: Recipe) -> tuple[int, int]:
    """Tokens that the encoder and the decoder see in pre-training, the class token included."""
    tokens = recipe.patches + recipe.model.class_token
    if recipe.model.encoder_mask_tokens:
        return tokens, tokens
    return recipe.kept_patches + recipe.model.class_token, tokens


def activation_bytes(recipe: Recipe) -> float:
    """What one image of pre-training keeps for the backward pass, in float32, roughly.

    Per token and block: both norms, queries, keys and values (twice: as projected and by head),
    attention's output, the MLP's hidden layer before and after its non-linearity; and the scores.
    """
    m = recipe.model
    seen, tokens = _tokens(recipe)
    encoder = m.encoder_depth * block_floats(seen, m.encoder_width, m.encoder_heads, m.mlp_ratio)
    decoder = m.decoder_depth * block_floats(tokens, m.decoder_width, m.decoder_heads, m.mlp_ratio)
    return 4 * (encoder + decoder)


def block_floats(tokens: int, width: int, heads: int, mlp_ratio: float) -> float:
    """Numbers that one Transformer block keeps of a sequence."""
    return tokens * width * (12 + 2 * mlp_ratio) + heads * tokens**2


def training_flops(forward: float, first: float) -> float:
    """Forward and backward pass of layers, `first` of whose forward FLOPs are the first layer's: no
    gradient of its input is needed."""
    return (1 + BACKWARD) * forward - first


def parameters(recipe: Recipe, channels: int) -> int:
    """Parameters of encoder and decoder that are trained."""
    m = recipe.model
    decoder = stack_parameters(m.decoder_width, m.decoder_depth, m.mlp_ratio)
    if not m.encoder_mask_tokens:
        decoder += m.decoder_width  # the decoder's own mask token
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
