"""Budget: what is equal between the levels of a study, epochs (the default) or FLOPs."""

import math
from collections.abc import Callable
from dataclasses import replace

from mae_ablation.errors import UserError
from mae_ablation.recipe.cost import pretrain_flops
from mae_ablation.recipe.recipe import Data, Recipe
from mae_ablation.study.study import Study
from mae_ablation.study.trial import DataFacts, pretraining_images, training_images

EQUAL = 0.02
"""share by which FLOPs may differ and still be called equal; plan and table say what is beyond"""
NEAR = 0.01
"""share by which they differ at most where the number of steps allows a choice"""


def with_budget(study: Study, facts_of: Callable[[Data], DataFacts]) -> Study:
    """Return the study with each level's steps such that it costs as much to pre-train as the
    baseline.

    The warm-up keeps its share. A study whose budget is epochs is returned as it is.

    Raises:
        UserError: the epochs themselves are the factor.
    """
    if study.budget == "epochs":
        return study
    base = study.baseline
    factors = []
    for factor in study.factors:
        if any(level.recipe.pretrain.epochs != base.pretrain.epochs for level in factor.levels):
            message = f"budget flops sets the epochs, and so does {factor.name}: one of them"
            raise UserError(message, str(study.path))
        levels = tuple(
            replace(level, recipe=at_flops_of(level.recipe, base, facts_of))
            for level in factor.levels
        )
        factors.append(replace(factor, levels=levels))
    return replace(study, factors=tuple(factors))


def at_flops_of(recipe: Recipe, base: Recipe, facts_of: Callable[[Data], DataFacts]) -> Recipe:
    """Return a recipe trained for as many steps as `base`'s FLOPs buy, at least one.

    All epochs of a training are of one length. So that the steps come out right, each may be
    shorter than the images would allow, down to half.
    """
    facts, settings = facts_of(recipe.data), recipe.pretrain
    flops_per_step = settings.batch_size * pretrain_flops(recipe, facts.channels)
    wanted = total_flops(base, facts_of(base.data)) / flops_per_step
    whole = training_images(recipe, facts) // settings.batch_size  # steps there are images for

    # whole epochs if these are near enough, else the first near one of shorter epochs, or the best
    first = max(1, math.ceil(wanted / whole))
    lengths = [(max(1, round(wanted / whole)), whole)]
    lengths += [(n, max(1, min(whole, round(wanted / n)))) for n in range(first, 2 * first + 1)]

    def off(length: tuple[int, int]) -> float:
        apart = abs(length[0] * length[1] / wanted - 1)
        return apart if apart > NEAR else 0.0

    epochs, steps = min(lengths, key=off)
    if (epochs, steps) == (settings.epochs, whole):
        return recipe
    warmup = settings.warmup_epochs * epochs / settings.epochs
    changed = {"epochs": epochs, "warmup_epochs": round(warmup, 4)}
    changed |= {"steps_per_epoch": steps} if steps < whole else {}
    return replace(recipe, pretrain=replace(settings, **changed))


def total_flops(recipe: Recipe, facts: DataFacts) -> float:
    """FLOPs of a whole pre-training, in the unit of `pretrain_flops`."""
    return pretraining_images(recipe, facts) * pretrain_flops(recipe, facts.channels)


def training_ratio(recipe: Recipe, base: Recipe, facts: DataFacts) -> float:
    """FLOPs of a recipe's whole pre-training over those of another's."""
    return total_flops(recipe, facts) / total_flops(base, facts)
