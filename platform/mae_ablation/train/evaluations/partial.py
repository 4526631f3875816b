"""Fine-tuning of the last blocks only (paper Figure 9: Table 9, the best of several epochs)."""

from dataclasses import field, replace

from mae_ablation.recipe.checks import INSIDE, check, settings_used
from mae_ablation.registry import register
from mae_ablation.train.evaluations.finetune import Finetune


@register.evaluation("partial", version=2)
class Partial(Finetune):
    """The last blocks and a new head, trained; the best of several epochs on validation."""

    order = 40
    title, head, place_in_table_1 = "Partial fine-tuning", "partial", 3
    paper_columns = ("finetune", "linear_probe")
    has_curve = by_epoch = False

    epochs: int = field(default=50, metadata=INSIDE)
    """each of `epochs_tried` in turn"""
    epochs_tried: tuple[int, ...] = (50, 100, 200)
    """each is a training of its own; the one best on validation is reported, and marked"""
    blocks: float = 1
    """last blocks tuned; 0: the linear probe; 0.5: norm2 and MLP of the last; all: everything"""

    def __post_init__(self) -> None:
        self.check_supervised()
        # each of `epochs_tried` takes the place of `epochs`, so the warm-up is checked against them
        tried = self.epochs_tried
        good = tried and min(tried) > self.warmup_epochs and len(set(tried)) == len(tried)
        check(
            bool(good),
            f"epochs_tried {list(tried)} must be different, and above warmup_epochs "
            f"{self.warmup_epochs:g}",
            "warmup_epochs",
            "epochs_tried",
        )
        check(
            self.blocks == 0.5 or (self.blocks >= 0 and self.blocks == int(self.blocks)),
            f"blocks is {self.blocks:g}, must be 0, 0.5 or a whole number",
            "blocks",
        )

    def check(self, recipe) -> None:
        super().check(recipe)
        check(
            self.blocks <= recipe.model.encoder_depth,
            f"partial.blocks {self.blocks:g} is above the {recipe.model.encoder_depth} "
            "blocks of the encoder",
            "partial.blocks",
            "model.encoder_depth",
        )

    def document(self, recipe, source: str) -> dict:
        used = settings_used(self, recipe)
        del used["epochs_tried"]
        return used

    def describe(self, recipe) -> str:
        return f"{self.blocks:g}blocks-{self.epochs}ep"

    def length(self) -> str:
        tried = ", ".join(map(str, self.epochs_tried))
        return f"best on validation of {tried} epochs ({self.warmup_epochs:g} warm-up, cosine)"

    def preset_notes(self, recipe) -> list[str]:
        return []

    def method(self, recipe) -> str:
        tried = ", ".join(map(str, self.epochs_tried))
        return (
            f"the last blocks fine-tuned ({self.listed()}). Of "
            f"{tried} epochs, each a training of its own, the one best on validation is taken, as "
            f"the paper's protocol has it; 0 blocks is the linear probe"
        )

    def phases(self, recipe) -> list:
        """A training for each of the epochs tried. Tuning no block at all is linear probing."""
        if self.blocks == 0:
            return [("linear_probe", recipe)]
        tried = (replace(self, epochs=epochs) for epochs in self.epochs_tried)
        return [(self.component.name, replace(recipe, partial=each)) for each in tried]

    def prefix(self) -> str:
        return f"{self.component.name}_{self.epochs}ep"
