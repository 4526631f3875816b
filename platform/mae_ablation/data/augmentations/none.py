"""Images as they are (paper, Table 1e)."""

from mae_ablation.registry import register


@register.augmentation("none", version=1)
class Plain:
    """No random crop, no flip."""

    order = 10
    as_evaluated = True
