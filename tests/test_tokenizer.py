"""Tokens of patches: the small autoencoder that learns its own, and DALL-E's encoder."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mae_ablation.errors import UserError
from mae_ablation.mae.dalle import DalleEncoder, load_dalle
from mae_ablation.mae.tokenizer import RESTART_AFTER, PatchTokenizer, perplexity


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_tokenizer() -> PatchTokenizer:
    torch.manual_seed(0)
    return PatchTokenizer(channels=1, patch_size=4, codes=16, width=16, code_width=4)


def stripes(n: int, seed: int = 0) -> torch.Tensor:
    """Images (n, 1, 8, 12) of six patches, each of one of three patterns."""
    x = torch.zeros(3, 4, 4)
    x[1, ::2] = 1.0
    x[2, :, 2:] = 0.8
    patterns = x[torch.randint(3, (n, 2, 3), generator=seeded(seed))]
    return patterns.permute(0, 1, 3, 2, 4).reshape(n, 1, 8, 12)


def train(model, optimizer, steps: int, generator, first: int = 0) -> None:
    for step in range(first, first + steps):
        pixels = stripes(32, seed=step)
        optimizer.zero_grad()
        model(pixels).loss.backward()
        optimizer.step()
        model.update(pixels, generator)


def trained(steps: int):
    model, generator = small_tokenizer(), seeded()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    train(model, optimizer, steps, generator)
    return model, optimizer, generator


def test_a_tokenizer_learns_to_reconstruct_with_several_codes():
    model, _, _ = trained(250)
    pixels = stripes(64, seed=9999)
    out = model(pixels)
    assert out.reconstruction.shape == (64, 1, 8, 12)
    assert out.tokens.shape == (64, 6) and out.tokens.dtype == torch.int64
    explained = 1 - (out.reconstruction - pixels).square().mean() / pixels.var()
    assert explained > 0.9
    assert perplexity(out.tokens, 16) > 2.5  # three patterns, and their neighbours


def test_tokens_run_row_by_row():
    model, _, _ = trained(3)
    row, column = 1, 2
    before = torch.zeros(1, 1, 40, 60)
    after = before.clone()
    after[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1.0
    latents = model._encode(after) - model._encode(before)
    strongest = latents.abs().sum(dim=2).argmax().item()
    assert strongest == row * 15 + column


def test_evaluation_never_changes_a_tokenizer():
    model, _, _ = trained(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(stripes(4))
    tokens = model.tokens(stripes(4), (2, 3))
    assert torch.equal(tokens, model(stripes(4)).tokens)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_first_batch_gives_the_codebook():
    model = small_tokenizer()
    model.update(stripes(8), seeded())
    outputs = model._encode(stripes(8)).flatten(0, 1)
    distance = (model.codebook[:, None] - outputs[None]).abs().amax(dim=2)
    assert distance.min(dim=1).values.max() < 1e-6


def test_gradients_pass_the_codes_to_the_encoder_but_not_to_them():
    model, _, _ = trained(2)
    model.zero_grad()
    out = model(stripes(4))
    (out.reconstruction - stripes(4)).square().mean().backward()
    assert model.encoder[0].weight.grad.abs().sum() > 0
    assert not model.codebook.requires_grad


def test_codes_without_patches_start_anew():
    model = small_tokenizer()
    model.update(stripes(8), seeded())
    far = torch.full((4,), 1e3)
    model.codebook[5] = far
    model.cluster_sums[5] = far
    for _ in range(RESTART_AFTER - 1):
        model.update(stripes(8), seeded())
    assert model.codebook[5].norm() > 100
    model.update(stripes(8), seeded())
    assert model.codebook[5].norm() < 100
    assert model.batches_unused[5] == 0


def test_an_interrupted_training_ends_bit_identical():
    straight, _, _ = trained(2 * RESTART_AFTER)
    model, optimizer, generator = trained(RESTART_AFTER)
    other = small_tokenizer()
    other.load_state_dict(model.state_dict())
    resumed = torch.optim.Adam(other.parameters(), lr=3e-3)
    resumed.load_state_dict(optimizer.state_dict())
    train(other, resumed, RESTART_AFTER, generator, first=RESTART_AFTER)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_perplexity_counts_the_codes_in_effective_use():
    assert perplexity(torch.tensor([[3, 3], [3, 3]]), 8) == pytest.approx(1)
    assert perplexity(torch.arange(8), 8) == pytest.approx(8)
    assert perplexity(torch.tensor([0, 0, 1, 1]), 8) == pytest.approx(2)


def small_dalle() -> DalleEncoder:
    torch.manual_seed(0)
    return DalleEncoder(hidden=8, vocabulary=32)


def test_dalle_has_the_names_and_the_size_of_the_released_encoder():
    with torch.device("meta"):
        encoder = DalleEncoder()
    state = encoder.state_dict()
    assert sum(value.numel() for value in state.values()) == 53_786_240  # 53.79 M
    assert state["blocks.input.w"].shape == (256, 3, 7, 7)
    assert state["blocks.group_2.block_1.id_path.w"].shape == (512, 256, 1, 1)
    assert state["blocks.group_4.block_2.res_path.conv_3.w"].shape == (512, 512, 3, 3)
    assert state["blocks.group_4.block_2.res_path.conv_4.b"].shape == (2048,)
    assert state["blocks.output.conv.w"].shape == (8192, 2048, 1, 1)
    same_width = ("group_1.block_1", "group_1.block_2", "group_4.block_2")
    assert not any(f"blocks.{name}.id_path.w" in state for name in same_width)


def test_dalle_gives_one_token_per_patch_of_the_grid():
    encoder = small_dalle()
    pixels = torch.rand(2, 3, 20, 30, generator=seeded())
    tokens = encoder.tokens(pixels, (4, 6))
    assert tokens.shape == (2, 24) and tokens.dtype == torch.int64
    exact = torch.rand(2, 3, 32, 48, generator=seeded())  # 8 pixels per patch: nothing is resized
    expected = encoder(0.8 * exact + 0.1).argmax(dim=1)
    assert torch.equal(encoder.tokens(exact, (4, 6)).unflatten(1, (4, 6)), expected)
    grey = exact[:, :1]
    assert torch.equal(
        encoder.tokens(grey, (4, 6)), encoder.tokens(grey.repeat(1, 3, 1, 1), (4, 6))
    )


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_dalle_weights_are_read_from_a_plain_file(tmp_path, suffix):
    encoder, path = small_dalle(), tmp_path / f"encoder.{suffix}"
    save = save_file if suffix == "safetensors" else torch.save
    save(encoder.state_dict(), path)
    loaded = load_dalle(path, sha256(path))
    pixels = torch.rand(2, 1, 16, 16)
    assert torch.equal(loaded.tokens(pixels, (2, 2)), encoder.tokens(pixels, (2, 2)))
    assert loaded.vocabulary == 32
    assert not any(p.requires_grad for p in loaded.parameters())


def refusal(path, digest: str | None = None) -> str:
    with pytest.raises(UserError) as error:
        load_dalle(path, digest or sha256(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_file_than_announced_is_refused(tmp_path):
    path = tmp_path / "encoder.pt"
    torch.save(small_dalle().state_dict(), path)
    message = refusal(path, "0" * 64)
    assert sha256(path) in message and "0" * 64 in message and str(path) in message
    assert "no such file" in refusal(tmp_path / "none.pt", "0" * 64)


class Pickled(nn.Linear):
    """A module of a class that no loader should have to know."""


def test_a_pickled_module_is_refused_with_the_way_to_convert_it(tmp_path):
    path = tmp_path / "encoder.pkl"
    torch.save(Pickled(2, 2), path)
    message = refusal(path)
    assert "Pickled" in message and "a plain state dict is needed" in message
    assert 'torch.load("encoder.pkl", weights_only=False).state_dict()' in message


def test_weights_of_something_else_are_named(tmp_path):
    path = tmp_path / "encoder.pt"
    state = small_dalle().state_dict()
    state["blocks.extra"] = state.pop("blocks.input.b")
    torch.save(state, path)
    message = refusal(path)
    assert "1 missing (blocks.input.b); 1 unexpected (blocks.extra)" in message
    torch.save(nn.Linear(2, 2).state_dict(), path)
    assert "2 unexpected (weight, bias)" in refusal(path)
    path.write_bytes(b"no weights")
    assert "not a checkpoint" in refusal(path)
