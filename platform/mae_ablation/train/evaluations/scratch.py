"""Supervised training without pre-training (paper Table 11): a reference row."""

from mae_ablation.recipe.checks import warms_up
from mae_ablation.registry import register
from mae_ablation.train.evaluations.finetune import Finetune


@register.evaluation("scratch", version=2)
class Scratch(Finetune):
    """The same classifier without any pre-training: a row under fine-tuning."""

    order = 50
    rows = ("scratch",)
    column = "finetune"
    has_curve = False
    presets = ("paper_table11",)

    epochs: int = 200
    warmup_epochs: float = 20
    batch_size: int = 4096
    base_lr: float = 1e-4
    weight_decay: float = 0.3
    beta2: float = 0.95
    layer_decay: float = 1.0
    drop_path: float = 0.2
    ema: float = 0.9999

    def __post_init__(self) -> None:
        self.check_supervised()
        warms_up(self)

    def method(self, recipe) -> str:
        epochs = f"{self.epochs} epoch{'s' * (self.epochs != 1)}"
        return f"*from scratch*: no pre-training ({epochs}, {self.listed()}, EMA {self.ema:g})"
