"""Encoders of the visible patches: the paper's, which model.py has itself."""

from mae_ablation.registry import register


@register.encoder("vit", version=1)
class Vit:
    """A plain Vision Transformer on the visible patches (paper, section 3)."""

    takes_mask_tokens = True
