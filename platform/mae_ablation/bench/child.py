"""Child: a module of this package as a process of its own, which answers with a line of JSON."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

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
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=cwd or tempfile.gettempdir(),
        env=environment(),
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-LINES:])
        raise RuntimeError(f"python -m {module} ended with {done.returncode}:\n{said}")
    return done.stdout, seconds


def answer_of(module: str, *words: object) -> tuple[dict[str, Any], float]:
    """What the last line of the module's stdout holds, and its wall clock."""
    said, seconds = run_module(module, *words)
    return json.loads(said.splitlines()[-1]), seconds


def environment() -> dict[str, str]:
    """Of a child: this package first, and nothing that names another machine."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    kept = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    return {**kept, "PYTHONPATH": path}
