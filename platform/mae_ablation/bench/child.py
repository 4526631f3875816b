"""Child: a module of this package as a process of its own, which answers with a line of JSON."""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mae_ablation.run import children

ROOT = Path(__file__).parents[2]
LINES = 20  # of what a child that failed said last
ELSEWHERE = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")  # what is measured stays on this machine


def run_module(module: str, *words: object, cwd: Path | None = None) -> tuple[str, float]:
    """Stdout of `python -m module words`, and its wall clock from start to end.

    Args:
        cwd: default: the folder of temporary files, since a clone's `platform` folder would stand
            in for the standard library's module.

    Raises:
        RuntimeError: it failed, with the end of what it said.
    """
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = children.start(
            [sys.executable, "-m", module, *map(str, words)],
            stdout=out,
            stderr=err,
            cwd=cwd or tempfile.gettempdir(),
            env=environment(),
        )
        try:
            status = process.wait()
        finally:
            children.end(process)
        seconds = time.perf_counter() - began
        told = [stream.read() for stream in (out, err) if stream.seek(0) == 0]
    if status:
        said = "\n".join("".join(told).splitlines()[-LINES:])
        raise RuntimeError(f"python -m {module} ended with {status}:\n{said}")
    return told[0], seconds


def answer_of(module: str, *words: object) -> tuple[dict[str, Any], float]:
    """What the last line of the module's stdout holds, and its wall clock."""
    said, seconds = run_module(module, *words)
    return json.loads(said.splitlines()[-1]), seconds


def environment() -> dict[str, str]:
    """Of a child: this package first, and nothing that names another machine."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    kept = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    return {**kept, "PYTHONPATH": path}
