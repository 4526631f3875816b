"""Weights from and to files: the published format of masked autoencoders, and timm's.

Nothing in a file is executed: what is not plain data or tensors is refused.
"""

import argparse
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mae_ablation.errors import UserError, name_first
from mae_ablation.mae.model import MaskedAutoencoder
from mae_ablation.mae.positions import position_table
from mae_ablation.mae.unwrap import FoundWeights, find_weights
from mae_ablation.study.places import require_file, require_suffix, written

State = Mapping[str, torch.Tensor]
DESCRIPTION = "mae_ablation"
"""key beside "model" in files of this project"""


def open_checkpoint(path: Path | str, *, convert: str = '["model"]') -> FoundWeights:
    """Read the weights of a .pth, .pt, .bin or .safetensors file, on the CPU (unwrap.py).

    Args:
        convert: what gives the weights of an object that is refused, for the error's remedy.

    Raises:
        UserError: no such file; not a checkpoint; other classes in it; no tensors; NaN.
    """
    path = Path(path)
    require_file(path, "the path of a checkpoint")
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors import safe_open  # comes with timm

            with safe_open(path, framework="pt") as file:
                content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                description = json.loads((file.metadata() or {}).get(DESCRIPTION, "null"))
        else:
            # published files hold the command's arguments, the only class that is let in
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
            description = content.get(DESCRIPTION) if isinstance(content, dict) else None
    except Exception as error:  # whatever the bytes lead to: IndexError, EOFError, RuntimeError
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if not refused:
            raise _damaged(path) from error
        raise UserError(
            f"holds an object of class {refused[1]}, which is not loaded because it could run "
            f"code; a plain state dict is needed: where you trust the file, torch.save("
            f'torch.load("{path.name}", weights_only=False){convert}, "weights.pth")',
            str(path),
        ) from error
    # what stands beside the weights is a stranger's: taken only in the form we write
    known = description if isinstance(description, dict) else {}
    return find_weights(content, str(path))._replace(description=known)


def _damaged(path: Path) -> UserError:
    """The error of a file that is no checkpoint, or one under the other format's suffix."""
    # zip archives begin with PK, safetensors with eight bytes of length and a brace
    with open(path, "rb") as file:
        begins = file.read(9)
    named = path.suffix.lower() == ".safetensors"
    if begins.startswith(b"PK") if named else begins[8:] == b"{":
        other = "torch's own; call it .pth" if named else "safetensors; call it .safetensors"
        return UserError(f"not a checkpoint of this suffix: its format is {other}", str(path))
    size = path.stat().st_size
    return UserError(
        f"not a checkpoint, or cut short ({size:,} bytes): fetch or write it again", str(path)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes of a masked autoencoder as its weights show them. Heads leave no trace in them."""

    grid: tuple[int, int]
    """rows and columns of patches"""
    patch_size: int
    channels: int
    encoder_width: int
    encoder_depth: int
    decoder_width: int | None
    """None: the file holds the encoder only"""
    decoder_depth: int | None
    mlp_ratio: float
    class_token: bool
    encoder_mask_tokens: bool
    prediction_width: int | None
    """values predicted per patch: pixels, PCA coefficients or the vocabulary of tokens"""


def shape_of(state: State, place: str = "") -> Shape:
    """Infer sizes from the names and shapes of weights.

    Raises:
        UserError: names of an encoder are missing; a grid that cannot be told.
    """
    require_encoder(state, place)
    # a file without decoder is an encoder, which evaluations can take
    width, channels, patch_size, _ = state["patch_embed.proj.weight"].shape
    decoder = "decoder_pred.weight" in state
    prediction_width, decoder_width = state["decoder_pred.weight"].shape if decoder else (None,) * 2
    return Shape(
        grid=_grid_of(with_class_row(state)["pos_embed"], place),
        patch_size=patch_size,
        channels=channels,
        encoder_width=width,
        encoder_depth=_depth(state, "blocks"),
        decoder_width=decoder_width,
        decoder_depth=_depth(state, "decoder_blocks") if decoder else None,
        mlp_ratio=state["blocks.0.mlp.fc1.weight"].shape[0] / width,
        class_token="cls_token" in state,
        encoder_mask_tokens="encoder_mask_token" in state,
        prediction_width=prediction_width,
    )


def require_encoder(state: State, place: str) -> None:
    """Raise a UserError if the names of an encoder are missing."""
    needed = ("pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")
    absent = [name for name in needed if name not in state]
    if absent:
        raise UserError(f"not a masked autoencoder: without {name_first(absent)}", place)


def with_class_row(state: State) -> State:
    """Give positions the row of a class token, which timm leaves out where there is none."""
    # that row is zero, the row of a patch never is
    table = state["pos_embed"]
    if "cls_token" in state or not table[:, 0].any():
        return state
    return {**state, "pos_embed": torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)}


GRID_ATOL = 5e-3  # sines and cosines in bfloat16 are off by up to 1/512


def _depth(state: State, blocks: str) -> int:
    return sum(bool(re.fullmatch(rf"{blocks}\.\d+\.norm1\.weight", name)) for name in state)


def _grid_of(table: torch.Tensor, place: str) -> tuple[int, int]:
    """Grid of a position table (1, 1 + L, D): the one whose sines it holds, else the square."""
    # fine-tuning trains the table, which then is no sines
    patches, width = table.shape[1] - 1, table.shape[2]
    # every factorisation is tried: 14 x 14 and 7 x 28 have equally many patches
    grids = [(rows, patches // rows) for rows in range(1, patches + 1) if patches % rows == 0]
    for grid in grids:
        if torch.allclose(position_table(width, grid), table.float().cpu(), atol=GRID_ATOL):
            return grid
    side = math.isqrt(patches)
    if side * side != patches:
        raise UserError(
            f"pos_embed has {patches} patches: neither a square nor sines and cosines of a grid",
            place,
        )
    return side, side


USUAL_HEADS = {512: 16, 768: 12, 1024: 16, 1280: 16}
"""heads of the paper's encoders and decoder, by their width"""


def load_into(
    model: MaskedAutoencoder, state: State, *, encoder_only: bool = False, place: str
) -> None:
    """Fill all of the model, or its encoder only, from a checkpoint; nothing may be left over.

    Raises:
        UserError: one line with what is missing, unexpected or of another shape.
    """
    expected = model.state_dict()
    # timm's layout and ours differ in the row of a class token that is not there
    if "pos_embed" in state:
        state = with_class_row(state)
    if encoder_only:
        expected, state = encoder_part(expected), encoder_part(state)
    check_fit(expected, state, place)
    model.load_state_dict(state, strict=not encoder_only)


def encoder_part(state: State) -> dict[str, torch.Tensor]:
    """Leave out the decoder and the target's own numbers (PCA)."""
    others = ("decoder", "mask_token", "target.")
    return {name: value for name, value in state.items() if not name.startswith(others)}


def check_fit(expected: State, state: State, place: str) -> None:
    """Raise a UserError of one line if names or shapes of `state` differ from the model's."""
    # all differences in one line: a wrong patch size shows in many weights at once
    reshaped = [
        f"{name}: file {tuple(state[name].shape)}, model {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    found = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": reshaped,
    }
    parts = [f"{len(names)} {what} ({name_first(names)})" for what, names in found.items() if names]
    if parts:
        raise UserError(
            f"weights do not fit the model: {'; '.join(parts)}: build the model as the file's was",
            place,
        )


def require_decoder(state: State, place: str, others: Sequence[str] = ()) -> None:
    """Raise a UserError if a file has no decoder, or one under other names.

    Args:
        others: names of weights in the file that were not taken for the model's.
    """
    if "decoder_pred.weight" in state:
        return
    require_encoder(state, place)
    # weights of another code's decoder are worth naming: renaming them may do
    decoder = [name for name in (*state, *others) if "decoder" in name]
    if decoder:
        raise UserError(
            f"its decoder has other names than the published ones: no decoder_pred.weight, but "
            f"{name_first(decoder)}; rename them",
            place,
        )
    raise UserError(
        "holds the encoder only: a reconstruction needs the decoder too; take a file with "
        "both (the official ones end in _full or begin with mae_visualize)",
        place,
    )


def export_official(model: MaskedAutoencoder, path: Path | str) -> None:
    """Write {"model": weights} as in the published files; extensions are additional names.

    Heads and target, which leave no trace in weights, stand beside them as plain values; in a
    .safetensors file, which holds nothing but tensors and text, as JSON in its metadata.
    """
    description = {
        "encoder_heads": model.blocks[0].attn.num_heads,
        "decoder_heads": model.decoder_blocks[0].attn.num_heads,
        "target": model.target.component.component.name,
    }
    _write(_plain(model.state_dict()), path, description)


def export_timm(model: MaskedAutoencoder, path: Path | str) -> None:
    """Write the encoder as a state dict that timm's VisionTransformer loads strictly.

    Build that with num_classes=0 and norm_layer=partial(nn.LayerNorm, eps=1e-6), and with
    global_pool="token"; of a model without class token with class_token=False, global_pool="avg",
    fc_norm=False.
    """
    _write(timm_state(model), path)


def timm_state(model: MaskedAutoencoder) -> dict[str, torch.Tensor]:
    """Return the weights of the encoder under timm's names, on the CPU."""
    state = encoder_part(_plain(model.state_dict()))
    state.pop("encoder_mask_token", None)  # no patch is missing outside pre-training
    if "cls_token" not in state:
        state["pos_embed"] = state["pos_embed"][:, 1:].clone()
    return state


def _plain(state: State) -> dict[str, torch.Tensor]:
    """Weights on the CPU, without the module's version metadata."""
    return {name: value.detach().cpu() for name, value in state.items()}


def _write(state: State, path: Path | str, description: dict | None = None) -> None:
    """Write weights in the suffix's format, under "model" where a description goes with them."""
    path = Path(path)
    require_suffix(path)
    with written(path) as file:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import save  # comes with timm

            metadata = {DESCRIPTION: json.dumps(description)} if description else {}
            plain = {name: value.clone().contiguous() for name, value in state.items()}
            file.write(save(plain, {"format": "pt", **metadata}))
        else:
            torch.save({"model": state, DESCRIPTION: description} if description else state, file)
