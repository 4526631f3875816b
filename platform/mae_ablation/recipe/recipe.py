"""Recipe: everything one training needs. The defaults are the paper's (Tables 8 to 11, ViT-L/16).

A recipe is plain data, checked where it is born. Fields marked `RUNTIME` say how often or where
something is done, not what: they never enter an identity (see identity.py).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, Literal

from mae_ablation import registry
from mae_ablation.recipe.checks import (
    INSIDE,
    RUNTIME,
    Invalid,
    PrecisionName,
    above,
    at_least,
    check,
    shares,
    warms_up,
)


def component(kind: str, default: str) -> Any:
    """Field that names a registered component of a kind."""
    return field(default=default, metadata={"component": kind})


@lru_cache(maxsize=4096)
def settings_of(cls: type, changed: tuple[tuple[str, Any], ...]) -> Any:
    """Settings of a component that differ from its defaults in these fields."""
    return cls(**dict(changed))


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """Chooses images, their size, and how many of them are kept from training."""

    name: str = component("dataset", "fashion_mnist")
    """the default is bundled"""
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
    """place of the files: a folder, or what `data prepare` made, also at an address such as s3://;
    null: data/NAME"""
    cache_dir: str | None = field(default=None, metadata=RUNTIME)
    """folder of a node's own disk, to which prepared images come once for all of its lanes"""
    cache_gb: float = field(default=100.0, metadata=RUNTIME)
    """most that may lie there, in GB of 10^9 bytes; shards of other sets go first"""
    download: bool = field(default=False, metadata=RUNTIME)
    """fetch the set if it is not there"""
    workers: int = field(default=4, metadata=RUNTIME)
    """processes that decode, where images are streamed"""
    settings: tuple[tuple[str, Any], ...] = field(default=(), metadata={**RUNTIME, **INSIDE})
    """the set's own, as far as its section of the recipe differs from the defaults"""

    @property
    def set(self) -> registry.DataSet:
        """The data set, with its settings."""
        return settings_of(registry.find_component("dataset", self.name).cls, self.settings)

    def __post_init__(self) -> None:
        at_least(self, 1, "image_size", "train_images", "validation_images")
        at_least(self, 0, "workers")
        above(self, 0, "cache_gb")
        check(
            self.cache_dir is None or self.cache_dir.startswith(("/", "~")),
            f"cache_dir {self.cache_dir} is no whole path: give one that every node has, such as "
            "/nvme/images",
            "cache_dir",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Shape of encoder and decoder (paper: ViT-L/16 and 8 decoder blocks of width 512)."""

    encoder: str = field(default="vit", metadata={"added_later": "vit", "component": "encoder"})
    """network that encodes the patches that are seen"""
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
            # heads share the width evenly, positions need two sines and two cosines
            width, heads = getattr(self, f"{part}_width"), getattr(self, f"{part}_heads")
            message = f"{part}_width {width} is not divisible by {part}_heads {heads}"
            check(width % heads == 0, message, f"{part}_width", f"{part}_heads")
            check(
                width % 4 == 0,
                f"{part}_width {width} is not divisible by 4 (sine and cosine, rows and columns)",
                f"{part}_width",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrain:
    """Masked pre-training (paper Table 8; what the paper leaves open as in the official code)."""

    epochs: int = 800
    steps_per_epoch: int | None = field(default=None, metadata={"added_later": None, **INSIDE})
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
    mask_sampling: str = component("sampler", "random")
    """sampler of the patches that are removed (paper Table 1f)"""
    target: str = component("target", "pixel")
    """prediction target of a patch (paper Table 1d)"""
    loss_on: Literal["masked", "all"] = "masked"
    """patches whose error counts"""
    augmentation: str = component("augmentation", "crop_random")
    """changes of training images (paper Table 1e)"""
    crop_min_area: float = 0.2
    """crops of random size: smallest share of the image's area"""
    precision: PrecisionName = "float32"
    """number format of forward passes; what is summed up over steps stays float32"""
    checkpoint_every_s: float = field(default=30.0, metadata=RUNTIME)
    """seconds between checkpoints, taken after the next step; 0: after every one"""
    compile: bool = field(default=False, metadata=RUNTIME)
    """steps are compiled by torch, which takes a minute or two of the first one"""
    gradient_checkpointing: bool = field(default=False, metadata=RUNTIME)
    """blocks are run again in the backward pass: a third more work, a fraction of the memory"""
    reconstructions: int = field(default=8, metadata=RUNTIME)
    """pictures of fixed test images drawn along the training; 0: none"""

    def __post_init__(self) -> None:
        at_least(self, 1, "epochs", "steps_per_epoch", "batch_size")
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


def largest_ratio(patches: int, sampler: registry.Sampler) -> float:
    """Find the largest ratio of four digits that keeps a patch, of two patches or more."""
    # tried one by one, for rounding of floats decides: 0.9975 keeps none of 400
    ratios = (n / 10_000 for n in range(9999, 0, -1))
    return next((ratio for ratio in ratios if sampler.kept(patches, ratio) >= 1), 0.0)


@dataclass(frozen=True, kw_only=True, slots=True, init=False)
class Recipe:
    """One complete training: data, model, pre-training, and a section for each component that has
    settings, such as `recipe.linear_probe`."""

    data: Data
    model: Model
    pretrain: Pretrain
    parts: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]
    """settings of components that differ from their defaults, by section; plain values, which other
    processes can read before they have a user's components"""

    def __init__(
        self,
        *,
        data: Data | None = None,
        model: Model | None = None,
        pretrain: Pretrain | None = None,
        parts: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = (),
        **sections: Any,
    ) -> None:
        # values that equal the defaults are left out, so that equal recipes compare equal
        # only what differs from a component's defaults is kept, so equal recipes compare equal
        changed = dict(parts)
        for name, settings in sections.items():
            if name not in registry.sections():
                raise TypeError(f"a recipe has no section {name}")
            values = ((each, getattr(settings, each.name)) for each in fields(settings))
            changed[name] = tuple((f.name, value) for f, value in values if value != f.default)

        # the data set's settings stand in `data`, too, since data travel without the recipe
        data, parts = data or Data(), {name: each for name, each in changed.items() if each}
        section = registry.find_component("dataset", data.name).section
        for name, value in (
            ("data", replace(data, settings=parts.get(section, ()))),
            ("model", model or Model()),
            ("pretrain", pretrain or Pretrain()),
            ("parts", tuple(sorted(parts.items()))),
        ):
            object.__setattr__(self, name, value)
        self._check()

    def __getattr__(self, section: str) -> Any:
        """Settings of a component."""
        cls = None if section.startswith("_") else registry.sections().get(section)
        if cls is None:
            raise AttributeError(f"a recipe has no section {section}")
        return settings_of(cls, dict(self.parts).get(section, ()))

    def chosen(self, kind: str, name: str) -> Any:
        """Return a component with the settings that the recipe has for it."""
        found = registry.find_component(kind, name)
        return settings_of(found.cls, dict(self.parts).get(found.section, ()))

    @property
    def target(self) -> registry.Target:
        return self.chosen("target", self.pretrain.target)

    @property
    def sampler(self) -> registry.Sampler:
        return self.chosen("sampler", self.pretrain.mask_sampling)

    @property
    def augmentation(self) -> registry.Augmentation:
        return self.chosen("augmentation", self.pretrain.augmentation)

    @property
    def evaluations(self) -> tuple[registry.Evaluation, ...]:
        """All evaluations that there are, with the settings that the recipe has for them."""
        known = registry.list_components("evaluation")
        return tuple(self.chosen("evaluation", each.name) for each in known)

    @property
    def components(self) -> tuple[Any, ...]:
        """All that pre-training is made of."""
        return self.data.set, self.target, self.sampler, self.augmentation, self.encoder

    @property
    def encoder(self) -> registry.Encoder:
        return self.chosen("encoder", self.model.encoder)

    @property
    def leading_tokens(self) -> int:
        """Tokens of the encoder before those of patches: the class token, registers."""
        return self.model.class_token + self.encoder.extra_tokens

    def _check(self) -> None:
        # patches: a whole number of them, and more than one
        size, patch = self.data.image_size, self.model.patch_size
        check(
            size % patch == 0,
            f"image_size {size} is not divisible by patch_size {patch}",
            *("data.image_size", "model.patch_size"),
        )
        check(
            self.patches > 1,
            f"patch_size {patch} makes one patch of an image of {size} px, which cannot be masked: "
            "take a smaller patch",
            *("data.image_size", "model.patch_size"),
        )

        # something visible and something removed
        self._check_kept()
        check(
            self.encoder.takes_mask_tokens or not self.model.encoder_mask_tokens,
            f"encoder {self.model.encoder} takes no mask tokens: it drops removed patches",
            *("model.encoder", "model.encoder_mask_tokens"),
        )

        # what each component has to say of the whole
        # a component knows what it needs of the rest of the recipe
        for part in (*self.components, *self.evaluations):
            part.check(self)

    def _check_kept(self) -> None:
        """Some patches stay visible, and some are removed, in every epoch."""
        blamed = ("pretrain.mask_ratio", "data.image_size", "model.patch_size")
        counts, most = self.kept_counts, self.patches - 1
        if min(counts) < 1 and not registry.wanted(self.sampler.kept)[2:]:  # the ratio decides
            raise Invalid(
                f"mask_ratio {self.pretrain.mask_ratio} keeps none of the {self.patches} "
                f"patches ({self.grid} x {self.grid}); the largest ratio that keeps one is "
                f"{largest_ratio(self.patches, self.sampler):g}",
                *blamed,
            )
        name = self.pretrain.mask_sampling
        for kept in counts:
            said = f"{name} keeps {kept} of {self.patches} patches in an epoch: keep 1 to {most}"
            check(1 <= kept <= most, said, *blamed)

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.data.image_size // self.model.patch_size

    @property
    def patches(self) -> int:
        """Patches per image."""
        return self.grid**2

    def patches_at(self, image_size: int | None) -> int:
        """Count the patches per image at an evaluation's size; None: pre-training's."""
        return ((image_size or self.data.image_size) // self.model.patch_size) ** 2

    def kept_at(self, epoch: int) -> int:
        """Count the patches that stay visible in an epoch of pre-training, counted from 0."""
        epochs = {"epoch": epoch, "epochs": self.pretrain.epochs}
        asked = self.patches, self.pretrain.mask_ratio
        return int(registry.ask(self.sampler.kept, *asked, **epochs))

    @property
    def kept_patches(self) -> int:
        """Patches that stay visible in the last epoch of pre-training."""
        return self.kept_at(self.pretrain.epochs - 1)

    @property
    def kept_counts(self) -> Mapping[int, int]:
        """Epochs of pre-training for each number of patches that stay visible."""
        # only a curriculum is asked for every epoch
        # most samplers keep the same in all epochs
        if not registry.wanted(self.sampler.kept)[2:]:
            return {self.kept_patches: self.pretrain.epochs}
        return Counter(self.kept_at(epoch) for epoch in range(self.pretrain.epochs))
