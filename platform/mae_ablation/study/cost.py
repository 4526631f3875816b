"""What a training costs, by arithmetic on its shapes: FLOPs per image, parameters, bytes.

Pure numbers, so that a plan needs no model. Only matrix products are counted, two FLOPs per
multiply-accumulate (the convention of the paper's Table 1c and of torch's FlopCounterMode).
"""

from mae_ablation.study.recipe import Model, Recipe

BACKWARD = 2  # a backward pass costs twice a forward pass


def block_flops(tokens: int, width: int, mlp_ratio: float) -> float:
    """Forward pass of one Transformer block over a sequence."""
    linear = tokens * width * width * (4 + 2 * mlp_ratio)  # qkv, projection, two MLP layers
    attention = 2 * tokens * tokens * width  # scores and weighted sum
    return 2 * (linear + attention)


def encoder_flops(recipe: Recipe, channels: int, patches: int) -> float:
    """Forward pass of the encoder over `patches` patches and the class token."""
    m = recipe.model
    embed = 2 * patches * m.patch_size**2 * channels * m.encoder_width
    return embed + m.encoder_depth * block_flops(patches + 1, m.encoder_width, m.mlp_ratio)


def pretrain_flops(recipe: Recipe, channels: int) -> float:
    """Forward pass of one pre-training image: encoder on the kept patches, decoder on all."""
    m = recipe.model
    handover = 2 * (recipe.kept_patches + 1) * m.encoder_width * m.decoder_width
    decoder = m.decoder_depth * block_flops(recipe.patches + 1, m.decoder_width, m.mlp_ratio)
    predict = 2 * recipe.patches * m.decoder_width * m.patch_size**2 * channels
    return encoder_flops(recipe, channels, recipe.kept_patches) + handover + decoder + predict


def training_flops(forward_flops: float) -> float:
    """Forward and backward pass."""
    return forward_flops * (1 + BACKWARD)


def parameters(model: Model, channels: int) -> int:
    """Trainable parameters of encoder and decoder."""
    values = model.patch_size**2 * channels

    def stack(width: int, depth: int) -> int:
        hidden = int(width * model.mlp_ratio)
        matrices = 4 * width * width + 2 * width * hidden
        vectors = 4 * width + hidden + width + 4 * width  # biases of qkv and projection, MLP; norms
        return depth * (matrices + vectors) + 2 * width  # and the last norm

    encoder = stack(model.encoder_width, model.encoder_depth) + (values + 2) * model.encoder_width
    decoder = stack(model.decoder_width, model.decoder_depth) + model.decoder_width
    between = (model.encoder_width + 1) * model.decoder_width
    return encoder + between + decoder + (model.decoder_width + 1) * values
