"""Types of flags: how each is read from the text of a command line, and what is refused.

Numbers are spelled as in a study file (values.py). To Python these are ordinary types: a notebook
passes 3 where the command line has `--seeds 3`.
"""

import os
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

from mae_ablation.errors import unknown
from mae_ablation.store.paths import expanded, expanded_place, is_remote

WHOLE = "a whole number from 1"


# how texts are read -------------------------------------------------------------------------------


def flag(read: Callable[[str], Any], metavar: str) -> Parameter:
    """Have a flag's text read by a function, whose ValueError says what is wrong with it."""

    def convert(kind: Any, tokens: Sequence[Token]) -> Any:
        return read(tokens[0].value)

    return Parameter(converter=convert, n_tokens=1, metavar=metavar)


def number(accepts: Callable[[float], bool], wanted: str, metavar: str) -> Parameter:
    """Have a flag's text read as a number that a function accepts; `wanted` says which."""

    return flag(lambda text: _read_number(text, accepts, wanted), metavar)


def _read_number(text: str, accepts: Callable[[float], bool], wanted: str) -> float:
    from mae_ablation.study.values import Unreadable, to_number

    try:
        if accepts(value := to_number(text)):
            return value
    except Unreadable:
        pass
    raise ValueError(f"{text!r} is not {wanted}")


def whole_number(least: int, most: float, wanted: str, metavar: str) -> Parameter:
    """Have a flag's text read as a whole number, such as 3 or 3e0."""
    return flag(lambda text: _read_whole(text, least, most, wanted), metavar)


def _read_whole(text: str, least: int = 1, most: float = inf, wanted: str = WHOLE) -> int:
    from mae_ablation.study.values import Unreadable, to_whole

    try:
        if least <= (value := to_whole(text)) <= most:
            return value
    except Unreadable:
        pass
    raise ValueError(f"{text!r} is not {wanted}")


def _read_lanes(text: str) -> int | None:
    return None if text == "auto" else _read_whole(text, wanted=f"{WHOLE}, and not auto")


def _read_gpus(text: str) -> float | None:
    wanted = "a part of a GPU or a number of them, and not auto"
    return None if text == "auto" else _read_number(text, _is_gpu_share, wanted)


def _read_heads(text: str) -> tuple[int, int]:
    encoder, _, decoder = text.partition(",")
    return _read_whole(encoder), _read_whole(decoder)


def _read_folder(text: str) -> str:
    if not text:  # it would mean the working directory
        raise ValueError("no folder is named")
    return text


def _read_place(text: str) -> str:
    """Read a folder, without a slash at its end, or an address as it is."""
    return text if is_remote(text) else str(Path(expanded_place(_read_folder(text))))


def component_name(kind: str) -> Parameter:
    """Have a flag's text read as the name of a registered component."""

    def read(text: str) -> str:
        from mae_ablation.registry import component_names

        if text not in component_names(kind):
            raise ValueError(unknown(kind, text, component_names(kind)))
        return text

    return flag(read, "NAME")


def _is_gpu_share(value: float) -> bool:
    """Tell whether a worker can hold so many GPUs: a part of one, or whole ones."""
    return 0 <= value <= 1 or value > 1 and value == int(value)


# the types ----------------------------------------------------------------------------------------

Flat = Parameter(name="*")
"""the fields of an argument are flags themselves"""
Count = Annotated[int, whole_number(1, inf, WHOLE, "N")]
Port = Annotated[int, whole_number(1, 65535, "a port, 1 to 65535", "PORT")]
MaskSeed = Annotated[
    int,
    whole_number(0, inf, "a whole number from 0", "N"),
    Parameter(help="seed of the masks (default: 0)"),
]
LaneCount = Annotated[int | None, flag(_read_lanes, "N|auto")]
Hours = Annotated[float, number(lambda hours: hours > 0, "a number above 0", "H")]
Price = Annotated[float, number(lambda price: price >= 0, "a price, a number from 0", "P")]
GpuShare = Annotated[float | None, flag(_read_gpus, "G|auto")]
Ratio = Annotated[float, number(lambda ratio: 0 < ratio < 1, "between 0 and 1", "R")]
Phases = Annotated[
    tuple[str, ...],
    flag(lambda text: tuple(name.strip() for name in text.split(",")), "A,B"),
]
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
    flag(_read_heads, "E,D"),
    Parameter(help="attention heads of encoder and decoder, where a file's shape does not say"),
]
File = Annotated[Path, flag(expanded, "FILE")]
Folder = Annotated[Path, flag(lambda text: expanded(_read_folder(text)), "FOLDER")]
DataPlace = Annotated[str, flag(_read_place, "FOLDER|URI")]
StorePlace = Annotated[
    str,
    flag(_read_folder, "FOLDER|URI"),
    Parameter(help="folder or s3://... that holds the results (default: ./store)"),
]
CheckpointPlace = Annotated[
    str,
    flag(os.path.expanduser, "FILE_OR_TRIAL"),
    Parameter(
        help="a checkpoint's file, official ones too, or the identity of a pre-training in the "
        "store, of which the beginning is enough"
    ),
]
SamplerName = Annotated[str, component_name("sampler")]
TargetName = Annotated[str, component_name("target")]
