"""Finds the weights in other people's checkpoints: wrappers, prefixes, copies, half precision.

Trainers save a model beside optimisers and averages, and compiled or parallel models put words of
their own before or between the names. What is taken is one model, under the published names, in 32
bits; what is left out of the file is said.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch

from mae_ablation.errors import UserError, name_first

WRAPPERS = (
    *("model", "state_dict", "model_state_dict", "module", "network", "net", "weights"),
    *("teacher", "student"),
    *("ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "averaged"),
)
"""keys that weights are found under, the first that is there is taken: the model as it was trained
before its running average (EMA); of a teacher and its student the teacher, as their authors do"""
INSERTED = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""parts of names that DDP, torch.compile, FSDP and activation checkpointing add"""
ANCHOR = "patch_embed.proj.weight"
"""every encoder has it: what stands before it in a name is a prefix of all its names"""
CLASSIFIER = "head."
"""begins timm's names of a classifier's weights: what somebody has fine-tuned is an encoder, too"""


class FoundWeights(NamedTuple):
    """One model's weights, and what is known beside them."""

    state: dict[str, torch.Tensor]
    notes: tuple[str, ...]
    """lines for the user: what was taken or changed, and what the file holds besides"""
    others: tuple[str, ...] = ()
    """names of weights that were left out"""
    description: Mapping = {}
    """heads and target, which `export_official` wrote; empty in files from elsewhere"""


def find_weights(content: object, place: str) -> FoundWeights:
    """Take one model's weights from what a file holds, under the published names, as float32.

    Raises:
        UserError: no weights; two of one name; numbers that are quantised, NaN or infinite.
    """
    state, notes = _unwrap(content)
    if not state:
        raise UserError(
            'holds no weights: a checkpoint has names and tensors, or those under "model"', place
        )

    # names as published: without what DDP and its like have put between their parts
    bare = {}
    for name, value in state.items():
        short = ".".join(part for part in name.split(".") if part not in INSERTED)
        if short in bare:
            raise UserError(f"holds {short} twice, as {name} too: which is the model's?", place)
        bare[short] = value
    mine, others = _without_prefix(bare)
    others += [name for name in mine if name.startswith(CLASSIFIER)]
    mine = {name: value for name, value in mine.items() if not name.startswith(CLASSIFIER)}
    if others:
        notes.append(f"left out of the file: {name_first(others)}")

    # numbers that can be computed with: a training may have ended in NaN
    small = {str(v.dtype)[6:] for v in mine.values() if v.is_floating_point() and v.itemsize < 4}
    if small:
        notes.append(f"saved as {', '.join(sorted(small))}, computed as float32")
    if (first := mine.get(ANCHOR)) is not None and not first.is_floating_point():
        message = f"{ANCHOR} is {str(first.dtype)[6:]}, which is quantised"
        raise UserError(f"{message}: take the file with floating-point weights", place)
    mine = {name: v.float() if v.is_floating_point() else v for name, v in mine.items()}
    if bad := [name for name, value in mine.items() if not value.isfinite().all()]:
        raise UserError(
            f"holds NaN or infinite numbers in {len(bad)} of {len(mine)} weights "
            f"({name_first(bad)}): its training diverged; take an earlier checkpoint",
            place,
        )
    return FoundWeights(mine, tuple(notes), tuple(others))


def _unwrap(content: object) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Descend into wrappers until the tensors lie directly in a dictionary."""
    path, beside = [], []
    while isinstance(content, Mapping) and (inner := _wrapped(content)):
        # bare weights may have an average beside them: the larger part is the model
        bare, wrapped = (
            sum(tensor.numel() for tensor in tensors)
            for tensors in (_tensors(content).values(), _all_tensors(content[inner[0]]))
        )
        if bare >= wrapped:
            beside += inner
            break
        path.append(inner[0])
        beside += inner[1:]
        content = content[inner[0]]
    where = f"under {'.'.join(path)}" if path else "at the top of the file"
    said = f"the weights {where} are taken, not those under {', '.join(beside)}"
    return _tensors(content), [said] if beside else []


def _wrapped(content: Mapping) -> list[str]:
    """Keys of a dictionary under which there are weights, the first to be taken first."""
    holding = [key for key, value in content.items() if isinstance(value, Mapping)]
    holding = [key for key in holding if any(True for _ in _all_tensors(content[key]))]
    # a key of the user's own counts where an encoder lies under it
    known = sorted((key for key in holding if key in WRAPPERS), key=WRAPPERS.index)
    return known or [key for key in holding if _has_anchor(content[key])]


def _has_anchor(value: object) -> bool:
    items = value.items() if isinstance(value, Mapping) else ()
    return any(str(k).endswith(ANCHOR) or _has_anchor(v) for k, v in items)


def _tensors(content: Any) -> dict[str, torch.Tensor]:
    items = content.items() if isinstance(content, Mapping) else ()
    return {str(name): value for name, value in items if isinstance(value, torch.Tensor)}


def _all_tensors(content: Any) -> Iterator[torch.Tensor]:
    """Tensors at any depth of dictionaries."""
    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _all_tensors(value)


def _without_prefix(
    state: dict[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """One model's weights without the prefix of all their names, and the names of the rest."""
    prefixes = [name.removesuffix(ANCHOR) for name in state if name.endswith(ANCHOR)]
    # a prefix ends with a dot: "my_patch_embed" is another layer
    prefixes = [prefix for prefix in prefixes if not prefix or prefix.endswith(".")]
    if not prefixes:
        return state, []

    # of several models in a file the one whose prefix a wrapper's key would be taken for
    def rank(prefix: str) -> tuple[bool, int]:
        first = prefix.split(".")[0]
        return bool(prefix), WRAPPERS.index(first) if first in WRAPPERS else len(WRAPPERS)

    mine = min(prefixes, key=rank)
    theirs = tuple(prefix for prefix in prefixes if prefix != mine and prefix.startswith(mine))
    taken = [n for n in state if n.startswith(mine) and not (theirs and n.startswith(theirs))]
    others = [name for name in state if name not in set(taken)]
    return {name[len(mine) :]: state[name] for name in taken}, others
