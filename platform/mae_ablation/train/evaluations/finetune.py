"""End-to-end fine-tuning (paper Table 9; what the table leaves open as in the official code).

`preset: paper_table9` or `repo_finetune_md` sets all of it for the model's size. The loop is in
train/supervised.py.
"""

from dataclasses import field
from typing import Literal

from mae_ablation.recipe.checks import (
    RANDAUGMENT_DEVIATION,
    RUNTIME,
    PrecisionName,
    above,
    at_least,
    between,
    check,
    check_encoding,
    check_labels,
    shares,
    warms_up,
)
from mae_ablation.recipe.presets import difference, model_size
from mae_ablation.recipe.words import format_rate, format_schedule
from mae_ablation.registry import register


@register.evaluation("finetune", version=2)
class Finetune:
    """The encoder and a new head, trained end to end."""

    order = 30
    title, head, place_in_table_1 = "Fine-tuning", "ft", 1
    paper_noise = 0.2
    rows = ("pretrain",)
    trains_encoder = has_curve = by_epoch = True
    presets = ("paper_table9", "repo_finetune_md")

    labels: int | float | None = None
    """class-balanced training images that are seen, drawn by the seed: a number, or a share such as
    0.01; null or 1: all"""
    epochs: int = 50
    warmup_epochs: float = 5
    batch_size: int = 1024
    base_lr: float = 1e-3
    """learning rate per 256 images: lr = base_lr x batch_size / 256"""
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.999
    layer_decay: float = 0.75
    """a layer's learning rate over that of the layer above it; 1: all the same"""
    drop_path: float = 0.1
    """rate of the last block; grows linearly from 0 over the blocks"""
    mixup: float = 0.8
    cutmix: float = 1.0
    label_smoothing: float = 0.1
    randaugment_magnitude: int = 9
    """0: no RandAugment"""
    random_erasing: float = 0.0
    """probability"""
    crop_min_area: float = 0.08
    """smallest share of the image's area in a training crop"""
    ema: float = 0.0
    """decay of the averaged weights that are evaluated; 0: the weights themselves"""
    pooling: Literal["cls", "mean"] = "mean"
    """mean: of the patch tokens, through a new norm; cls: class token, pre-trained norm"""
    image_size: int | None = None
    """side in pixels if it differs from pre-training's; positions are interpolated"""
    precision: PrecisionName = "float32"
    """number format of forward passes; what is summed up over steps stays float32"""
    checkpoint_every_s: float = field(default=30.0, metadata=RUNTIME)
    """seconds between checkpoints, taken after the next step; 0: after every one"""

    def __post_init__(self) -> None:
        self.check_supervised()
        warms_up(self)

    def check_supervised(self) -> None:
        at_least(self, 1, "epochs", "batch_size", "image_size")
        check_labels(self, 2)  # a batch is even
        at_least(self, 0, "warmup_epochs", "weight_decay", "checkpoint_every_s")
        at_least(self, 0, "mixup", "cutmix")
        check(
            self.batch_size % 2 == 0 or not (self.mixup or self.cutmix),
            f"batch_size {self.batch_size} is odd: mixup and cutmix pair the images of a batch",
            "batch_size",
        )
        above(self, 0, "base_lr", "crop_min_area", "layer_decay")
        between(self, 0, 1, "crop_min_area", "layer_decay", "random_erasing")
        between(self, 0, 10, "randaugment_magnitude")
        shares(self, "beta1", "beta2", "drop_path", "label_smoothing", "ema")

    def check(self, recipe) -> None:
        check_encoding(recipe, self)

    def check_data(self, recipe, channels: int) -> None:
        message = f"RandAugment needs 1 or 3 channels, the images have {channels}"
        remedy = f"set {self.component.section}.randaugment_magnitude=0"
        check(not self.randaugment_magnitude or channels in (1, 3), f"{message}: {remedy}")

    def describe(self, recipe) -> str:
        return f"{self.epochs}ep"

    def settings_line(self, recipe) -> str:
        augment = f"RandAugment ({self.randaugment_magnitude}, {RANDAUGMENT_DEVIATION:g})"
        return (
            f"AdamW, {format_rate(self.base_lr, self.batch_size)}, weight decay "
            f"{self.weight_decay:g}, betas {self.beta1:g} and {self.beta2:g}, layer decay "
            f"{self.layer_decay:g}, {self.length()}, {augment}, label smoothing "
            f"{self.label_smoothing:g}, mixup {self.mixup:g}, cutmix {self.cutmix:g}, drop path "
            f"{self.drop_path:g}, random erasing {self.random_erasing:g}, EMA {self.ema:g}"
            f"{self.on_labels()}"
        )

    def length(self) -> str:
        return format_schedule(self)

    def preset_notes(self, recipe) -> list[str]:
        """List how the official code's fine-tuning differs from the paper's Table 9."""
        if len(self.presets) < 2:
            return []
        size = model_size(recipe.model.encoder_width, recipe.model.encoder_depth)
        one, other = self.presets
        differ = difference(one, other, size)
        values = ", ".join(f"{name} {a:g} -> {b:g}" for name, (a, b) in differ.items())
        return [f"{self.component.name}.preset: {one} -> {other} (ViT-{size}): {values}"]

    def method(self, recipe) -> str:
        epochs = f"{self.epochs} epoch{'s' * (self.epochs != 1)}"
        return f"fine-tuning end to end, after its last epoch ({epochs}, {self.listed()})"

    def listed(self) -> str:
        """Lists the settings for a table's text; RandAugment's where it is not the paper's."""
        magnitude = self.randaugment_magnitude
        augment = f"RandAugment {magnitude}, cut at 9.9 of 10" if magnitude else "no RandAugment"
        return (
            f"layer decay {self.layer_decay:g}, drop path {self.drop_path:g}, mixup "
            f"{self.mixup:g}, cutmix {self.cutmix:g}, {augment}{self.on_labels()}"
        )

    def work(self, recipe, data, source: str, encoded: bool):
        from mae_ablation.study.speed import training_work

        return training_work(self, recipe, data)

    def evaluate(self, job) -> dict:
        from mae_ablation.train.supervised import supervised

        return supervised(job, self.component.name)
