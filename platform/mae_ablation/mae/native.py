"""The C functions of fused.c: compiled once for a machine, in a second or two, and loaded.

Where there is no C compiler, or it fails, there are none, and torch's own operations are used.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from mae_ablation import machine

SOURCE = Path(__file__).with_name("fused.c")
FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]
THREADS = ["-fopenmp", "-fopenmp-simd"]
"""the second where a compiler has no OpenMP: one thread then computes"""
PATIENCE_S = 60


def compiler() -> str | None:
    """Path of the C compiler: what the environment's CC names, else cc."""
    return shutil.which(os.environ.get("CC") or "cc")


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """fused.c as this machine runs it. None: there is no C compiler, or it failed."""
    if compiler() is None:
        return None
    source = SOURCE.read_bytes()
    said = f"{compiler()} {FLAGS} {THREADS} {machine.processor()} {machine.instructions()}"
    name = hashlib.sha256(source + said.encode()).hexdigest()[:16]
    path = machine.cache() / f"fused-{name}.so"
    try:
        if not path.exists():
            build(path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None


def build(path: Path) -> None:
    """Compile to `path`, whole or not at all.

    Raises:
        CalledProcessError: the compiler failed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        for threads in THREADS:
            words = [compiler(), *FLAGS, threads, str(SOURCE), "-o", str(made), "-lm"]
            done = subprocess.run(words, capture_output=True, timeout=PATIENCE_S)
            if done.returncode == 0:
                break
        done.check_returncode()
        os.replace(made, path)
