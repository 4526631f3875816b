"""Types of flags: how each is read from the text of a command line, and what is refused.

Numbers are spelled as in a study file (values.py). To Python these are ordinary types: a notebook
passes 3 where the command line has `--seeds 3`.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

from mae_ablation.errors import unknown
from mae_ablation.store.paths import expanded, expanded_place, is_remote

WHOLE = "a whole number from 1"


def flag(read: Callable[[str], Any], metavar: str) -> Parameter:
    """Have a flag's text read by a function, whose ValueError says what is wrong with it."""

    def convert(kind: Any, tokens: Sequence[Token]) -> Any:
        return read(tokens[0].value)

    return Parameter(converter=convert, n_tokens=1, metavar=metavar)


def read_whole(text: str, *, least: int = 1, most: float = inf, wanted: str = WHOLE) -> int:
    """Read a whole number, such as 3 or 3e0.

    Raises:
        ValueError: it is no whole number from `least` to `most`, which `wanted` says in words.
    """
    from mae_ablation.study.values import Unreadable, to_whole

    try:
        if least <= (value := to_whole(text)) <= most:
            return value
    except Unreadable:
        pass
    raise ValueError(f"{text!r} is not {wanted}")


def read_number(text: str, *, accepts: Callable[[float], bool], wanted: str) -> float:
    """Read a finite number.

    Raises:
        ValueError: it is no number that `accepts` takes, which `wanted` says in words.
    """
    from mae_ablation.study.values import Unreadable, to_number

    try:
        if accepts(value := to_number(text)):
            return value
    except Unreadable:
        pass
    raise ValueError(f"{text!r} is not {wanted}")


def read_lanes(text: str) -> int | None:
    """Read a number of lanes; None for `auto`."""
    return None if text == "auto" else read_whole(text, wanted=f"{WHOLE}, and not auto")


def read_gpus(text: str) -> float | None:
    """Read the GPUs of a worker, a part of one or whole ones; None for `auto`."""
    wanted = "a part of a GPU or a number of them, and not auto"
    return None if text == "auto" else read_number(text, accepts=is_gpu_share, wanted=wanted)


def read_phases(text: str) -> tuple[str, ...]:
    """Read names of phases, separated by commas."""
    return tuple(name.strip() for name in text.split(","))


def read_heads(text: str) -> tuple[int, int]:
    """Read the attention heads of encoder and decoder, separated by a comma."""
    encoder, _, decoder = text.partition(",")
    return read_whole(encoder), read_whole(decoder)


def read_folder(text: str) -> str:
    """Read a folder or an address; an empty text would mean the working directory."""
    if not text:
        raise ValueError("no folder is named")
    return text


def read_place(text: str) -> str:
    """Read a folder, without a slash at its end, or an address as it is."""
    return text if is_remote(text) else str(Path(expanded_place(read_folder(text))))


def is_gpu_share(value: float) -> bool:
    """Return whether a worker can hold so many GPUs: a part of one, or whole ones."""
    return 0 <= value <= 1 or value > 1 and value == int(value)


def read_name(text: str, *, kind: str) -> str:
    """Read the name of a registered component.

    Raises:
        ValueError: there is none of that kind.
    """
    from mae_ablation.registry import component_names

    if text not in component_names(kind):
        raise ValueError(unknown(kind, text, component_names(kind)))
    return text


Flat = Parameter(name="*")
"""the fields of an argument are flags themselves"""
Count = Annotated[int, flag(read_whole, "N")]
Port = Annotated[int, flag(partial(read_whole, most=65535, wanted="a port, 1 to 65535"), "PORT")]
MaskSeed = Annotated[
    int,
    flag(partial(read_whole, least=0, wanted="a whole number from 0"), "N"),
    Parameter(help="seed of the masks (default: 0)"),
]
LaneCount = Annotated[int | None, flag(read_lanes, "N|auto")]
Hours = Annotated[
    float, flag(partial(read_number, accepts=lambda h: h > 0, wanted="a number above 0"), "H")
]
Price = Annotated[
    float,
    flag(partial(read_number, accepts=lambda p: p >= 0, wanted="a price, a number from 0"), "P"),
]
GpuShare = Annotated[float | None, flag(read_gpus, "G|auto")]
Ratio = Annotated[
    float, flag(partial(read_number, accepts=lambda r: 0 < r < 1, wanted="between 0 and 1"), "R")
]
Phases = Annotated[tuple[str, ...], flag(read_phases, "A,B")]
Plugins = Annotated[
    tuple[str, ...],
    Parameter(
        name="--plugin",
        metavar="FILE_OR_MODULE",
        help="load components of your own from a Python file or module; may be given several times",
    ),
]
Heads = Annotated[
    tuple[int, int],
    flag(read_heads, "E,D"),
    Parameter(help="attention heads of encoder and decoder, where a file's shape does not say"),
]
File = Annotated[Path, flag(expanded, "FILE")]
Folder = Annotated[Path, flag(lambda text: expanded(read_folder(text)), "FOLDER")]
DataPlace = Annotated[str, flag(read_place, "FOLDER|URI")]
StorePlace = Annotated[
    str,
    flag(read_folder, "FOLDER|URI"),
    Parameter(help="folder or s3://... that holds the results (default: ./store)"),
]
Checkpoint = Annotated[
    str,
    flag(os.path.expanduser, "FILE_OR_TRIAL"),
    Parameter(
        help="a checkpoint's file, official ones too, or the identity of a pre-training in the "
        "store, of which the beginning is enough"
    ),
]
SamplerName = Annotated[str, flag(partial(read_name, kind="sampler"), "NAME")]
TargetName = Annotated[str, flag(partial(read_name, kind="target"), "NAME")]
