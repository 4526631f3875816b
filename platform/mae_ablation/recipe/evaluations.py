"""Settings of the evaluations. Defaults are the paper's for ViT-L/16 (Tables 9, 10 and 11).

Values that depend on the model's size are in presets.py.
"""

from dataclasses import dataclass, field
from typing import Literal

from mae_ablation.recipe.checks import above, at_least, between, check, shares, warms_up

RUNTIME = {"runtime": True}
Precision = Literal["float32", "tf32", "bfloat16", "float16"]
"""of forward passes (train/precision.py)"""
RANDAUGMENT_DEVIATION = 0.5
"""of the magnitudes of single images, on their scale of 10: the paper's "9, 0.5" """
PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""of the converged linear probe, from strong to weak; scikit-learn's C is 1 / (images x penalty)"""


def added_later(default: object) -> object:
    """Field added after results existed. Left out of the hash while it has its default, so old
    results stay valid."""
    return field(default=default, metadata={"added_later": default})


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearProbe:
    """Linear classifier on the frozen encoder (paper Table 10)."""

    protocol: Literal["converged", "cached", "paper"] = "cached"
    """converged: logistic regression on features extracted once, to its one solution; cached: the
    same features, SGD for some epochs; paper: LARS, random crops, every epoch"""
    penalty: float | None = None
    """converged protocol: weight of half the squared weights beside the mean loss; null: the best
    of PENALTIES on validation"""
    labels: int | None = None
    """class-balanced training images whose labels are seen, drawn by the seed; null: all"""
    pooling: Literal["cls", "mean"] = "cls"
    """class token, or mean of the patch tokens, after the encoder's last norm; k-NN takes it too"""
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
    image_size: int | None = None
    """side in pixels if it differs from pre-training's; positions are interpolated"""
    precision: Precision = "float32"
    """in which images are encoded; the classifier is trained in float32"""
    checkpoint_every_s: float = field(default=30.0, metadata=RUNTIME)
    """seconds between checkpoints, taken after the next step; 0: after every one"""

    def __post_init__(self) -> None:
        at_least(self, 1, "epochs", "batch_size", "image_size", "labels")
        at_least(self, 0, "warmup_epochs", "weight_decay", "checkpoint_every_s")
        above(self, 0, "base_lr", "crop_min_area", "penalty")
        warms_up(self)
        check(0 <= self.momentum < 1, "momentum must lie in [0, 1)", "momentum")
        check(self.crop_min_area <= 1, "crop_min_area must be at most 1", "crop_min_area")

    @property
    def penalties(self) -> tuple[float, ...]:
        """Penalties that the converged protocol tries, from strong to weak."""
        return PENALTIES if self.penalty is None else (float(self.penalty),)


@dataclass(frozen=True, kw_only=True, slots=True)
class Knn:
    """k nearest neighbours by cosine similarity, votes weighted by exp(similarity / temperature).

    No training and nothing to tune: both values are published and the same for every level. The
    weighted vote and its temperature 0.07 are those of Wu et al. 2018 (Unsupervised Feature
    Learning via Non-Parametric Instance Discrimination); Caron et al. 2021 (DINO) report that 20
    neighbours work best.
    """

    neighbours: int = 20
    temperature: float = 0.07
    labels: int | None = None
    """class-balanced training images that may be neighbours, drawn by the seed; null: all"""

    def __post_init__(self) -> None:
        at_least(self, 1, "neighbours", "labels")
        above(self, 0, "temperature")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finetune:
    """End-to-end fine-tuning (paper Table 9; what the table leaves open as in the official code).

    `preset: paper_table9` or `repo_finetune_md` sets all of it for the model's size.
    """

    labels: int | None = None
    """class-balanced training images that are seen, drawn by the seed; null: all"""
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
    precision: Precision = "float32"
    """of forward passes; what is summed up over steps stays float32"""
    checkpoint_every_s: float = field(default=30.0, metadata=RUNTIME)
    """seconds between checkpoints, taken after the next step; 0: after every one"""

    def __post_init__(self) -> None:
        check_supervised(self)
        warms_up(self)


def check_supervised(section: Finetune) -> None:
    at_least(section, 1, "epochs", "batch_size", "image_size")
    at_least(section, 2, "labels")  # a batch is even
    at_least(section, 0, "warmup_epochs", "weight_decay", "checkpoint_every_s")
    at_least(section, 0, "mixup", "cutmix")
    check(
        section.batch_size % 2 == 0 or not (section.mixup or section.cutmix),
        f"batch_size {section.batch_size} is odd: mixup and cutmix pair the images of a batch",
        "batch_size",
    )
    above(section, 0, "base_lr", "crop_min_area", "layer_decay")
    between(section, 0, 1, "crop_min_area", "layer_decay", "random_erasing")
    between(section, 0, 10, "randaugment_magnitude")
    shares(section, "beta1", "beta2", "drop_path", "label_smoothing", "ema")


@dataclass(frozen=True, kw_only=True, slots=True)
class Partial(Finetune):
    """Fine-tuning of the last blocks only (paper Figure 9: Table 9, the best of several epochs)."""

    epochs_tried: tuple[int, ...] = (50, 100, 200)
    """each is a training of its own; the one best on validation is reported, and marked"""
    blocks: float = 1
    """last blocks tuned; 0: the linear probe; 0.5: norm2 and MLP of the last; all: everything"""

    def __post_init__(self) -> None:
        check_supervised(self)
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Scratch(Finetune):
    """Supervised training without pre-training (paper Table 11): a reference row."""

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
        check_supervised(self)
        warms_up(self)
