"""The model against the contract of the published checkpoints, and the traps of other ports."""

import math

import pytest
import torch
from conftest import small_model as small
from torch.nn import functional as F

from mae_ablation.mae.fitted import FittedTarget
from mae_ablation.mae.masking import random_shuffle
from mae_ablation.mae.model import MaskedAutoencoder
from mae_ablation.mae.patches import normalise_patches, patchify, unpatchify
from mae_ablation.mae.positions import position_table
from mae_ablation.recipe.cost import parameters
from mae_ablation.recipe.recipe import Data, Pretrain, Recipe
from mae_ablation.registry import find_component
from mae_ablation.train.optim import generator


def expected_keys(depth: int, d: int, patch: int) -> dict[str, tuple]:
    """State dict of a published checkpoint, in order, written down from its description."""

    def block(prefix, width):
        yield from {
            f"{prefix}.norm1.weight": (width,),
            f"{prefix}.norm1.bias": (width,),
            f"{prefix}.attn.qkv.weight": (3 * width, width),
            f"{prefix}.attn.qkv.bias": (3 * width,),
            f"{prefix}.attn.proj.weight": (width, width),
            f"{prefix}.attn.proj.bias": (width,),
            f"{prefix}.norm2.weight": (width,),
            f"{prefix}.norm2.bias": (width,),
            f"{prefix}.mlp.fc1.weight": (4 * width, width),
            f"{prefix}.mlp.fc1.bias": (4 * width,),
            f"{prefix}.mlp.fc2.weight": (width, 4 * width),
            f"{prefix}.mlp.fc2.bias": (width,),
        }.items()

    tokens, values = (224 // patch) ** 2 + 1, patch * patch * 3
    keys = {
        "cls_token": (1, 1, d),
        "pos_embed": (1, tokens, d),
        "mask_token": (1, 1, 512),
        "decoder_pos_embed": (1, tokens, 512),
        "patch_embed.proj.weight": (d, 3, patch, patch),
        "patch_embed.proj.bias": (d,),
    }
    for i in range(depth):
        keys |= dict(block(f"blocks.{i}", d))
    keys |= {"norm.weight": (d,), "norm.bias": (d,)}
    keys |= {"decoder_embed.weight": (512, d), "decoder_embed.bias": (512,)}
    for i in range(8):
        keys |= dict(block(f"decoder_blocks.{i}", 512))
    keys |= {"decoder_norm.weight": (512,), "decoder_norm.bias": (512,)}
    return keys | {"decoder_pred.weight": (values, 512), "decoder_pred.bias": (values,)}


@pytest.mark.parametrize(
    ("shape", "keys", "elements", "trainable"),
    [
        ((12, 768, 16), 254, 111_907_840, 111_655_680),
        ((24, 1024, 16), 398, 329_541_888, 329_239_296),
        ((32, 1280, 14), 494, 657_074_508, 656_613_964),
    ],
    ids=["ViT-B/16", "ViT-L/16", "ViT-H/14"],
)
def test_state_dict_is_that_of_the_published_checkpoint(shape, keys, elements, trainable):
    depth, width, patch_size = shape
    with torch.device("meta"):
        model = MaskedAutoencoder(
            image_size=224,
            patch_size=patch_size,
            channels=3,
            encoder_width=width,
            encoder_depth=depth,
            encoder_heads=12 if width == 768 else 16,
            decoder_width=512,
            decoder_depth=8,
            decoder_heads=16,
        )
    state = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert list(state.items()) == list(expected_keys(*shape).items())
    assert len(state) == keys
    assert sum(v.numel() for v in model.state_dict().values()) == elements
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable


def test_parameters_are_counted_without_building_the_model():
    large = Recipe(data=Data(image_size=224))
    assert parameters(large, channels=3) == 329_239_296


def test_position_layout_column_first_sines_before_cosines():
    table = position_table(16, (3, 5))
    assert table.shape == (1, 16, 16)
    assert table[0, 0].abs().max() == 0  # class token
    row, column = 2, 3
    ours = table[0, 1 + row * 5 + column]
    w = [1 / 10000 ** (i / 4) for i in range(4)]
    expected = [math.sin(column * f) for f in w] + [math.cos(column * f) for f in w]
    expected += [math.sin(row * f) for f in w] + [math.cos(row * f) for f in w]
    assert torch.allclose(ours, torch.tensor(expected), atol=1e-7)


def test_patches_run_row_column_channel():
    images = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6).float()
    patches = patchify(images, 2)
    assert patches.shape == (2, 6, 12)
    by_hand = [images[1, c, 2 + y, 4 + x] for y in range(2) for x in range(2) for c in range(3)]
    assert patches[1, 5].tolist() == by_hand
    assert torch.equal(unpatchify(patches, 2, (2, 3)), images)


def test_patch_embedding_is_the_checkpoint_s_convolution():
    model = small()
    images = torch.randn(2, 3, 8, 12)
    conv = F.conv2d(images, model.patch_embed.proj.weight, model.patch_embed.proj.bias, stride=2)
    ours = model.patch_embed(patchify(images, 2))
    assert torch.allclose(ours, conv.flatten(2).transpose(1, 2), atol=1e-6)


def test_normalised_target_uses_the_unbiased_variance_of_the_whole_patch():
    patches = torch.randn(2, 3, 12) * 5
    one = patches[1, 2].tolist()
    mean = sum(one) / 12
    variance = sum((v - mean) ** 2 for v in one) / 11
    expected = [(v - mean) / math.sqrt(variance + 1e-6) for v in one]
    assert torch.allclose(normalise_patches(patches)[1, 2], torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("side", "ratio", "kept"), [(14, 0.75, 49), (14, 0.8, 39), (14, 0.9, 19), (10, 0.9, 9)]
)
def test_kept_count_is_truncated_as_in_the_published_code(side, ratio, kept):
    recipe = Recipe(data=Data(image_size=side * 16), pretrain=Pretrain(mask_ratio=ratio))
    assert recipe.kept_patches == kept


@pytest.mark.parametrize("target", ["pixel", "pixel_norm"])
def test_loss_counts_removed_patches_only(target):
    goal = FittedTarget(find_component("target", target).cls(), 2, 3)
    model = small(target=goal)
    images = torch.randn(4, 3, 8, 12)
    shuffle = random_shuffle(4, 24, generator(1, "mask"))
    loss, out = model(images, shuffle, keep=6), model.reconstruct(images, shuffle, keep=6)
    patches = patchify(images, 2)
    goal = normalise_patches(patches) if target == "pixel_norm" else patches
    errors = [
        (out.predictions[n, p] - goal[n, p]).square().mean()
        for n in range(4)
        for p in shuffle[n, 6:].tolist()
    ]
    assert torch.allclose(loss, torch.stack(errors).mean(), atol=1e-6)


def test_what_is_removed_does_not_reach_the_predictions():
    model = small().eval()
    images = torch.randn(1, 3, 8, 12)
    shuffle = torch.arange(24)[None]  # keeps patches 0 to 5, the upper row
    before = model.reconstruct(images, shuffle, keep=6).predictions
    images[:, :, 2:] += 100
    assert torch.equal(model.reconstruct(images, shuffle, keep=6).predictions, before)


def test_kept_patches_come_back_to_their_places():
    """A shuffled sequence gives the same predictions as the same patches in order."""
    model = small().eval()
    images = torch.randn(1, 3, 8, 12)
    kept, rest = [3, 7, 11, 20], [p for p in range(24) if p not in (3, 7, 11, 20)]
    one = model.reconstruct(images, torch.tensor([kept + rest]), keep=4)
    two = model.reconstruct(images, torch.tensor([kept[::-1] + rest[::-1]]), keep=4)
    assert torch.allclose(one.predictions, two.predictions, atol=1e-5)
    assert torch.equal(one.mask, two.mask)


def test_predictions_differ_by_position_at_initialisation():
    model = small().eval()
    out = model.reconstruct(torch.zeros(1, 3, 8, 12), torch.arange(24)[None], keep=6)
    assert out.predictions[0].std(dim=0).mean() > 1e-3


def test_initial_weights():
    model = small(encoder_width=64, patch_size=4, image_size=16)
    qkv = model.blocks[0].attn.qkv.weight
    bound = math.sqrt(6 / (4 * 64))
    assert bound * 0.95 < qkv.abs().max() <= bound
    bias = model.patch_embed.proj.bias
    assert 0 < bias.abs().max() <= (4 * 4 * 3) ** -0.5
    assert model.decoder_pred.bias.abs().max() == 0
    assert 0.01 < model.cls_token.std() < 0.03
    assert model.norm.eps == model.decoder_norm.eps == model.blocks[0].norm1.eps == 1e-6


def test_models_that_differ_in_the_decoder_start_from_the_same_encoder():
    one, two = small(decoder_depth=1), small(decoder_depth=3)
    assert torch.equal(one.blocks[1].mlp.fc2.weight, two.blocks[1].mlp.fc2.weight)
    assert torch.equal(one.cls_token, two.cls_token)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_features_see_the_whole_image(pooling):
    model = small().eval()
    images = torch.randn(2, 3, 8, 12)
    tokens = model.encode(patchify(images, 2))
    expected = tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(dim=1)
    assert torch.equal(model.features(images, pooling), expected)


@pytest.mark.parametrize("changes", [{}, {"encoder_mask_tokens": True, "decoder_depth": 2}])
def test_blocks_that_are_run_again_give_the_same_gradients(changes):
    images, shuffle = torch.randn(4, 3, 8, 12), random_shuffle(4, 24, generator(1, "mask"))
    found = []
    for again in (False, True):
        model = small(gradient_checkpointing=again, **changes)
        loss = model(images, shuffle, keep=6)
        loss.backward()
        found.append([loss, *(p.grad for p in model.parameters() if p.requires_grad)])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
    assert all(part is not None for part in found[0])
