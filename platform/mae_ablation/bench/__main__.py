"""Measure this project against what one would do otherwise, and write reports/performance.md.

python -m mae_ablation.bench                      everything, about an hour, nothing beside it
python -m mae_ablation.bench steps augmentation   some parts; the page keeps the others
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from mae_ablation.bench.page import as_json, keep
from mae_ablation.store.commit import code_commit
from mae_ablation.study import machine

RECIPES = Path("studies/recipes")


def ceilings(rounds: int) -> dict:
    from mae_ablation.bench.ceilings import asked, copied_gib_per_s, matrix_products

    return {
        "matrix_products": matrix_products(),
        "copied_gib_per_s": copied_gib_per_s(),
        "asked": [asdict(recipe) for recipe in asked(RECIPES)],
    }


def steps(rounds: int) -> dict:
    from mae_ablation.bench.steps import measure

    return as_json(measure(rounds))


def bfloat16(rounds: int) -> dict:
    from mae_ablation.bench.steps import bfloat16

    return as_json(bfloat16(rounds))


def memory(rounds: int) -> dict:
    from mae_ablation.bench.steps import memory

    return as_json(memory(rounds))


def augmentation(rounds: int) -> dict:
    from mae_ablation.bench.augmentation import measure

    return as_json(measure(rounds))


def probe(rounds: int) -> dict:
    from mae_ablation.bench.probe import measure

    return as_json(measure(rounds))


def lanes(rounds: int) -> dict:
    from mae_ablation.bench.lanes import measure

    return as_json(measure(rounds))


def growth(rounds: int) -> dict:
    from mae_ablation.bench.growth import by_lanes, growth
    from mae_ablation.bench.laptop import laptop

    return {"growth": [asdict(grown) for grown in [*growth(rounds), by_lanes(laptop(), rounds)]]}


def orchestration(rounds: int) -> dict:
    from mae_ablation.bench.orchestration import measure

    return as_json(measure(rounds))


def studies(rounds: int) -> dict:
    from mae_ablation.bench.studies import measure

    return as_json(measure(rounds))


PARTS: dict[str, Callable[[int], dict]] = {
    part.__name__: part
    for part in (
        ceilings,
        steps,
        bfloat16,
        augmentation,
        probe,
        lanes,
        memory,
        growth,
        orchestration,
        studies,
    )
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mae_ablation.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5, help="of every pair (default: 5)")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="where to write")
    asked = parser.parse_args()
    if wrong := [name for name in asked.parts if name not in PARTS]:
        parser.error(f'unknown part "{wrong[0]}", must be one of {", ".join(PARTS)}')
    if asked.rounds < 1:
        parser.error("--rounds must be at least 1")
    if not RECIPES.is_dir():
        parser.error(f"{RECIPES} is not here: run it in a clone's top folder")
    for name in asked.parts or PARTS:
        began, here = time.monotonic(), about()
        print(f"{name} ...", flush=True)
        measured = PARTS[name](asked.rounds)
        if measured.get("rows") == []:
            print(f"{name}: cannot be measured here; what is known of it stays", flush=True)
            continue
        keep(asked.reports, name, here, measured)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    print(asked.reports / "performance.md")
    return 0


def about() -> dict:
    """Where and when."""
    return {
        "machine": machine.processor(),
        "commit": code_commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


if __name__ == "__main__":
    sys.exit(main())
