"""Checkpoints in the published format and timm's, in both directions, and what is refused."""

import argparse
from functools import partial

import pytest
import torch
from conftest import small_model as small
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mae_ablation.errors import UserError
from mae_ablation.mae.checkpoints import (
    Shape,
    export_official,
    export_timm,
    load_into,
    open_checkpoint,
    require_decoder,
    shape_of,
)
from mae_ablation.mae.patches import patchify
from mae_ablation.mae.positions import interpolate_positions, position_table


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


@pytest.mark.parametrize("suffix", [".SafeTensors", ".pth", ".bin"])
def test_the_suffix_decides_on_writing_as_on_reading(tmp_path, suffix):
    model, whole, encoder = small(), tmp_path / f"mae{suffix}", tmp_path / f"vit{suffix}"
    export_official(model, whole)
    export_timm(model, encoder)
    read = load_file if suffix.lower() == ".safetensors" else partial(torch.load, weights_only=True)
    assert same(dict(sorted(read(encoder).items())), dict(sorted(encoder_state(model).items())))
    opened = open_checkpoint(whole)
    assert opened.state.keys() == model.state_dict().keys() and opened.notes == ()
    assert opened.description == {"encoder_heads": 4, "decoder_heads": 2, "target": "pixel"}
    assert shape_of(open_checkpoint(encoder).state).encoder_depth == 2


def test_a_safetensors_file_says_what_library_it_is_for(tmp_path):
    export_timm(small(), tmp_path / "vit.safetensors")
    with safe_open(tmp_path / "vit.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}  # transformers refuses files without it


def test_another_suffix_is_refused_with_the_ones_there_are(tmp_path):
    for name, said in (("vit.onnx", ".onnx"), ("vit", "none")):
        assert refusal(export_timm, small(), tmp_path / name) == (
            f"{tmp_path}/{name}: the suffix decides on the format, and {said} is not one of "
            ".safetensors .pth .pt .bin: take vit.safetensors, or vit.pth for torch's"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_file_under_the_other_format_s_suffix_says_how_to_call_it(tmp_path):
    torch.save(small().state_dict(), tmp_path / "a.safetensors")
    save_file(dict(small().state_dict()), tmp_path / "b.pth")
    for name, said in (("a.safetensors", "torch's own; call it .pth"), ("b.pth", ".safetensors")):
        assert refusal(open_checkpoint, tmp_path / name).endswith(said)


def test_an_encoder_without_class_token_comes_back_from_timm_s_layout(tmp_path):
    model, other = small(class_token=False), small(seed=5, class_token=False)
    export_timm(model, tmp_path / "vit.pth")
    state = open_checkpoint(tmp_path / "vit.pth").state
    assert state["pos_embed"].shape[1] == 24 and shape_of(state).grid == (4, 6)
    load_into(other, state, encoder_only=True, place="vit.pth")
    assert same(encoder_state(other), encoder_state(model))


def renamed(state, before="", inside=""):
    """Weights as a parallel or compiled model names them."""
    within = f"blocks.0.{inside}"
    return {before + name.replace("blocks.0.", within): v for name, v in state.items()}


@pytest.mark.parametrize(
    ("before", "wrapper"),
    [("", "model"), ("module.", ""), ("module._orig_mod.", "ema"), ("model.module.", "weights")],
)
def test_names_with_a_prefix_are_the_model_s(tmp_path, before, wrapper):
    state = small().state_dict()
    content = renamed(state, before, "_orig_mod.")
    content = {wrapper: content, "epoch": 3} if wrapper else content
    torch.save(content, tmp_path / "a.pth")
    opened = open_checkpoint(tmp_path / "a.pth")
    assert same(opened.state, state) and opened.notes == opened.others == ()
    require_decoder(opened.state, "a.pth")


def test_weights_are_found_two_wrappers_deep_and_under_a_key_of_one_s_own(tmp_path):
    state = small().state_dict()
    for content in ({"state_dict": {"model": state}}, {"mine": {"epoch": 3, "student": state}}):
        torch.save(content, tmp_path / "a.pth")
        assert same(open_checkpoint(tmp_path / "a.pth").state, state)


def test_the_model_is_taken_before_its_average_and_that_is_said(tmp_path):
    state, average = small().state_dict(), small(seed=5).state_dict()
    optimiser = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}
    flat = {**state, **renamed(average, "ema.")}
    cases = [
        (
            {"model_ema": average, "model": state, "optimizer": optimiser},
            "the weights under model are taken, not those under model_ema",
        ),
        (
            {**state, "ema": average, "optimizer": optimiser},
            "the weights at the top of the file are taken, not those under ema",
        ),
        (
            {"student": average, "teacher": state},
            "the weights under teacher are taken, not those under student",
        ),
        (flat, "left out of the file: ema.cls_token, "),
        (renamed(flat, "module."), "left out of the file: ema.cls_token, "),
    ]
    for content, expected in cases:
        torch.save(content, tmp_path / "a.pth")
        opened = open_checkpoint(tmp_path / "a.pth")
        assert same(opened.state, state)
        assert len(opened.notes) == 1 and expected in opened.notes[0]
    torch.save({"epoch": 1, "optimizer": optimiser}, tmp_path / "a.pth")
    assert "holds no weights" in refusal(open_checkpoint, tmp_path / "a.pth")


def test_one_weight_under_two_names_is_refused(tmp_path):
    state = small().state_dict()
    torch.save({**state, "module.cls_token": state["cls_token"]}, tmp_path / "a.pth")
    assert "holds cls_token twice, as module.cls_token too" in refusal(
        open_checkpoint, tmp_path / "a.pth"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_as_float32(tmp_path, dtype):
    half = {name: value.to(dtype) for name, value in small().state_dict().items()}
    torch.save({"model": half}, tmp_path / "a.pth")
    opened = open_checkpoint(tmp_path / "a.pth")
    assert {value.dtype for value in opened.state.values()} == {torch.float32}
    assert torch.equal(opened.state["cls_token"], half["cls_token"].float())
    assert opened.notes == (f"saved as {str(dtype)[6:]}, computed as float32",)
    assert shape_of(opened.state).grid == (4, 6)  # read from sines that half precision has rounded


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, number):
    state = small().state_dict()
    state["norm.bias"][3] = number
    torch.save(state, tmp_path / "a.pth")
    assert refusal(open_checkpoint, tmp_path / "a.pth") == (
        f"{tmp_path}/a.pth: holds NaN or infinite numbers in 1 of {len(state)} weights "
        "(norm.bias): its training diverged; take an earlier checkpoint"
    )


@pytest.mark.parametrize("changes", [{}, {"encoder_mask_tokens": True}, {"class_token": False}])
def test_the_published_format_goes_out_and_comes_back(tmp_path, changes):
    model, path = small(**changes), tmp_path / "exports" / "mae.pth"
    export_official(model, path)
    assert list(torch.load(path, weights_only=True)) == ["model", "mae_ablation"]
    other = small(seed=5, **changes)
    load_into(other, open_checkpoint(path).state, place=str(path))
    assert same(model.state_dict(), other.state_dict())
    assert [p.name for p in path.parent.iterdir()] == ["mae.pth"]  # nothing half-written


def test_a_published_file_with_its_command_s_arguments_is_read(tmp_path):
    state, path = small().state_dict(), tmp_path / "checkpoint-799.pth"
    arguments = argparse.Namespace(model="mae_vit_base_patch16", blr=1.5e-4)
    torch.save({"model": state, "optimizer": {"state": {}}, "epoch": 799, "args": arguments}, path)
    assert same(open_checkpoint(path).state, state)


class Stranger:
    """Any class but the one that is let in."""


def test_other_classes_are_refused_and_never_built(tmp_path):
    path = tmp_path / "strange.pth"
    torch.save({"model": small().state_dict(), "args": Stranger()}, path)
    message = refusal(open_checkpoint, path)
    assert message.startswith(f"{path}: holds an object of class ")
    assert "Stranger" in message
    assert 'torch.load("strange.pth", weights_only=False)["model"]' in message


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    assert "no such file" in refusal(open_checkpoint, path)
    export_official(small(), path)
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        assert "not a checkpoint, or cut short" in refusal(open_checkpoint, path)
        (tmp_path / "x.safetensors").write_bytes(damaged)
        assert "not a checkpoint" in refusal(open_checkpoint, tmp_path / "x.safetensors")
    for content in ({"epoch": 3}, {"model": 3}, [1, 2], {}):
        torch.save(content, path)
        assert "holds no weights" in refusal(open_checkpoint, path)


def test_a_classifier_s_weights_are_left_out_and_named(tmp_path):
    state = encoder_state(small())
    torch.save({**state, "head.weight": torch.ones(10, 16)}, tmp_path / "finetuned.pth")
    found = open_checkpoint(tmp_path / "finetuned.pth")
    assert found.state.keys() == state.keys()
    assert found.notes == ("left out of the file: head.weight",)


def test_quantised_weights_are_refused(tmp_path):
    state = {name: (10 * value).to(torch.int8) for name, value in small().state_dict().items()}
    torch.save(state, tmp_path / "int8.pth")
    assert "patch_embed.proj.weight is int8, which is quantised: take the file with" in refusal(
        open_checkpoint, tmp_path / "int8.pth"
    )


def test_another_kind_of_network_is_not_called_an_encoder():
    state = {"conv1.weight": torch.ones(3, 3, 7, 7)}
    assert refusal(require_decoder, state, "resnet.pth").startswith(
        "resnet.pth: not a masked autoencoder: without pos_embed"
    )


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
    assert (
        "blocks.1.attn.qkv.weight and 9 more); 1 unexpected (head.weight); 5 of another " in message
    )
    assert "pos_embed: file (1, 7, 16), model (1, 25, 16)" in message


def test_an_encoder_is_loaded_from_files_with_and_without_a_decoder():
    source = small(decoder_depth=3, decoder_width=16)
    for state in (source.state_dict(), encoder_state(source)):
        model, untouched = small(seed=5), small(seed=5)
        load_into(model, state, encoder_only=True, place="a.pth")
        assert same(encoder_state(model), encoder_state(source))
        assert torch.equal(model.decoder_pred.weight, untouched.decoder_pred.weight)
    message = refusal(load_into, small(), encoder_state(source), place="a.pth")
    assert "missing (mask_token, decoder_pos_embed, decoder_embed.weight and " in message


def test_the_target_s_own_numbers_stay_out_of_an_encoder():
    state = {**small().state_dict(), "target.mean": torch.ones(12)}
    load_into(small(), state, encoder_only=True, place="a.pth")


def test_a_reconstruction_needs_the_decoder(tmp_path):
    require_decoder(small().state_dict(), "a.pth")
    message = refusal(require_decoder, encoder_state(small()), "a.pth")
    assert message.startswith("a.pth: holds the encoder only")
    assert "_full" in message and "mae_visualize" in message
    foreign = {f"encoder.{name}": value for name, value in encoder_state(small()).items()}
    foreign["decoder.blocks.0.norm1.weight"] = torch.ones(8)
    torch.save(foreign, tmp_path / "a.pth")
    opened = open_checkpoint(tmp_path / "a.pth")
    assert refusal(require_decoder, opened.state, "a.pth", opened.others) == (
        "a.pth: its decoder has other names than the published ones: no decoder_pred.weight, but "
        "decoder.blocks.0.norm1.weight; rename them"
    )


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
