"""Costs of a training, by arithmetic on its shapes: FLOPs per image, parameters, bytes.

Pure numbers, so that a plan needs no model. Only matrix products are counted, two FLOPs per
multiply-accumulate (the convention of the paper's Table 1c and of torch's FlopCounterMode).
"""

from typing import Any

from mae_ablation.recipe.recipe import Recipe

BACKWARD = 2  # a backward pass costs twice a forward pass
HALF_SHARE = 0.65  # of float32's activations kept by autocast: norms and sums stay float32


def block_flops(tokens: int, width: int, mlp_ratio: float) -> float:
    """Count the forward pass of one Transformer block over a sequence."""
    linear = tokens * width * width * (4 + 2 * mlp_ratio)  # qkv, projection, two MLP layers
    attention = 2 * tokens * tokens * width  # scores and weighted sum
    return 2 * (linear + attention)


def embed_flops(recipe: Recipe, channels: int, patches: int) -> float:
    """Count the forward pass of the linear map that embeds so many patches."""
    m = recipe.model
    return 2 * patches * m.patch_size**2 * channels * m.encoder_width


def encoder_flops(recipe: Recipe, channels: int, patches: int) -> float:
    """Count the forward pass of the encoder over so many patches and the class token."""
    m = recipe.model
    tokens = patches + recipe.leading_tokens
    blocks = m.encoder_depth * block_flops(tokens, m.encoder_width, m.mlp_ratio)
    return embed_flops(recipe, channels, patches) + blocks


def prediction_width(recipe: Recipe, channels: int) -> int:
    """Return the numbers that the decoder predicts for a patch."""
    return recipe.target.width(recipe.model.patch_size**2 * channels)


def pretrain_flops(recipe: Recipe, channels: int) -> float:
    """Count forward and backward pass of one pre-training image, as they are executed; the mean
    over the epochs where these keep different numbers of patches. Without a tokeniser's own."""
    target = recipe.target.flops(recipe.model.patch_size**2 * channels)

    # removed patches are not embedded, and only patches whose error counts are predicted
    def at(kept: int) -> float:
        counted = recipe.patches if recipe.pretrain.loss_on == "all" else recipe.patches - kept
        forward = _forward_flops(recipe, channels, kept, counted, kept)
        embed = embed_flops(recipe, channels, kept)
        return training_flops(forward, embed) + counted * target

    # a curriculum's epochs differ; each counts with its own number of visible patches
    counts = recipe.kept_counts
    if len(counts) == 1:
        return at(recipe.kept_patches)
    return sum(epochs * at(kept) for kept, epochs in counts.items()) / recipe.pretrain.epochs


def nominal_flops(recipe: Recipe, channels: int) -> float:
    """Count the forward pass of one pre-training image as the paper's Table 1c does: every patch
    is embedded and predicted, needed or not."""
    return _forward_flops(recipe, channels, recipe.patches, recipe.patches, recipe.kept_patches)


def _forward_flops(
    recipe: Recipe, channels: int, embedded: int, predicted: int, kept: int
) -> float:
    """Forward pass: so many patches embedded, the encoder on what it sees of the kept ones, the
    decoder on all tokens, so many patches predicted."""
    m = recipe.model
    seen, tokens = _tokens(recipe, kept)
    embed = embed_flops(recipe, channels, embedded)
    encoder = m.encoder_depth * block_flops(seen, m.encoder_width, m.mlp_ratio)
    handover = 2 * seen * m.encoder_width * m.decoder_width
    decoder = m.decoder_depth * block_flops(tokens, m.decoder_width, m.mlp_ratio)
    predict = 2 * predicted * m.decoder_width * prediction_width(recipe, channels)
    return embed + encoder + handover + decoder + predict


def _tokens(recipe: Recipe, kept: int) -> tuple[int, int]:
    """Tokens that the encoder and the decoder see in pre-training, the class token included."""
    # Table 1c: mask tokens in the encoder make it see as many tokens as the decoder
    tokens = recipe.patches + recipe.leading_tokens
    if recipe.model.encoder_mask_tokens:
        return tokens, tokens
    return kept + recipe.leading_tokens, tokens


def activation_bytes(recipe: Recipe) -> float:
    """Estimate the bytes that an image of pre-training keeps for the backward pass, in float32."""
    m = recipe.model
    seen, tokens = _tokens(recipe, max(recipe.kept_counts))
    encoder = m.encoder_depth * block_floats(seen, m.encoder_width, m.encoder_heads, m.mlp_ratio)
    decoder = m.decoder_depth * block_floats(tokens, m.decoder_width, m.decoder_heads, m.mlp_ratio)
    return 4 * (encoder + decoder)


def block_floats(tokens: int, width: int, heads: int, mlp_ratio: float) -> float:
    """Count the numbers that one Transformer block keeps of a sequence."""
    # per token: both norms, queries, keys and values (twice: as projected and by head), attention's
    # output, the MLP's hidden layer before and after its non-linearity; and the scores
    return tokens * width * (12 + 2 * mlp_ratio) + heads * tokens**2


def pretrain_memory(recipe: Recipe, channels: int) -> tuple[float, float]:
    """Estimate the bytes of pre-training on a GPU: those that are always there, those per image."""
    m, (seen, tokens) = recipe.model, _tokens(recipe, max(recipe.kept_counts))
    stacks = [
        (m.encoder_depth, seen, m.encoder_width, m.encoder_heads),
        (m.decoder_depth, tokens, m.decoder_width, m.decoder_heads),
    ]
    kept = [depth * block_floats(n, w, h, m.mlp_ratio) for depth, n, w, h in stacks]
    if recipe.pretrain.gradient_checkpointing:  # each block's input, and one block at a time
        inputs = sum(depth * n * width for depth, n, width, _ in stacks)
        kept = [inputs, max(k / depth for k, (depth, *_) in zip(kept, stacks, strict=True))]
    patches = recipe.patches * m.patch_size**2 * channels  # pixels, as patches, and predictions
    return _training_memory(parameters(recipe, channels), sum(kept) + 3 * patches, recipe.pretrain)


def classifier_memory(recipe: Recipe, settings: Any, channels: int) -> tuple[float, float]:
    """Estimate the bytes of training a whole classifier on a GPU, as `pretrain_memory` does."""
    m, patches = recipe.model, recipe.patches_at(settings.image_size)
    tokens = patches + recipe.leading_tokens
    kept = m.encoder_depth * block_floats(tokens, m.encoder_width, m.encoder_heads, m.mlp_ratio)
    pixels = patches * m.patch_size**2 * channels
    return _training_memory(encoder_parameters(recipe, channels), kept + 3 * pixels, settings)


def training_memory(recipe: Recipe, kind: str, channels: int = 3) -> tuple[float, float] | None:
    """Estimate the bytes of a phase, as `pretrain_memory` does; None: it trains no large model."""
    if kind == "pretrain":
        return pretrain_memory(recipe, channels)
    evaluation = recipe.chosen("evaluation", kind)
    known = evaluation.trains_encoder and hasattr(evaluation, "image_size")
    return classifier_memory(recipe, evaluation, channels) if known else None


def _training_memory(weights: float, floats: float, settings: Any) -> tuple[float, float]:
    """Bytes of weights, gradients and AdamW's two moments; and of an image's `floats`."""
    if settings.precision in ("bfloat16", "float16"):  # autocast holds a copy of the weights, too
        return 18.0 * weights, 4 * HALF_SHARE * floats
    return 16.0 * weights, 4.0 * floats


def training_flops(forward: float, first: float) -> float:
    """Count forward and backward pass of layers, `first` of whose forward FLOPs are the first
    layer's, of whose input no gradient is needed."""
    return (1 + BACKWARD) * forward - first


def parameters(recipe: Recipe, channels: int) -> int:
    """Count the parameters of encoder and decoder that are trained."""
    m = recipe.model
    # position tables are fixed sines and cosines: no parameters
    decoder = stack_parameters(m.decoder_width, m.decoder_depth, m.mlp_ratio)
    if not m.encoder_mask_tokens:
        decoder += m.decoder_width  # the decoder's own mask token
    between = (m.encoder_width + 1) * m.decoder_width
    prediction = (m.decoder_width + 1) * prediction_width(recipe, channels)
    return encoder_parameters(recipe, channels) + between + decoder + prediction


def encoder_parameters(recipe: Recipe, channels: int) -> int:
    """Count the encoder's trainable parameters."""
    m = recipe.model
    values = m.patch_size**2 * channels
    # biases and learned tokens are vectors of the encoder's width
    tokens = 1 + recipe.leading_tokens + m.encoder_mask_tokens
    stack = stack_parameters(m.encoder_width, m.encoder_depth, m.mlp_ratio)
    return stack + (values + tokens) * m.encoder_width


def stack_parameters(width: int, depth: int, mlp_ratio: float) -> int:
    """Count those of Transformer blocks and the norm behind them."""
    hidden = int(width * mlp_ratio)
    matrices = 4 * width * width + 2 * width * hidden
    vectors = 4 * width + hidden + width + 4 * width  # biases of qkv and projection, MLP; norms
    return depth * (matrices + vectors) + 2 * width
