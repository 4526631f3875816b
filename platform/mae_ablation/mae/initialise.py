"""Initial weights (paper, appendix A.1; values as in the published code's behaviour)."""

import torch
from torch import nn

from mae_ablation.mae.model import MaskedAutoencoder


def initialise(model: MaskedAutoencoder, encoder: torch.Generator, decoder: torch.Generator):
    """Draw all weights: xavier-uniform matrices, zero biases, normal(0, 0.02) tokens.

    Encoder and decoder draw from generators of their own: models that differ in the decoder only
    start from the same encoder, which keeps a comparison paired. So do models with and without a
    class token, or mask tokens in the encoder.
    """
    # what a class token would have drawn is drawn without one, too
    own = model.encoder is None  # another encoder has drawn its own
    if own and model.cls_token is None:
        torch.empty(model.pos_embed.shape[-1]).normal_(generator=encoder)
    # in the order of the state dict, which is part of what a seed means
    for name, parameter in model.named_parameters():
        skipped = name.endswith("pos_embed") or name == "encoder_mask_token"
        if not skipped and not name.startswith("encoder."):
            ours = decoder if name.startswith(("decoder", "mask_token")) else encoder
            _draw(name, parameter, ours)
    if model.encoder_mask_token is not None:  # last, so that nothing else is drawn differently
        _draw("encoder_mask_token", model.encoder_mask_token, decoder)
    if not own:
        return model
    fan_in = model.patch_embed.proj.weight[0].numel()
    with torch.no_grad():  # the one bias that keeps the framework's default
        model.patch_embed.proj.bias.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=encoder)
    return model


def _draw(name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
    if name.endswith("_token"):
        nn.init.normal_(parameter, std=0.02, generator=generator)
    elif parameter.ndim > 1:  # qkv is one matrix: its fan-out is 3 D
        nn.init.xavier_uniform_(parameter.data.flatten(1), generator=generator)
    elif "norm" in name and name.endswith("weight"):
        nn.init.ones_(parameter)
    else:
        nn.init.zeros_(parameter)
