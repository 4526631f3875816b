"""The loss as training computes it is the model's own, and so are its gradients."""

import pytest
import torch
from conftest import small_model
from torch import nn

from mae_ablation.mae import transformer
from mae_ablation.mae.masked_loss import MaskedLoss
from mae_ablation.mae.masking import random_shuffle
from mae_ablation.mae.targets import PCATarget, PixelTarget, TokenTarget
from mae_ablation.mae.transformer import attend
from mae_ablation.phases import pretrain as pretrain_module
from mae_ablation.phases.optim import generator
from mae_ablation.phases.pretrain import pretrain
from mae_ablation.phases.run import PhaseRun
from mae_ablation.store.folder import PhaseFolder

IMAGES, PATCHES, KEEP = 5, 24, 6


class PlainLoss(nn.Module):
    """The model's own forward pass: every prediction, in image order."""

    def __init__(self, model, **options):
        super().__init__()
        self.model = model

    def forward(self, *arguments):
        return self.model(*arguments).loss


def gradients(loss, model, arguments):
    model.zero_grad()
    value = loss(*arguments)
    value.backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for p in trained.values())
    return value.item(), {name: p.grad.clone() for name, p in trained.items()}


PCA = PCATarget(torch.full((12,), 0.1), torch.linalg.qr(torch.randn(12, 4))[0], mean_over="patch")
VARIANTS = {
    "a decoder of one block": {},
    "a decoder of three": {"decoder_depth": 3},
    "the error of all patches": {"loss_on": "all"},
    "all patches, three blocks": {"loss_on": "all", "decoder_depth": 3},
    "mask tokens in the encoder": {"encoder_mask_tokens": True, "decoder_depth": 2},
    "mask tokens there, all patches": {"encoder_mask_tokens": True, "loss_on": "all"},
    "no class token": {"class_token": False, "decoder_depth": 2},
    "normalised pixels": {"target": PixelTarget(12, per_patch=True)},
    "coefficients": {"target": PCA},
    "tokens": {"target": TokenTarget(7)},
}


@pytest.fixture(params=["fused", "by torch"])
def way(request, monkeypatch):
    """Of computing a block: by fused.c, or as where there is no C compiler."""
    if request.param == "by torch":
        monkeypatch.setattr(transformer, "is_usable", lambda: False)
    elif not transformer.is_usable():
        pytest.skip("no C compiler here")
    return request.param


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_loss_and_gradients_are_the_plain_ones(changes, way):
    model = small_model(**changes)
    for name, parameter in model.named_parameters():  # initial biases are zero: too easy
        if parameter.requires_grad and parameter.ndim == 1:
            nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.1)
    rng = generator(0, "test")
    images = torch.randn(IMAGES, 3, 8, 12, generator=rng)
    shuffle = random_shuffle(IMAGES, PATCHES, rng)
    is_tokens = isinstance(model.target, TokenTarget)
    tokens = torch.randint(7, (IMAGES, PATCHES), generator=rng) if is_tokens else None
    arguments = images, shuffle, KEEP, tokens
    plain, plain_gradients = gradients(PlainLoss(model), model, arguments)
    loss, loss_gradients = gradients(MaskedLoss(model), model, arguments)
    assert loss == pytest.approx(plain, rel=1e-5)
    for name, gradient in plain_gradients.items():
        torch.testing.assert_close(loss_gradients[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_training_s_loss_curve_is_the_plain_one(toy, tmp_path, monkeypatch, way):
    def curve(name):
        (tmp_path / name).mkdir()
        folder = PhaseFolder.at(tmp_path / name)
        result = pretrain(toy, 0, PhaseRun(folder=folder))
        assert result["fused"] is (way == "fused") or name == "plain"
        return [point["m"]["pretrain/loss"] for point in folder.journal.read()]

    ours = curve("ours")
    monkeypatch.setattr(pretrain_module, "MaskedLoss", PlainLoss)
    assert ours == pytest.approx(curve("plain"), rel=1e-4)
    assert len(set(ours)) == len(ours) == toy.pretrain.epochs


def test_short_and_long_sequences_attend_alike(monkeypatch):
    query, key, value = torch.randn(3, 2, 9, 8, generator=generator(0, "test")).unbind(0)
    plain = attend(query, key, value, heads=2)
    monkeypatch.setattr(transformer, "PLAIN_TOKENS", 0)
    torch.testing.assert_close(attend(query, key, value, heads=2), plain, rtol=1e-5, atol=1e-6)
