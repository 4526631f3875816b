"""Flags that several commands have, each defined once, and how their values are read."""

import argparse
from pathlib import Path

from mae_ablation.errors import unknown
from mae_ablation.store.paths import expanded
from mae_ablation.study.recipe_file import PHASES
from mae_ablation.study.values import Unreadable, to_number, to_whole

STUDY = ("studies", "store", "recipe", "changes", "seeds", "phases", "until_decided", "most")
BUDGET = ("hours", "gpu_hours")
LANES = ("lanes", "gpus", "workers", "micro_batch", "accelerator")


def add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", type=place, default="store", help="folder or s3://...; default: ./store"
    )


def add_reports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reports", type=folder, default=Path("reports"), help="default: ./reports"
    )


def add_study(parser: argparse.ArgumentParser) -> None:
    """The study, what may be changed of it, and where its results lie."""
    parser.add_argument("studies", nargs="+", type=expanded, metavar="STUDY.yaml")
    parser.add_argument("--recipe", help="another recipe than the study's: a name or a file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="changes",
        help="change a field of the recipe, text as it stands; may be given several times",
    )
    parser.add_argument("--seeds", type=positive, metavar="N", help="seeds 0 to N-1")
    parser.add_argument(
        "--until-decided",
        action="store_true",
        help="more seeds for the rows that the study's seeds (3 or more) have not decided",
    )
    parser.add_argument(
        "--most", type=positive, metavar="N", help="seeds at most, until decided (default: 20)"
    )
    parser.add_argument(
        "--phases",
        type=phases,
        default=(),
        metavar="A,B",
        help=f"instead of the study's, out of {', '.join(PHASES)}",
    )
    add_store(parser)
    add_reports(parser)


def add_lanes(parser: argparse.ArgumentParser) -> None:
    """How many trials run side by side, and with what."""
    parser.add_argument(
        "--lanes",
        type=lanes,
        metavar="N|auto",
        help="trials side by side (default: auto, as many as there is room for)",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="K",
        help="of each lane: they train one trial together (default: 1)",
    )
    parser.add_argument(
        "--gpus",
        type=share,
        default=0.0,
        metavar="G",
        help="of a GPU, for each worker (default: 0)",
    )
    parser.add_argument(
        "--micro-batch",
        type=positive,
        metavar="N",
        help="images per forward pass; the rest is accumulated (default: all)",
    )
    parser.add_argument("--accelerator", metavar="TYPE", help="of GPU, as Ray names it: A10G")


def add_place(parser: argparse.ArgumentParser) -> None:
    """Where studies run."""
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--local", action="store_true", help="run on this machine")
    place.add_argument("--address", metavar="A", help="run on the Ray cluster at this address")
    place.add_argument(
        "--cluster",
        type=expanded,
        metavar="FILE",
        help="run on the cluster that `ray up FILE` has started (default: cluster.yaml, if its "
        "cluster is up)",
    )


def add_budget(parser: argparse.ArgumentParser) -> None:
    """When a run ends that has not decided everything: the same command goes on."""
    parser.add_argument(
        "--hours", type=hours, metavar="H", help="leave after so long; what is decided is valid"
    )
    parser.add_argument(
        "--gpu-hours", type=hours, metavar="H", help="likewise, of all the GPUs of the lanes"
    )


def add_price(parser: argparse.ArgumentParser) -> None:
    """What the estimate is worth in money."""
    parser.add_argument(
        "--price-per-gpu-hour",
        type=price,
        metavar="P",
        dest="price",
        help="in any currency; the estimate then says the money",
    )


def named(arguments: argparse.Namespace, names: tuple[str, ...]) -> dict[str, object]:
    """Some of the arguments, by the names the commands' functions have for them."""
    return {name: getattr(arguments, name) for name in names}


def place(text: str) -> str:
    """A folder or an address; none at all would be the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("no folder is named")
    return text


def folder(text: str) -> Path:
    """A folder on this machine."""
    return expanded(place(text))


def positive(text: str) -> int:
    value = whole(text)
    if value is None or value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return value


def lanes(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, and not auto") from None


def port(text: str) -> int:
    value = whole(text)
    if value is None or not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to 65535")
    return value


def share(text: str) -> float:
    value = number(text)
    if value is None or (value > 1 and value != int(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part of a GPU and no number of them")
    return value


def price(text: str) -> float:
    value = number(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a price, a number from 0")
    return value


def hours(text: str) -> float:
    value = number(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours above 0")
    return value


def number(text: str) -> float | None:
    """A finite number from 0, spelled as in a study file; None for any other text."""
    try:
        value = to_number(text)
    except Unreadable:
        return None
    return value if value >= 0 else None


def whole(text: str) -> int | None:
    """A whole number, spelled as in a study file: 3 and 3e0; None for any other text."""
    try:
        return to_whole(text)
    except Unreadable:
        return None


def ratio(text: str) -> float:
    value = number(text)
    if value is None or not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a ratio between 0 and 1")
    return value


def seed(text: str) -> int:
    value = whole(text)
    if value is None or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return value


def phases(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in PHASES:
            raise argparse.ArgumentTypeError(unknown("phase", name, PHASES))
    return tuple(names)


def heads(text: str) -> tuple[int, int]:
    encoder, _, decoder = text.partition(",")
    return positive(encoder), positive(decoder)
