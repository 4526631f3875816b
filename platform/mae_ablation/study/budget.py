"""Budget: what is equal between the levels of a study, epochs (the default) or FLOPs."""

from dataclasses import replace

from mae_ablation.study.cost import pretrain_flops
from mae_ablation.study.errors import UserError
from mae_ablation.study.recipe import Recipe
from mae_ablation.study.study import Study


def with_budget(study: Study, channels: int) -> Study:
    """The study with each level's epochs such that it costs as much to pre-train as the baseline.

    Epochs are whole, so the cost is equal up to half an epoch; tables show what it came to. The
    warm-up keeps its share. A study whose budget is epochs is returned as it is.

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
            replace(level, recipe=at_flops_of(level.recipe, base, channels))
            for level in factor.levels
        )
        factors.append(replace(factor, levels=levels))
    return replace(study, factors=tuple(factors))


def at_flops_of(recipe: Recipe, base: Recipe, channels: int) -> Recipe:
    """A recipe trained for as many epochs as `base`'s FLOPs buy, at least one."""
    ratio = pretrain_flops(base, channels) / pretrain_flops(recipe, channels)
    epochs = max(1, round(base.pretrain.epochs * ratio))
    warmup = base.pretrain.warmup_epochs * epochs / base.pretrain.epochs
    if epochs == recipe.pretrain.epochs:
        return recipe
    return replace(
        recipe, pretrain=replace(recipe.pretrain, epochs=epochs, warmup_epochs=round(warmup, 4))
    )
