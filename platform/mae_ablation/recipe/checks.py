"""Fields of a recipe and checks of their values, made where a value is born."""

from dataclasses import field, fields
from functools import lru_cache
from typing import Any, Literal, get_type_hints

RUNTIME = {"runtime": True}
"""metadata of a field that says how often or where something is done, and enters no identity"""
INSIDE = {"inside": True}
"""metadata of a field that nobody sets: it follows from others"""
PrecisionName = Literal["float32", "tf32", "bfloat16", "float16"]
"""number formats of forward passes (train/precision.py)"""
RANDAUGMENT_DEVIATION = 0.5
"""spread of single images' magnitudes, on their scale of 10: the paper's "9, 0.5" """


def added_later(default: object) -> object:
    """Field added after results existed. Left out of the hash while it has its default, so old
    results stay valid."""
    return field(default=default, metadata={"added_later": default})


def section(part: Any) -> dict[str, Any]:
    """Write a section as it enters a document: no runtime fields, numbers in their field's type."""
    hints, out = _type_hints(type(part)), {}
    for each in fields(part):
        value = getattr(part, each.name)
        if not each.metadata.get("runtime") and value != each.metadata.get("added_later", ...):
            out[each.name] = float(value) if hints[each.name] is float else value
    return out


_type_hints = lru_cache(maxsize=16)(get_type_hints)  # looked up per class, not per trial


def settings_used(part: Any, recipe: Any) -> dict[str, Any]:
    """Write an evaluation's settings, without an image size that is pre-training's, said or not."""
    # said or not, the same size is the same evaluation
    out = section(part)
    if out.get("image_size") in (None, recipe.data.image_size):
        out.pop("image_size", None)
    return out


class Invalid(ValueError):
    """Says that a value cannot be. `fields` are those involved: the last one said is to blame."""

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(message)
        self.fields = fields


def check(holds: bool, message: str, *fields: str) -> None:
    """Raise Invalid, with the fields involved, where something does not hold."""
    if not holds:
        raise Invalid(message, *fields)


def at_least(section: object, low: float, *names: str) -> None:
    """Check that fields are None, or so large."""
    for name in names:
        value = getattr(section, name)
        check(value is None or value >= low, f"{name} is {value}, must be at least {low}", name)


def above(section: object, low: float, *names: str) -> None:
    """Check that fields are None, or larger."""
    for name in names:
        value = getattr(section, name)
        check(value is None or value > low, f"{name} is {value}, must be above {low}", name)


def between(section: object, low: float, high: float, *names: str) -> None:
    """Check that fields lie in a range, both ends included."""
    for name in names:
        value = getattr(section, name)
        check(low <= value <= high, f"{name} is {value}, must lie in [{low}, {high}]", name)


def check_labels(section: Any, low: int = 1) -> None:
    """Check `labels`: None, at least `low` images, or a share. A share of 1 is made None: all."""
    labels = section.labels
    if labels == 1:
        object.__setattr__(section, "labels", None)
    elif labels is not None:
        check(
            0 < labels < 1 or (labels >= low and labels == int(labels)),
            f"labels is {labels}, must be a share above 0 and up to 1, or a whole number of images "
            f"of at least {max(low, 2)}",
            "labels",
        )


def count_labels(labels: float | None, images: int, classes: int) -> int:
    """Count the training images whose labels are seen, given as a number, a share or None (all).

    A share is at least one image of each class, and two in all.
    """
    if labels is None:
        return images
    return int(labels) if labels >= 1 else min(images, max(2, classes, round(labels * images)))


def warms_up(section: object) -> None:
    """Check that the warm-up ends before the training does."""
    warmup, epochs = section.warmup_epochs, section.epochs
    message = f"warmup_epochs {warmup:g} is not below the {epochs} epochs of the training"
    check(warmup < epochs, message, "warmup_epochs", "epochs")


def shares(section: object, *names: str) -> None:
    """Check that fields lie in [0, 1)."""
    for name in names:
        check(0 <= getattr(section, name) < 1, f"{name} must lie in [0, 1)", name)


def check_encoding(recipe: object, section: object) -> None:
    """Check that the settings of an evaluation that encodes whole images fit the model."""
    name, side, patch = section.component.section, section.image_size, recipe.model.patch_size
    check(
        side is None or side % patch == 0,
        f"image_size {side} is not divisible by patch_size {patch}",
        *(f"{name}.image_size", "model.patch_size"),
    )
    check(
        recipe.model.class_token or section.pooling != "cls",
        f"{name}.pooling cls needs a class token: take mean",
        *(f"{name}.pooling", "model.class_token"),
    )
