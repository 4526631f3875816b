"""Identity of a phase: a hash of what it means, never of where or how fast it runs.

What is hashed is a document of the full resolved recipe (never the difference to the defaults),
the seed, the data's fingerprint, the identity of the phase upstream and the phase's version. Two
recipes that mean the same training have the same document: ratios that keep the same number of
patches are one, and settings that a choice leaves unused are left out.

A field added to a recipe later carries `metadata={"absent_means": VALUE}`, the value under which
older results stay valid: with that value the field does not enter the document.
"""

import hashlib
import json
from dataclasses import fields
from typing import Any, get_type_hints

from mae_ablation.study.recipe import Recipe

VERSIONS = {"pretrain": 1, "linear_probe": 1}
"""raised when the same recipe gives another result than before"""

DIGITS = 12


def section(part: Any) -> dict[str, Any]:
    """A section as it enters a document: no runtime fields, numbers in their field's type."""
    hints = get_type_hints(type(part))
    out = {}
    for field in fields(part):
        value = getattr(part, field.name)
        absent = field.metadata.get("absent_means", ...)
        if not field.metadata.get("runtime") and value != absent:
            out[field.name] = float(value) if hints[field.name] is float else value
    return out


def identity(document: dict[str, Any]) -> str:
    """Twelve hexadecimal digits; the same on every machine and Python."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def pretrain_document(recipe: Recipe, seed: int, fingerprint: str) -> dict[str, Any]:
    pretrain = section(recipe.pretrain)
    del pretrain["mask_ratio"]
    if recipe.pretrain.augmentation != "crop_random":
        del pretrain["crop_min_area"]
    return {
        "phase": "pretrain",
        "version": VERSIONS["pretrain"],
        "seed": seed,
        "data": {**section(recipe.data), "fingerprint": fingerprint},
        "model": section(recipe.model),
        "pretrain": {**pretrain, "kept_patches": recipe.kept_patches},
    }


def probe_document(
    recipe: Recipe, seed: int, fingerprint: str, source: str, upstream: str | None
) -> dict[str, Any]:
    """Document of a linear probe on a pre-trained encoder (`upstream` is its identity), on a
    randomly initialised one ("random": the encoder's shape matters, the decoder's does not) or on
    "pixels" (no model at all)."""
    probe = section(recipe.linear_probe)
    if recipe.linear_probe.protocol == "cached":
        del probe["crop_min_area"]
    if source == "pixels":
        del probe["pooling"]
    document = {
        "phase": "linear_probe",
        "version": VERSIONS["linear_probe"],
        "seed": seed,
        "data": {**section(recipe.data), "fingerprint": fingerprint},
        "linear_probe": probe,
        "encoder": source,
    }
    if source == "random":
        model = section(recipe.model).items()
        document["model"] = {name: v for name, v in model if not name.startswith("decoder")}
    if source == "pretrain":
        document["upstream"] = upstream
    return document
