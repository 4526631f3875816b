"""Recipe: everything one training needs. The defaults are the paper's (Tables 8 to 11, ViT-L/16).

A recipe is plain data, checked where it is born. Fields marked `RUNTIME` say how often or where
something is done, not what: they never enter an identity (see identity.py).
"""

from dataclasses import dataclass, field
from typing import Literal

from mae_ablation.recipe.checks import above, at_least, between, check, shares, warms_up
from mae_ablation.recipe.evaluations import (
    RUNTIME,
    Finetune,
    Knn,
    LinearProbe,
    Partial,
    Precision,
    Scratch,
    added_later,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """Which images, at which size, and how many of them are kept from training."""

    name: Literal[
        "fashion_mnist",
        "cifar10",
        "cifar100",
        "stl10",
        "imagenette",
        "imagenet",
        "imagenet100",
        "image_folder",
    ] = "fashion_mnist"
    """fashion_mnist is bundled; image_folder is any train/ and val/"""
    image_size: int = 28
    """side in pixels; images of a smaller set are padded evenly with zeros"""
    train_images: int | None = None
    """class-balanced part of the training split that is used; null: all of it"""
    validation_images: int = 5000
    """class-balanced, held out of every training; whatever is selected is selected on it. Both
    parts are a draw of their own seed, the same for every seed of a study (data/draws.py)"""
    reading: Literal["cache", "stream"] = "cache"
    """cache: decoded once to image_size and kept in memory, crops are taken from that; stream:
    decoded from the files in every epoch, crops are taken from the full image"""
    folder: str | None = field(default=None, metadata=RUNTIME)
    """where the files lie; null: data/NAME"""
    download: bool = field(default=False, metadata=RUNTIME)
    """fetch the set if it is not there"""
    workers: int = field(default=4, metadata=RUNTIME)
    """processes that decode, where images are streamed"""

    def __post_init__(self) -> None:
        at_least(self, 1, "image_size", "train_images", "validation_images")
        at_least(self, 0, "workers")


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
    encoder_mask_tokens: bool = False
    """the encoder sees a learned token for every removed patch (paper Table 1c)"""
    class_token: bool = True
    """false: no class token, features are the mean of the patch tokens"""

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
    """Masked pre-training (paper Table 8; what the paper leaves open as in the official code)."""

    epochs: int = 800
    steps_per_epoch: int | None = added_later(None)
    """null: as many whole batches as there are images for; only `budget: flops` says fewer, each
    epoch then sees another part of the images"""
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
    mask_sampling: Literal["random", "block", "grid"] = "random"
    """block: BEiT's block-wise rule; grid: one patch of every 2 x 2 is kept (paper Table 1f)"""
    target: Literal["pixel", "pixel_norm", "pca", "dvae_token"] = "pixel"
    """raw pixels, pixels normalised per patch, PCA coefficients of patches, or the tokens of
    the recipe's tokenizer (paper Table 1d)"""
    pca_components: int | None = None
    """null: an eighth of the patch's values, as in the paper (96 of 768)"""
    loss_on: Literal["masked", "all"] = "masked"
    """patches whose error counts"""
    augmentation: Literal["none", "crop_fixed", "crop_random", "crop_jitter"] = "crop_random"
    """none: no random crop, no flip; the others flip at random (paper Table 1e)"""
    crop_min_area: float = 0.2
    """crop_random, crop_jitter: smallest share of the image's area"""
    precision: Precision = "float32"
    """of forward passes; what is summed up over steps stays float32"""
    checkpoint_every_s: float = field(default=30.0, metadata=RUNTIME)
    """seconds between checkpoints, taken after the next step; 0: after every one"""
    compile: bool = field(default=False, metadata=RUNTIME)
    """steps are compiled by torch, which takes a minute or two of the first one"""
    gradient_checkpointing: bool = field(default=False, metadata=RUNTIME)
    """blocks are run again in the backward pass: a third more work, a fraction of the memory"""
    reconstructions: int = field(default=8, metadata=RUNTIME)
    """pictures of fixed test images drawn along the training; 0: none"""

    def __post_init__(self) -> None:
        at_least(self, 1, "epochs", "steps_per_epoch", "batch_size", "pca_components")
        at_least(self, 0, "warmup_epochs", "weight_decay", "checkpoint_every_s", "reconstructions")
        above(self, 0, "base_lr", "crop_min_area")
        check(
            0 < self.mask_ratio < 1,
            f"mask_ratio is {self.mask_ratio}, must lie between 0 and 1 (both excluded)",
            "mask_ratio",
        )
        warms_up(self)
        shares(self, "beta1", "beta2")
        check(self.crop_min_area <= 1, "crop_min_area must be at most 1", "crop_min_area")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenizer:
    """Where the tokens of `target: dvae_token` come from.

    in_domain: a small vector-quantised autoencoder trained on the study's own training images, one
    token per patch; a stand-in, and labelled so. dalle: the encoder of the DALL-E dVAE as in the
    paper, from a file of the user's.
    """

    source: Literal["in_domain", "dalle"] = "in_domain"
    file: str | None = field(default=None, metadata=RUNTIME)
    """dalle: weights of the encoder, a plain state dict (.pt, .pth) or .safetensors"""
    sha256: str | None = None
    """dalle: hash of the file"""
    codes: int = 512
    epochs: int = 10
    batch_size: int = 256
    lr: float = 1e-3
    min_perplexity: float = 8.0
    """gate: codes in effective use, exp of their entropy, on validation images"""
    min_explained: float = 0.5
    """gate: share of the pixels' variance that the codes explain, on validation images"""

    def __post_init__(self) -> None:
        at_least(self, 1, "codes", "epochs", "batch_size", "min_perplexity")
        above(self, 0, "lr")
        between(self, 0, 1, "min_explained")
        if self.source == "dalle":
            check(self.file is not None, "source dalle needs file: PATH", "source")
            check(self.sha256 is not None, "source dalle needs sha256: HASH", "source")


def kept_of(patches: int, mask_ratio: float) -> int:
    """Patches that a ratio keeps, truncated as in the official code."""
    return int(patches * (1 - mask_ratio))


def largest_ratio(patches: int) -> float:
    """The largest ratio of four digits that keeps a patch, of two patches or more.

    Rounding of floats decides: 0.9975 keeps none of 400.
    """
    ratio = 9999
    while kept_of(patches, ratio / 10_000) < 1:
        ratio -= 1
    return ratio / 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One complete training: data, model, pre-training, evaluations."""

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    pretrain: Pretrain = field(default_factory=Pretrain)
    tokenizer: Tokenizer = field(default_factory=Tokenizer)
    linear_probe: LinearProbe = field(default_factory=LinearProbe)
    knn: Knn = field(default_factory=Knn)
    finetune: Finetune = field(default_factory=Finetune)
    partial: Partial = field(default_factory=Partial)
    scratch: Scratch = field(default_factory=Scratch)

    def __post_init__(self) -> None:
        size, patch = self.data.image_size, self.model.patch_size
        for section, side in [("data", size), *self._evaluation_sizes()]:
            check(
                side % patch == 0,
                f"image_size {side} is not divisible by patch_size {patch}",
                f"{section}.image_size",
                "model.patch_size",
            )
        check(
            self.patches > 1,
            f"patch_size {patch} makes one patch of an image of {size} px, which cannot be masked: "
            "take a smaller patch",
            "data.image_size",
            "model.patch_size",
        )
        check(
            self.kept_patches >= 1,
            f"mask_ratio {self.pretrain.mask_ratio} keeps none of the {self.patches} patches "
            f"({self.grid} x {self.grid}); the largest ratio that keeps one is "
            f"{largest_ratio(self.patches):g}",
            "pretrain.mask_ratio",
            "data.image_size",
            "model.patch_size",
        )
        self._check_grid_sampling()
        for section in ("linear_probe", "finetune", "partial", "scratch"):
            check(
                self.model.class_token or getattr(self, section).pooling != "cls",
                f"{section}.pooling cls needs a class token: take mean",
                f"{section}.pooling",
                "model.class_token",
            )
        check(
            self.partial.blocks <= self.model.encoder_depth,
            f"partial.blocks {self.partial.blocks:g} is above the {self.model.encoder_depth} "
            "blocks of the encoder",
            "partial.blocks",
            "model.encoder_depth",
        )

    def _evaluation_sizes(self) -> list[tuple[str, int]]:
        names = ("linear_probe", "finetune", "partial", "scratch")
        sizes = [(name, getattr(self, name).image_size) for name in names]
        return [(name, size) for name, size in sizes if size is not None]

    def _check_grid_sampling(self) -> None:
        if self.pretrain.mask_sampling != "grid":
            return
        check(
            self.grid % 2 == 0,
            f"grid sampling keeps one patch of every 2 x 2: impossible on {self.grid} x "
            f"{self.grid} patches, take an even grid",
            "pretrain.mask_sampling",
            "data.image_size",
            "model.patch_size",
        )
        check(
            self.kept_patches * 4 == self.patches,
            f"grid sampling keeps one patch of every 2 x 2, {self.patches // 4} of "
            f"{self.patches}: mask_ratio must be 0.75, not {self.pretrain.mask_ratio}",
            "pretrain.mask_sampling",
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

    def patches_at(self, image_size: int | None) -> int:
        """Patches per image at an evaluation's size; None: pre-training's."""
        return ((image_size or self.data.image_size) // self.model.patch_size) ** 2

    @property
    def kept_patches(self) -> int:
        """Patches that stay visible in pre-training, truncated as in the official code."""
        return kept_of(self.patches, self.pretrain.mask_ratio)

    @property
    def stand_in(self) -> bool:
        """The tokens predicted are of an in-domain tokeniser, not of the paper's."""
        tokens = self.pretrain.target == "dvae_token"
        return tokens and self.tokenizer.source == "in_domain"

    def pca_components(self, channels: int) -> int:
        """PCA coefficients of a patch: as asked for, or the paper's eighth (96 of 768 values)."""
        return self.pretrain.pca_components or round(self.model.patch_size**2 * channels / 8)
