"""Checkpoints in the published format and timm's, in both directions, and what is refused."""

import argparse
from functools import partial

import pytest
import torch
from conftest import small_model as small
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mae_ablation.mae.checkpoints import (
    Shape,
    export_official,
    export_timm,
    load_into,
    read_checkpoint,
    require_decoder,
    shape_of,
)
from mae_ablation.mae.positions import interpolate_positions, position_table
from mae_ablation.mae.targets import patchify
from mae_ablation.study.errors import UserError


def same(one, two) -> bool:
    return list(one) == list(two) and all(torch.equal(one[name], two[name]) for name in one)


def encoder_state(model) -> dict[str, torch.Tensor]:
    others = ("decoder", "mask_token")
    return {k: v for k, v in model.state_dict().items() if not k.startswith(others)}


def refusal(call, *args, **kwargs) -> str:
    with pytest.raises(UserError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("changes", [{}, {"encoder_mask_tokens": True}, {"class_token": False}])
def test_the_published_format_goes_out_and_comes_back(tmp_path, changes):
    model, path = small(**changes), tmp_path / "exports" / "mae.pth"
    export_official(model, path)
    assert list(torch.load(path, weights_only=True)) == ["model", "mae_ablation"]
    other = small(seed=5, **changes)
    load_into(other, read_checkpoint(path), place=str(path))
    assert same(model.state_dict(), other.state_dict())
    assert [p.name for p in path.parent.iterdir()] == ["mae.pth"]  # nothing half-written


def test_a_published_file_with_its_command_s_arguments_is_read(tmp_path):
    state, path = small().state_dict(), tmp_path / "checkpoint-799.pth"
    arguments = argparse.Namespace(model="mae_vit_base_patch16", blr=1.5e-4)
    torch.save({"model": state, "optimizer": {"state": {}}, "epoch": 799, "args": arguments}, path)
    assert same(read_checkpoint(path), state)


def test_bare_weights_are_read(tmp_path):
    state = small().state_dict()
    torch.save(state, tmp_path / "bare.pth")
    save_file(dict(state), tmp_path / "bare.safetensors")
    assert same(read_checkpoint(tmp_path / "bare.pth"), state)
    assert read_checkpoint(tmp_path / "bare.safetensors").keys() == state.keys()


class Stranger:
    """Any class but the one that is let in."""


def test_other_classes_are_refused_and_never_built(tmp_path):
    path = tmp_path / "strange.pth"
    torch.save({"model": small().state_dict(), "args": Stranger()}, path)
    message = refusal(read_checkpoint, path)
    assert message.startswith(f"{path}: holds an object of class ")
    assert "Stranger" in message
    assert 'torch.load("strange.pth", weights_only=False)["model"]' in message


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    assert "no such file" in refusal(read_checkpoint, path)
    export_official(small(), path)
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        assert "not a checkpoint, or cut short" in refusal(read_checkpoint, path)
        (tmp_path / "x.safetensors").write_bytes(damaged)
        assert "not a checkpoint" in refusal(read_checkpoint, tmp_path / "x.safetensors")
    for content in ({"epoch": 3}, {"model": 3}, [1, 2], {}):
        torch.save(content, path)
        assert "holds no weights" in refusal(read_checkpoint, path)


def test_the_shape_shows_in_the_weights():
    assert shape_of(small().state_dict()) == Shape(
        grid=(4, 6),  # read from the sines, though 24 is not a square
        patch_size=2,
        channels=3,
        encoder_width=16,
        encoder_depth=2,
        decoder_width=8,
        decoder_depth=1,
        mlp_ratio=4.0,
        class_token=True,
        encoder_mask_tokens=False,
        prediction_width=12,
    )


def test_the_shape_of_variants():
    changed = small(image_size=8, class_token=False, encoder_mask_tokens=True, mlp_ratio=2.0)
    shape = shape_of(changed.state_dict())
    assert (shape.class_token, shape.encoder_mask_tokens, shape.mlp_ratio) == (False, True, 2.0)
    encoder = shape_of(encoder_state(small()))
    assert encoder.decoder_width is encoder.decoder_depth is encoder.prediction_width is None
    trained = small(image_size=8).state_dict()
    trained["pos_embed"] = torch.randn(1, 17, 16)  # fine-tuning trains the table
    assert shape_of(trained).grid == (4, 4)


def test_no_shape_is_guessed():
    state = small().state_dict()
    state["pos_embed"] = torch.randn(1, 25, 16)
    assert "24 patches: neither a square" in refusal(shape_of, state, "a.pth")
    message = refusal(shape_of, {"head.weight": torch.ones(1)}, "a.pth")
    assert message.startswith("a.pth: not a masked autoencoder: without pos_embed")


def test_weights_that_do_not_fit_are_named_in_one_line():
    state = small(patch_size=4).state_dict()
    state["head.weight"] = torch.ones(1)
    for name in [name for name in state if name.startswith("blocks.1.")]:
        del state[name]
    message = refusal(load_into, small(), state, place="a.pth")
    assert message.startswith("a.pth: weights do not fit the model: 12 missing (blocks.1.norm1.")
    assert "blocks.1.attn.qkv.weight, ...); 1 unexpected (head.weight); 5 of another " in message
    assert "pos_embed: file (1, 7, 16), model (1, 25, 16)" in message


def test_an_encoder_is_loaded_from_files_with_and_without_a_decoder():
    source = small(decoder_depth=3, decoder_width=16)
    for state in (source.state_dict(), encoder_state(source)):
        model, untouched = small(seed=5), small(seed=5)
        load_into(model, state, encoder_only=True, place="a.pth")
        assert same(encoder_state(model), encoder_state(source))
        assert torch.equal(model.decoder_pred.weight, untouched.decoder_pred.weight)
    message = refusal(load_into, small(), encoder_state(source), place="a.pth")
    assert "missing (mask_token, decoder_pos_embed, decoder_embed.weight, ...)" in message


def test_the_target_s_own_numbers_stay_out_of_an_encoder():
    state = {**small().state_dict(), "target.mean": torch.ones(12)}
    load_into(small(), state, encoder_only=True, place="a.pth")


def test_a_reconstruction_needs_the_decoder():
    require_decoder(small().state_dict(), "a.pth")
    message = refusal(require_decoder, encoder_state(small()), "a.pth")
    assert message.startswith("a.pth: holds the encoder only")
    assert "_full" in message and "mae_visualize" in message


@pytest.mark.parametrize(
    ("changes", "timm_changes"),
    [
        ({}, {"global_pool": "token"}),
        ({"encoder_mask_tokens": True}, {"global_pool": "token"}),
        ({"class_token": False}, {"class_token": False, "global_pool": "avg", "fc_norm": False}),
    ],
)
def test_timm_gives_the_same_features(tmp_path, changes, timm_changes):
    model, path = small(**changes).eval(), tmp_path / "timm.pth"
    export_timm(model, path)
    theirs = VisionTransformer(
        img_size=(8, 12),
        patch_size=2,
        in_chans=3,
        num_classes=0,
        embed_dim=16,
        depth=2,
        num_heads=4,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        **timm_changes,
    ).eval()
    theirs.load_state_dict(torch.load(path, weights_only=True), strict=True)
    images = torch.randn(2, 3, 8, 12)
    expected = model.encode(patchify(images, 2))
    assert torch.allclose(theirs.forward_features(images), expected, atol=1e-5)


def test_positions_of_the_same_grid_stay_as_they_are():
    table = position_table(16, (4, 6))
    assert torch.equal(interpolate_positions(table, (4, 6), (4, 6), 1), table)


@pytest.mark.parametrize("extra", [0, 1])
def test_positions_keep_a_ramp_on_another_grid(extra):
    """To a twentieth of a cell: the bicubic kernel is exact on constants only."""

    def ramp(rows, columns):  # two channels: the centre's place, as a share of each side
        y = (torch.arange(rows) + 0.5) / rows
        x = (torch.arange(columns) + 0.5) / columns
        return torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)

    tokens = torch.full((1, extra, 2), 7.0)
    table = torch.cat([tokens, ramp(8, 12).reshape(1, -1, 2)], dim=1)
    resized = interpolate_positions(table, (8, 12), (16, 20), extra)
    assert torch.equal(resized[:, :extra], tokens)
    inner = resized[0, extra:].unflatten(0, (16, 20))[4:-4, 4:-4]  # bicubic reaches 2 cells
    assert torch.allclose(inner, ramp(16, 20)[4:-4, 4:-4], rtol=0, atol=0.05 / 8)


def test_positions_of_another_grid_than_said_are_refused():
    with pytest.raises(ValueError, match=r"25 rows, not 1 \+ 5 x 6"):
        interpolate_positions(position_table(16, (4, 6)), (5, 6), (4, 4), 1)
