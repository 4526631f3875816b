"""The paper's encoder, which mae/model.py has itself, under the names of published checkpoints."""

from mae_ablation.registry import register


@register.encoder("vit", version=1)
class Vit:
    """A plain Vision Transformer on the visible patches (paper, section 3)."""

    takes_mask_tokens = True
