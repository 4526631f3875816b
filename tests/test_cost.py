"""FLOPs and parameters, by arithmetic, are those that torch counts on the training path."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mae_ablation.mae.fitted import FittedTarget
from mae_ablation.mae.masking import random_shuffle
from mae_ablation.recipe.cost import (
    embed_flops,
    encoder_flops,
    nominal_flops,
    parameters,
    pretrain_flops,
    training_flops,
)
from mae_ablation.train.models import build_model, load_target
from mae_ablation.train.optim import generator

VARIANTS = {
    "three quarters masked": {},
    "a tenth masked": {"mask_ratio": 0.1},
    "mask tokens in the encoder": {"encoder_mask_tokens": True},
    "no class token": {"class_token": False},
    "the error of all patches": {"loss_on": "all"},
    "mask tokens there, the error of all patches": {"encoder_mask_tokens": True, "loss_on": "all"},
    "a decoder of three blocks": {"decoder_depth": 3},
    "coefficients": {"target": "pca"},
    "coefficients of all patches": {"target": "pca", "loss_on": "all"},
    "tokens": {"target": "dvae_token"},
    "normalised pixels": {"target": "pixel_norm"},
}


def changed(recipe, fields):
    """The recipe with these fields, whichever of model and pre-training has them."""
    sections = {"model": {}, "pretrain": {}}
    for name, value in fields.items():
        part = "model" if hasattr(recipe.model, name) else "pretrain"
        sections[part][name] = value
    if fields.get("class_token") is False:
        sections["linear_probe"] = {"pooling": "mean"}
    parts = {name: dataclasses.replace(getattr(recipe, name), **v) for name, v in sections.items()}
    return dataclasses.replace(recipe, **parts)


def model_of(recipe, channels):
    """Its model as it is trained; PCA and tokeniser are blank."""
    if recipe.pretrain.target == "pca":
        values = recipe.model.patch_size**2 * channels
        width = recipe.target.width(values)
        fitted = {"mean": torch.zeros(values), "components": torch.eye(values, width)}
        target = FittedTarget(recipe.target, recipe.model.patch_size, channels, fitted)
    elif recipe.pretrain.target == "dvae_token":
        target = FittedTarget(recipe.target, recipe.model.patch_size, channels)
    else:
        target, _ = load_target(recipe, None, SimpleNamespace(channels=channels), "cpu")
    return build_model(recipe, channels, 0, target)


def counted(run):
    """FLOPs of the matrix products of `run`, those of attention spelled out."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_training_executes_the_flops_that_a_plan_counts(toy, fields, channels):
    recipe = changed(toy, fields)
    model, side = model_of(recipe, channels), recipe.data.image_size
    shuffle = random_shuffle(2, recipe.patches, generator(0, "mask"))
    tokens = torch.zeros_like(shuffle) if recipe.pretrain.target == "dvae_token" else None
    images = torch.randn(2, channels, side, side)
    executed = counted(lambda: model(images, shuffle, recipe.kept_patches, tokens).backward())
    assert executed == 2 * pretrain_flops(recipe, channels)


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS.keys())
def test_parameters_are_those_that_a_loss_reaches(toy, fields):
    recipe = changed(toy, fields)
    model = model_of(recipe, 1)
    shuffle = random_shuffle(2, recipe.patches, generator(0, "mask"))
    tokens = torch.zeros_like(shuffle) if recipe.pretrain.target == "dvae_token" else None
    model(torch.randn(2, 1, 30, 30), shuffle, recipe.kept_patches, tokens).backward()
    assert sum(p.numel() for p in model.parameters() if p.grad is not None) == parameters(recipe, 1)


def test_encoding_whole_images(toy):
    model, images = model_of(toy, 1), torch.randn(1, 1, 30, 30)
    forward = encoder_flops(toy, 1, 36)
    assert counted(lambda: model.features(images, "cls")) == forward
    executed = counted(lambda: model.features(images, "cls").sum().backward())
    assert executed == training_flops(forward, embed_flops(toy, 1, 36))


def test_the_paper_counts_patches_that_training_leaves_out(toy):
    """Every patch embedded and predicted: at 75 % masked four times as many embedded, and a third
    more predicted, than are needed."""
    of_patch = 2 * 25 * (16 * 27 + 8 * 9)  # embedded: width 16; predicted: width 8
    executed = (pretrain_flops(toy, 1) + embed_flops(toy, 1, 9)) / 3
    assert nominal_flops(toy, 1) == executed + of_patch
