"""Budget: levels of a study train for equal epochs (the default) or equal FLOPs."""

import math
from collections.abc import Callable
from dataclasses import replace

from mae_ablation.errors import UserError
from mae_ablation.recipe.cost import pretrain_flops
from mae_ablation.recipe.recipe import Data, Recipe
from mae_ablation.study.study import Study
from mae_ablation.study.trial import DataFacts, pretraining_images, training_images

EQUAL = 0.02  # share by which FLOPs may differ; plan and table say what is beyond
NEAR = 0.01  # share by which they differ at most where the number of steps allows a choice


def with_budget(study: Study, facts_of: Callable[[Data], DataFacts]) -> Study:
    """Return the study; if it asks for that, with levels that cost as much as the baseline."""
    if study.budget == "epochs":
        return study
    base = study.baseline
    factors = []
    for factor in study.factors:
        # epochs are what the budget changes: as a factor they would be undone
        if any(level.recipe.pretrain.epochs != base.pretrain.epochs for level in factor.levels):
            message = f"budget flops sets the epochs, and so does {factor.name}: one of them"
            raise UserError(message, str(study.path))
        recipes = [_at_flops_of(level.recipe, base, facts_of) for level in factor.levels]
        pairs = zip(factor.levels, recipes, strict=True)
        levels = tuple(replace(level, recipe=recipe) for level, recipe in pairs)
        factors.append(replace(factor, levels=levels))
    return replace(study, factors=tuple(factors))


def _at_flops_of(recipe: Recipe, base: Recipe, facts_of: Callable[[Data], DataFacts]) -> Recipe:
    """Return a recipe trained for as many steps as `base`'s FLOPs buy, at least one."""
    facts, settings = facts_of(recipe.data), recipe.pretrain
    flops_per_step = settings.batch_size * pretrain_flops(recipe, facts.channels)
    wanted = _total_flops(base, facts_of(base.data)) / flops_per_step
    whole = training_images(recipe, facts) // settings.batch_size  # steps there are images for

    # All epochs of a training are of one length, which may be half of what the images allow: whole
    # epochs if these are near enough, else the first near one of shorter epochs, or the best.
    first = max(1, math.ceil(wanted / whole))
    lengths = [(max(1, round(wanted / whole)), whole)]
    lengths += [(n, max(1, min(whole, round(wanted / n)))) for n in range(first, 2 * first + 1)]

    def off(length: tuple[int, int]) -> float:
        apart = abs(length[0] * length[1] / wanted - 1)
        return apart if apart > NEAR else 0.0

    epochs, steps = min(lengths, key=off)
    if (epochs, steps) == (settings.epochs, whole):
        return recipe
    warmup = round(settings.warmup_epochs * epochs / settings.epochs, 4)  # keeps its share
    changed = {"epochs": epochs, "warmup_epochs": warmup}
    changed |= {"steps_per_epoch": steps} if steps < whole else {}
    return replace(recipe, pretrain=replace(settings, **changed))


def _total_flops(recipe: Recipe, facts: DataFacts) -> float:
    return pretraining_images(recipe, facts) * pretrain_flops(recipe, facts.channels)


def training_ratio(recipe: Recipe, base: Recipe, facts: DataFacts) -> float:
    """Return the FLOPs of a recipe's whole pre-training over those of another's."""
    return _total_flops(recipe, facts) / _total_flops(base, facts)
