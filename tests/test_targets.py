"""Targets, mask tokens in the encoder, no class token: against computations of their own."""

from functools import partial

import pytest
import torch
from conftest import small_model
from torch.nn import functional as F

from mae_ablation.mae.fitted import FittedTarget
from mae_ablation.mae.masking import gather_patches, random_shuffle, removed_mask
from mae_ablation.mae.patches import patchify
from mae_ablation.mae.picture import hide, panels
from mae_ablation.mae.targets.dvae_token import Tokens
from mae_ablation.mae.targets.pca import PCA
from mae_ablation.mae.targets.pixels import Pixel, PixelNorm

P = 12  # values of a patch: 2 x 2 x 3
small = partial(small_model, image_size=8)


def a_batch(seed=0):
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 3, 8, 8, generator=rng)
    return images, random_shuffle(4, 16, rng)


def basis(k):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(P, generator=rng), torch.linalg.qr(torch.randn(P, P, generator=rng))[0][
        :, :k
    ]


def pca(mean, components):
    settings = PCA(components=components.shape[1])
    return FittedTarget(settings, 2, 3, {"mean": mean, "components": components})


# gradients --------------------------------------------------------------------------------------


def by_hand(name, patches, tokens, predictions):
    """Error of each patch, written down anew, patch by patch."""
    out = torch.empty(patches.shape[:2])
    mean, components = basis(5)
    for n in range(len(patches)):
        for p in range(patches.shape[1]):
            x, z = patches[n, p], predictions[n, p]
            if name == "pixel":
                out[n, p] = ((z - x) ** 2).sum() / P
            elif name == "pixel_norm":
                variance = ((x - x.mean()) ** 2).sum() / (P - 1)
                out[n, p] = ((z - (x - x.mean()) / torch.sqrt(variance + 1e-6)) ** 2).sum() / P
            elif name == "pca":
                wanted = torch.stack([(x - mean) @ components[:, i] for i in range(5)])
                out[n, p] = ((z - wanted) ** 2).sum() / 5
            else:
                out[n, p] = torch.logsumexp(z, 0) - z[tokens[n, p]]
    return out


@pytest.mark.parametrize("loss_on", ["masked", "all"])
@pytest.mark.parametrize("name", ["pixel", "pixel_norm", "pca", "token"])
def test_loss_and_gradient_of_each_target(name, loss_on):
    targets = {
        "pixel": FittedTarget(Pixel(), 2, 3),
        "pixel_norm": FittedTarget(PixelNorm(), 2, 3),
        "pca": pca(*basis(5)),
        "token": FittedTarget(Tokens(codes=7), 2, 3),
    }
    model = small(target=targets[name], loss_on=loss_on)
    images, shuffle = a_batch()
    tokens = torch.randint(7, (4, 16), generator=torch.Generator().manual_seed(3))
    given = tokens if name == "token" else None
    weight = model.decoder_pred.weight
    found = model(images, shuffle, keep=4, given=given)
    (gradient,) = torch.autograd.grad(found, weight)

    out = model.reconstruct(images, shuffle, keep=4)
    errors = by_hand(name, patchify(images, 2), tokens, out.predictions)
    counted = out.mask.bool() if loss_on == "masked" else torch.ones_like(out.mask).bool()
    loss = errors[counted].mean()
    (expected,) = torch.autograd.grad(loss, weight)
    assert torch.allclose(found, loss, atol=1e-6)
    assert torch.allclose(gradient, expected, atol=1e-6)


def test_all_components_are_the_pixel_loss():
    """A full orthonormal basis turns the space: errors are what they are in pixels."""
    mean, components = basis(P)
    target = pca(mean, components)
    patches, pixels = torch.randn(2, 5, P), torch.randn(2, 5, P)
    in_pixels = FittedTarget(Pixel(), 2, 3).error(pixels, patches)
    turned = target.error((pixels - mean) @ components, target.of(patches))
    assert torch.allclose(turned, in_pixels, atol=1e-5)
    assert torch.allclose(target.pixels(target.of(patches), patches), patches, atol=1e-5)


def test_tokens_start_at_the_logarithm_of_the_vocabulary():
    images, shuffle = a_batch()
    model = small(target=FittedTarget(Tokens(codes=512), 2, 3))
    loss = model(images, shuffle, 4, given=torch.zeros(4, 16, dtype=torch.int64))
    assert abs(loss.item() - 6.24) < 1.0


# mask tokens in the encoder -----------------------------------------------------------------------


def test_mask_tokens_stand_in_the_encoder_before_positions_are_added():
    model = small(encoder_mask_tokens=True)
    images, shuffle = a_batch()
    seen = {}
    model.blocks[0].register_forward_pre_hook(lambda _, args: seen.update(x=args[0].detach()))
    model(images, shuffle, keep=4)
    embedded = model.patch_embed(patchify(images, 2))
    removed = removed_mask(shuffle, 4).bool()[..., None]
    expected = torch.where(removed, model.encoder_mask_token, embedded) + model.pos_embed[:, 1:]
    expected = gather_patches(expected, shuffle)
    assert seen["x"].shape[1] == 1 + 16
    assert torch.allclose(seen["x"][:, 1:], expected, atol=1e-6)


def test_the_decoder_then_adds_none_and_is_whole():
    model = small(encoder_mask_tokens=True)
    images, shuffle = a_batch()
    seen = {}
    model.decoder_blocks[0].register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    model(images, shuffle, keep=4).backward()
    assert seen["x"].shape == (4, 17, 8)
    assert model.mask_token.grad is None and model.encoder_mask_token.grad is not None
    assert all(p.grad is not None for p in model.decoder_blocks.parameters())


def test_what_is_removed_does_not_reach_the_predictions_either():
    model = small(encoder_mask_tokens=True)
    images, _ = a_batch()
    shuffle = torch.arange(16).expand(4, -1)
    before = model.reconstruct(images, shuffle, keep=4).predictions
    images[:, :, 2:] += 10
    assert torch.equal(model.reconstruct(images, shuffle, keep=4).predictions, before)


def test_extensions_leave_every_other_weight_as_it_was():
    plain = small().state_dict()
    for name, change in {
        "encoder_mask_token": {"encoder_mask_tokens": True},
        "cls_token": {"class_token": False},
    }.items():
        other = small(**change).state_dict()
        assert set(plain) ^ set(other) == {name}
        assert all(torch.equal(plain[key], other[key]) for key in set(plain) & set(other))


# no class token -----------------------------------------------------------------------------------


def test_without_a_class_token_features_are_the_mean_of_the_patches():
    model = small(class_token=False)
    images, shuffle = a_batch()
    assert model.reconstruct(images, shuffle, keep=4).predictions.shape == (4, 16, P)
    tokens = model.encode(patchify(images, 2))
    assert tokens.shape[1] == 16
    assert torch.equal(model.features(images, "mean"), tokens.mean(dim=1))


# another resolution, pictures ---------------------------------------------------------------------


def test_an_encoder_taken_to_another_grid():
    model = small()
    table = model.pos_embed.clone()
    model.at_grid((4, 4))
    assert torch.equal(model.pos_embed, table)
    model.at_grid((6, 5))
    assert model.features(torch.randn(2, 3, 12, 10), "mean").shape == (2, 16)
    assert torch.equal(model.pos_embed[:, 0], table[:, 0])


def test_panels_paste_the_visible_patches_and_hide_the_others():
    images, shuffle = a_batch()
    images = images.clamp(-1, 1)
    drawn = panels(small(), images, shuffle, 4, (0.5,) * 3, (0.5,) * 3)
    assert torch.allclose(drawn.original, images * 0.5 + 0.5, atol=1e-6)
    mask = torch.ones(4, 16).scatter_(1, shuffle[:, :4], 0.0)
    visible = hide(torch.ones(4, 3, 8, 8), mask, 4) == 1
    assert visible.float().mean() == 0.25
    assert torch.allclose(drawn.pasted[visible], drawn.original[visible], atol=1e-6)
    assert (drawn.masked[~visible] == 0.5).all()
    hidden = ~visible
    assert torch.allclose(drawn.pasted[hidden], drawn.reconstruction[hidden], atol=1e-6)


def test_a_perfect_prediction_of_normalised_patches_is_the_picture_again():
    patches = torch.randn(2, 16, P)
    target = FittedTarget(PixelNorm(), 2, 3)
    assert torch.allclose(target.pixels(target.of(patches), patches), patches, atol=1e-5)
    assert F.mse_loss(target.of(patches).mean(dim=-1), torch.zeros(2, 16)) < 1e-10
