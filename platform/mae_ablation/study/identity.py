"""Identity of a phase: a hash of what it means, never of where or how fast it runs.

What is hashed is a document of the full resolved recipe (never the difference to the defaults),
the seed, the data's fingerprint, the identity of the phase upstream and the phase's version. Two
recipes that mean the same training have the same document: ratios that keep the same number of
patches are one, and settings that a choice leaves unused are left out.

A field added to a recipe once results exist is declared with `added_later(DEFAULT)`: while it has
its default it does not enter the document, so that older results stay valid.
"""

import hashlib
import json
from dataclasses import fields
from functools import lru_cache
from typing import Any, get_type_hints

from mae_ablation.recipe.recipe import Recipe

VERSIONS = {
    "pca": 2,
    "tokenizer": 2,
    "pretrain": 2,
    "linear_probe": 2,
    "knn": 2,
    "finetune": 2,
    "partial": 2,
    "scratch": 2,
}
"""raised when the same recipe gives another result than before"""

DIGITS = 12


def section(part: Any) -> dict[str, Any]:
    """A section as it enters a document: no runtime fields, numbers in their field's type."""
    out = {}
    for name, absent, is_float in hashed_fields(type(part)):
        value = getattr(part, name)
        if value != absent:
            out[name] = float(value) if is_float else value
    return out


@lru_cache(maxsize=16)  # types are looked up per class, not per trial
def hashed_fields(cls: type) -> tuple[tuple[str, Any, bool], ...]:
    """Of each field that enters a document: name, the value that is left out, whether a float."""
    hints = get_type_hints(cls)
    return tuple(
        (field.name, field.metadata.get("added_later", ...), hints[field.name] is float)
        for field in fields(cls)
        if not field.metadata.get("runtime")
    )


def identity(document: dict[str, Any]) -> str:
    """Twelve hexadecimal digits; the same on every machine and Python."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def data_document(recipe: Recipe, fingerprint: str) -> dict[str, Any]:
    return {**section(recipe.data), "fingerprint": fingerprint}


def pca_document(recipe: Recipe, fingerprint: str) -> dict[str, Any]:
    """Document of the principal components of training patches: no seed, all seeds share them."""
    return {
        "phase": "pca",
        "version": VERSIONS["pca"],
        "data": data_document(recipe, fingerprint),
        "patch_size": recipe.model.patch_size,
    }


def tokenizer_document(recipe: Recipe, fingerprint: str) -> dict[str, Any]:
    """Document of a tokeniser: trained on the study's images, or the user's DALL-E encoder.

    It has one seed of its own, so that all seeds of a study predict the same tokens.
    """
    tokenizer = section(recipe.tokenizer)
    document: dict[str, Any] = {"phase": "tokenizer", "version": VERSIONS["tokenizer"]}
    if recipe.tokenizer.source == "dalle":
        return {**document, "tokenizer": {k: tokenizer[k] for k in ("source", "sha256")}}
    for gate in ("min_perplexity", "min_explained", "sha256"):
        del tokenizer[gate]  # whether it may be used, not what it is
    return {
        **document,
        "data": data_document(recipe, fingerprint),
        "patch_size": recipe.model.patch_size,
        "tokenizer": tokenizer,
    }


def pretrain_document(
    recipe: Recipe,
    seed: int,
    fingerprint: str,
    upstream: str | None = None,
    timed: bool = False,
) -> dict[str, Any]:
    """Document of a pre-training. `upstream`: identity of its PCA or tokeniser, if it has one;
    `timed`: it is run for its hours, and shared with no study that is not about hours."""
    pretrain = section(recipe.pretrain)
    del pretrain["mask_ratio"]
    used = {
        "crop_min_area": recipe.pretrain.augmentation in ("crop_random", "crop_jitter"),
        "pca_components": recipe.pretrain.target == "pca",
    }
    for name, in_use in used.items():
        if not in_use:
            del pretrain[name]
    document = {
        "phase": "pretrain",
        "version": VERSIONS["pretrain"],
        "seed": seed,
        "data": data_document(recipe, fingerprint),
        "model": section(recipe.model),
        "pretrain": {**pretrain, "kept_patches": recipe.kept_patches},
    }
    document |= {"upstream": upstream} if upstream else {}
    return document | ({"timed": True} if timed else {})


def evaluation_document(
    kind: str, recipe: Recipe, seed: int, fingerprint: str, source: str, upstream: str | None
) -> dict[str, Any]:
    """Document of an evaluation on a pre-trained encoder (`upstream` is its identity), on a
    randomly initialised one ("random", "scratch": the encoder's shape matters, the decoder's does
    not) or on "pixels" (no model at all)."""
    document = {
        "phase": kind,
        "version": VERSIONS[kind],
        "seed": seed,
        "data": data_document(recipe, fingerprint),
        kind: evaluation_section(kind, recipe, source),
        "encoder": source,
    }
    if source in ("random", "scratch"):
        model = section(recipe.model).items()
        pretraining_only = ("decoder", "encoder_mask_tokens")
        document["model"] = {k: v for k, v in model if not k.startswith(pretraining_only)}
    if source == "pretrain":
        document["upstream"] = upstream
    return document


def evaluation_section(kind: str, recipe: Recipe, source: str) -> dict[str, Any]:
    """The settings of an evaluation that matter to it."""
    out = section(getattr(recipe, kind))
    if kind == "linear_probe" and recipe.linear_probe.protocol == "converged":
        out["penalties"] = list(recipe.linear_probe.penalties)
    if kind == "linear_probe":
        out = {name: value for name, value in out.items() if name not in unused_of(recipe)}
    if kind == "linear_probe" and source == "pixels":
        del out["pooling"], out["precision"]
    if kind == "knn":
        features = evaluation_section("linear_probe", recipe, source)
        out |= {
            key: features[key] for key in ("pooling", "image_size", "precision") if key in features
        }
    if out.get("image_size") in (None, recipe.data.image_size):
        out.pop("image_size", None)  # said or not, it is the same size
    if kind == "partial":
        del out["epochs_tried"]
    return out


BY_GRADIENT_STEPS = ("epochs", "warmup_epochs", "batch_size", "base_lr", "weight_decay", "momentum")


def unused_of(recipe: Recipe) -> tuple[str, ...]:
    """Fields that the linear probe's protocol has no use for; its penalties are listed instead."""
    protocol = recipe.linear_probe.protocol
    if protocol == "converged":
        return (*BY_GRADIENT_STEPS, "crop_min_area", "penalty")
    return ("crop_min_area", "penalty") if protocol == "cached" else ("penalty",)
