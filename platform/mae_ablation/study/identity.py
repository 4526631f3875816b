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
from typing import Any

from mae_ablation import registry
from mae_ablation.recipe.checks import section, settings_used
from mae_ablation.recipe.recipe import Recipe

PRETRAIN = 2
"""version of pre-training, raised when the same recipe gives another result than before; those of
components stand where these are registered"""


def version_of(kind: str) -> int | None:
    """Return the version of the code behind a kind of phase; None: there is no such kind."""
    found = {each.name: each.version for each in registry.list_components("evaluation")}
    found |= {each: cls.component.version for each, cls in registry.preparations().items()}
    return PRETRAIN if kind == "pretrain" else found.get(kind)


def identity(document: dict[str, Any]) -> str:
    """Return twelve hexadecimal digits, the same on every machine and Python."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def data_document(recipe: Recipe, fingerprint: str) -> dict[str, Any]:
    return {**section(recipe.data), **_own_part(recipe.data.set), "fingerprint": fingerprint}


def model_document(recipe: Recipe) -> dict[str, Any]:
    return {**section(recipe.model), **_own_part(recipe.encoder)}


def _own_part(part: Any) -> dict[str, Any]:
    """Return settings and code of a data set or an encoder that is a user's, or has settings."""
    component = part.component
    own = {component.section: section(part)} if component.settings else {}
    return {**own, **({"components": component.meaning} if component.meaning else {})}


def component_document(part: Any, recipe: Recipe, channels: int) -> dict[str, Any]:
    """Return the settings of a component as they enter a document."""
    own = part.document(recipe, channels)
    if own is not None:
        return own
    return {part.component.section: section(part)} if part.component.settings else {}


def preparation_document(recipe: Recipe, fingerprint: str) -> dict[str, Any]:
    """Return the document of a target's preparation: no seed, all seeds of a study share it."""
    target = recipe.target
    component = target.component
    return {
        "phase": target.needs,
        "version": component.version,
        **({"source": component.plugin.hash} if component.plugin else {}),
        **target.preparation(recipe, data_document(recipe, fingerprint)),
    }


def pretrain_document(
    recipe: Recipe,
    seed: int,
    fingerprint: str,
    channels: int,
    upstream: str | None = None,
    timed: bool = False,
) -> dict[str, Any]:
    """Return the document of a pre-training.

    Args:
        upstream: identity of what its target needs, if it needs something.
        timed: it is run for its hours, and shared with no study that is not about hours.
    """
    # of the ratio only the number of patches counts, of the crop only what the augmentation uses
    pretrain, kept = section(recipe.pretrain), recipe.kept_counts
    del pretrain["mask_ratio"]
    if "crop_min_area" not in recipe.augmentation.uses:
        del pretrain["crop_min_area"]

    # the components' settings, and the code of those that are a user's
    code: dict[str, Any] = {}
    for part in (recipe.target, recipe.sampler, recipe.augmentation):
        pretrain |= component_document(part, recipe, channels)
        # the version of what a target needs stands in that phase's own document
        code |= {} if part is recipe.target and upstream else part.component.meaning
    document = {
        "phase": "pretrain",
        "version": PRETRAIN,
        "seed": seed,
        "data": data_document(recipe, fingerprint),
        "model": model_document(recipe),
        "pretrain": {
            **pretrain,
            "kept_patches": next(iter(kept)) if len(kept) == 1 else [*map(list, kept.items())],
        },
    }
    # keys that were added later stand only where they say something: older results stay valid
    document |= {"components": code} if code else {}
    document |= {"upstream": upstream} if upstream else {}
    return document | ({"timed": True} if timed else {})


def evaluation_document(
    kind: str, recipe: Recipe, seed: int, fingerprint: str, source: str, upstream: str | None
) -> dict[str, Any]:
    """Return the document of an evaluation.

    Args:
        source: "pretrain", "random" or "scratch" (an initialised encoder), or "pixels" (no model).
        upstream: identity of the pre-training.
    """
    # our own code is in the version alone, a user's in the hash of its source, too
    evaluation = recipe.chosen("evaluation", kind)
    code = evaluation.component.plugin
    document = {
        "phase": kind,
        "version": evaluation.component.version,
        **({"components": evaluation.component.meaning} if code else {}),
        "seed": seed,
        "data": data_document(recipe, fingerprint),
        kind: evaluation_section(evaluation, recipe, source),
        "encoder": source,
    }
    if source not in ("pretrain", "pixels"):  # the decoder plays no part
        model = model_document(recipe).items()
        pretraining_only = ("decoder", "encoder_mask_tokens")
        document["model"] = {k: v for k, v in model if not k.startswith(pretraining_only)}
    if source == "pretrain":
        document["upstream"] = upstream
    return document


def evaluation_section(evaluation: Any, recipe: Recipe, source: str) -> dict[str, Any]:
    """Return the settings of an evaluation that matter to it."""
    own = evaluation.document(recipe, source)
    return settings_used(evaluation, recipe) if own is None else own
