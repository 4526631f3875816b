"""Finds the weights in other people's checkpoints: wrappers, prefixes, copies, half precision.

Trainers save a model beside optimisers and averages, and compiled or parallel models put words of
their own before or between the names. What is taken is one model, under the published names, in 32
bits; what is left out of the file is said.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from mae_ablation.errors import UserError

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


class Found(NamedTuple):
    """One model's weights."""

    state: dict[str, torch.Tensor]
    notes: tuple[str, ...]
    """what was taken or changed, and what the file holds besides; for the user"""
    others: tuple[str, ...] = ()
    """names of weights that were left out"""


def find_weights(content: object, place: str) -> Found:
    """Takes one model's weights from what a file holds, under the published names, as float32.

    Raises:
        UserError: no weights; two of one name; numbers that are quantised, NaN or infinite.
    """
    state, notes = _unwrapped(content)
    if not state:
        raise UserError(
            'holds no weights: a checkpoint has names and tensors, or those under "model"', place
        )
    state, others = _without_prefix(_without_insertions(state, place))
    others += [name for name in state if name.startswith(CLASSIFIER)]
    state = {name: value for name, value in state.items() if not name.startswith(CLASSIFIER)}
    if others:
        notes.append(f"left out of the file: {_some(others)}")
    small = {str(v.dtype)[6:] for v in state.values() if v.is_floating_point() and v.itemsize < 4}
    if small:
        notes.append(f"saved as {', '.join(sorted(small))}, computed as float32")
    state = {name: v.float() if v.is_floating_point() else v for name, v in state.items()}
    _require_real(state, place)
    return Found(state, tuple(notes), tuple(others))


def _unwrapped(content: object) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Descends into wrappers until the tensors lie directly in a dictionary."""
    path, beside = [], []
    while isinstance(content, Mapping):
        inner = _wrapped(content)
        if not inner:
            break
        name = inner[0]
        # bare weights may have an average beside them
        if _numbers(_tensors(content).values()) >= _numbers(_all_tensors(content[name])):
            beside += inner
            break
        path.append(name)
        beside += inner[1:]
        content = content[name]
    notes = []
    if beside:
        where = f"under {'.'.join(path)}" if path else "at the top of the file"
        notes.append(f"the weights {where} are taken, not those under {', '.join(beside)}")
    return _tensors(content), notes


def _wrapped(content: Mapping) -> list[str]:
    """Keys of a dictionary under which there are weights, the first to be taken first."""
    holding = [key for key, value in content.items() if any(True for _ in _all_tensors(value))]
    holding = [key for key in holding if isinstance(content[key], Mapping)]
    known = sorted((key for key in holding if key in WRAPPERS), key=WRAPPERS.index)
    return known or [key for key in holding if _has_anchor(content[key])]


def _has_anchor(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    return any(str(k).endswith(ANCHOR) or _has_anchor(v) for k, v in value.items())


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


def _numbers(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _without_insertions(state: dict[str, torch.Tensor], place: str) -> dict[str, torch.Tensor]:
    """Names without what DDP and its like have put between their parts."""
    out = {}
    for name, value in state.items():
        bare = ".".join(part for part in name.split(".") if part not in INSERTED)
        if bare in out:
            raise UserError(f"holds {bare} twice, as {name} too: which is the model's?", place)
        out[bare] = value
    return out


def _without_prefix(
    state: dict[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """One model's weights without the prefix of all their names, and the names of the rest."""
    prefixes = [name.removesuffix(ANCHOR) for name in state if name.endswith(ANCHOR)]
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


def _require_real(state: Mapping[str, torch.Tensor], place: str) -> None:
    """Refuse weights that are quantised, NaN or infinite."""
    if (first := state.get(ANCHOR)) is not None and not first.is_floating_point():
        message = f"{ANCHOR} is {str(first.dtype)[6:]}, which is quantised"
        raise UserError(f"{message}: take the file with floating-point weights", place)
    bad = [name for name, value in state.items() if not value.isfinite().all()]
    if bad:
        raise UserError(
            f"holds NaN or infinite numbers in {len(bad)} of {len(state)} weights ({_some(bad)}): "
            "its training diverged; take an earlier checkpoint",
            place,
        )


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
