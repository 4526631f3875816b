"""Recipe: everything one training needs. The defaults are the paper's (Tables 8 and 10, ViT-L/16).

A recipe is plain data, checked where it is born. Fields marked `RUNTIME` say how often or where
something is done, not what: they never enter an identity (see identity.py).
"""

from dataclasses import dataclass, field
from typing import Literal

RUNTIME = {"runtime": True}


class Invalid(ValueError):
    """A value that cannot be. `fields` names those involved: the last one said is to blame."""

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(message)
        self.fields = fields


def check(holds: bool, message: str, *fields: str) -> None:
    if not holds:
        raise Invalid(message, *fields)


def at_least(section: object, low: float, *names: str) -> None:
    for name in names:
        value = getattr(section, name)
        check(value is None or value >= low, f"{name} is {value}, must be at least {low}", name)


def above(section: object, low: float, *names: str) -> None:
    for name in names:
        value = getattr(section, name)
        check(value > low, f"{name} is {value}, must be above {low}", name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """Which images, at which size, and how many of them are kept from training."""

    name: Literal["fashion_mnist"] = "fashion_mnist"
    image_size: int = 28
    """side in pixels; smaller images are padded evenly with zeros"""
    train_images: int | None = None
    """class-balanced part of the training split that is used; null: all of it"""
    validation_images: int = 1000
    """class-balanced, held out of every training; whatever is selected is selected on it"""

    def __post_init__(self) -> None:
        at_least(self, 1, "image_size", "train_images", "validation_images")


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Shape of encoder and decoder (paper: ViT-L/16 and 8 decoder blocks of width 512)."""

    patch_size: int = 16
    encoder_width: int = 1024
    encoder_depth: int = 24
    encoder_heads: int = 16
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        at_least(self, 1, "patch_size", "encoder_width", "encoder_depth", "encoder_heads")
        at_least(self, 1, "decoder_width", "decoder_depth", "decoder_heads")
        above(self, 0, "mlp_ratio")
        for part in ("encoder", "decoder"):
            width, heads = getattr(self, f"{part}_width"), getattr(self, f"{part}_heads")
            check(
                width % heads == 0,
                f"{part}_width {width} is not divisible by {part}_heads {heads}",
                f"{part}_width",
                f"{part}_heads",
            )
            check(
                width % 4 == 0,
                f"{part}_width {width} is not divisible by 4 (sine and cosine, rows and columns)",
                f"{part}_width",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrain:
    """Masked pre-training (paper Table 8; crop scale as in the official code)."""

    epochs: int = 800
    warmup_epochs: float = 40
    batch_size: int = 4096
    """images per optimiser step over all devices"""
    base_lr: float = 1.5e-4
    """learning rate per 256 images: lr = base_lr x batch_size / 256"""
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.95
    mask_ratio: float = 0.75
    """share of the patches removed; kept = int(patches x (1 - mask_ratio))"""
    target: Literal["pixel", "pixel_norm"] = "pixel"
    """raw pixels, or pixels normalised per patch"""
    augmentation: Literal["none", "crop_fixed", "crop_random"] = "crop_random"
    """none: no crop, no flip; both crops flip at random (paper Table 1e)"""
    crop_min_area: float = 0.2
    """crop_random: smallest share of the image's area"""
    checkpoint_every_s: float = field(default=30.0, metadata=RUNTIME)
    """seconds between checkpoints, taken at the next end of an epoch"""

    def __post_init__(self) -> None:
        at_least(self, 1, "epochs", "batch_size")
        at_least(self, 0, "warmup_epochs", "weight_decay", "checkpoint_every_s")
        above(self, 0, "base_lr", "crop_min_area")
        check(
            0 < self.mask_ratio < 1,
            f"mask_ratio is {self.mask_ratio}, must lie between 0 and 1 (both excluded)",
            "mask_ratio",
        )
        for name in ("beta1", "beta2"):
            check(0 <= getattr(self, name) < 1, f"{name} must lie in [0, 1)", name)
        check(self.crop_min_area <= 1, "crop_min_area must be at most 1", "crop_min_area")


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearProbe:
    """Linear classifier on the frozen encoder (paper Table 10)."""

    protocol: Literal["cached", "paper"] = "cached"
    """cached: features extracted once, no augmentation; paper: LARS, random crops, every epoch"""
    pooling: Literal["cls", "mean"] = "cls"
    """class token, or mean of the patch tokens, after the encoder's last norm"""
    epochs: int = 90
    warmup_epochs: float = 10
    batch_size: int = 16384
    """at most the number of training images is used"""
    base_lr: float = 0.1
    """learning rate per 256 images: lr = base_lr x batch size / 256"""
    weight_decay: float = 0.0
    momentum: float = 0.9
    crop_min_area: float = 0.08
    """paper protocol: smallest share of the image's area in a training crop"""
    checkpoint_every_s: float = field(default=30.0, metadata=RUNTIME)
    """seconds between checkpoints, taken at the next end of an epoch"""

    def __post_init__(self) -> None:
        at_least(self, 1, "epochs", "batch_size")
        at_least(self, 0, "warmup_epochs", "weight_decay", "checkpoint_every_s")
        above(self, 0, "base_lr", "crop_min_area")
        check(0 <= self.momentum < 1, "momentum must lie in [0, 1)", "momentum")
        check(self.crop_min_area <= 1, "crop_min_area must be at most 1", "crop_min_area")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One complete training: data, model, pre-training, evaluations."""

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    pretrain: Pretrain = field(default_factory=Pretrain)
    linear_probe: LinearProbe = field(default_factory=LinearProbe)

    def __post_init__(self) -> None:
        size, patch = self.data.image_size, self.model.patch_size
        check(
            size % patch == 0,
            f"image_size {size} is not divisible by patch_size {patch}",
            "data.image_size",
            "model.patch_size",
        )
        check(
            self.kept_patches >= 1,
            f"mask_ratio {self.pretrain.mask_ratio} keeps none of the {self.patches} patches "
            f"({self.grid} x {self.grid}); the largest ratio that keeps one is "
            f"{int(10_000 * (1 - 1 / self.patches)) / 10_000:g}",
            "pretrain.mask_ratio",
        )

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.data.image_size // self.model.patch_size

    @property
    def patches(self) -> int:
        """Patches per image."""
        return self.grid**2

    @property
    def kept_patches(self) -> int:
        """Patches the encoder sees in pre-training, truncated as in the official code."""
        return int(self.patches * (1 - self.pretrain.mask_ratio))
