"""Doctor: finds what of this machine would trouble a study, before one is started.

Every check is a function that gives one finding; none of them changes anything.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from mae_ablation.errors import one_line
from mae_ablation.store.files import try_writing
from mae_ablation.store.paths import expanded_place, is_remote
from mae_ablation.study import machine
from mae_ablation.study.trouble import remedy_of

OK, WARN, FAIL = "ok", "warn", "FAIL"
"""States: WARN means that a study runs, but; FAIL that it does not."""

DISTRIBUTION = "mae-ablation"
LANE_BYTES = 1.5e9  # of a CPU lane's process, laptop recipe; Ray itself takes as much once
DISK_BYTES = 2e9  # the paper's studies at laptop scale, with reports and MLflow
SHM_BYTES = 1e8


class Finding(NamedTuple):
    """The result of a check; the remedy is said only where it is not OK."""

    state: str
    name: str
    value: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy and self.state != OK else ""
        return f"{self.state:<4}  {self.name}: {self.value}{remedy}"


def examine_machine(
    store: str | Path, *, start: bool = False, gpu: bool = False
) -> Iterator[Finding]:
    """Yield all findings, one after the other as they are made.

    Args:
        store: folder or URI of the results.
        start: start Ray and stop it again.
        gpu: train a little on the GPU.
    """
    here = Path.cwd()
    yield Finding(OK, "Python", f"{sys.version.split()[0]} ({sys.executable})")
    yield check_torch()
    yield check_packages()
    yield check_ray(start)
    yield check_cores()
    yield check_memory()
    yield check_disk(here if is_remote(store) else expanded_place(store))
    yield check_store(store)
    yield check_mlflow(here)
    yield check_data()
    if gpu:
        yield from check_gpu()


def check_torch() -> Finding:
    """Check that torch can be imported, and sees the GPU that the system sees."""
    # a GPU beside a torch for CPUs is the commonest fault of an installation
    try:
        from mae_ablation.train.device import describe_devices
        from mae_ablation.train.hardware import explain_missing_gpu

        value = describe_devices()
    except (ImportError, OSError) as error:  # OSError: a library of it is not there
        return Finding(FAIL, "torch", str(error).splitlines()[0], "pip install torch")
    if machine.gpus() and not value.startswith("CUDA"):
        return Finding(WARN, "torch", f"{value}, beside a GPU", explain_missing_gpu())
    return Finding(OK, "torch", f"{version('torch')}, {value}")


def check_gpu() -> Iterator[Finding]:
    """Check that the GPU computes what a CPU does, in every precision."""
    from mae_ablation.train.device import describe_devices
    from mae_ablation.train.gpu_check import FIRST_POINTS, Bench
    from mae_ablation.train.hardware import explain_missing_gpu

    if not describe_devices().startswith("CUDA"):
        yield Finding(FAIL, "GPU", "torch finds none", explain_missing_gpu())
        return
    with tempfile.TemporaryDirectory(prefix="mae-ablation-") as place:
        bench = Bench("cuda", Path(place))
        for name, check in FIRST_POINTS.items():
            try:
                yield Finding(OK, f"GPU, {name}", check(bench))
            except Exception as error:  # whatever a driver or a library may raise
                more = "`python tests/gpu_smoke.py` of the repository checks more"
                yield Finding(FAIL, f"GPU, {name}", one_line(error), more)


def check_packages(distribution: str = DISTRIBUTION) -> Finding:
    """Check that versions are within the ranges that the package asks for."""
    try:
        from packaging.requirements import Requirement

        asked = [Requirement(line) for line in requires(distribution) or ()]
    except (PackageNotFoundError, ImportError):  # `packaging` comes with Ray
        value = f"{distribution} or its packages are not installed"
        return Finding(WARN, "versions", value, "pip install -e .")

    # those of an extra, such as dev, have a marker
    wrong = []
    for each in (each for each in asked if each.marker is None):
        try:
            found = version(each.name)
        except PackageNotFoundError:
            wrong.append(f"{each.name} is missing")
            continue
        if not each.specifier.contains(found, prereleases=True):
            wrong.append(f"{each.name} {found} is not {each.specifier}")
    value = "; ".join(wrong) or f"all {len(asked)} packages within pyproject's ranges"
    return Finding(FAIL if wrong else OK, "versions", value, "pip install -e . -c constraints.txt")


def check_ray(start: bool = False) -> Finding:
    """Check what Ray needs; it is started only if asked."""
    from mae_ablation.run.ray_session import shared_memory, socket_path_left, try_start

    # sockets have paths of 107 characters at most, and Ray's lie deep in its temporary folder
    if find_spec("ray") is None:
        return Finding(FAIL, "Ray", "missing", "pip install 'ray[train]'")
    value = version("ray")
    if (left := socket_path_left()) < 0:
        value += f", its temporary folder's path is {-left} characters too long"
        return Finding(FAIL, "Ray", value, "set RAY_TMPDIR=/tmp")
    if start:
        why = try_start()
        value += f": {why}" if why else ", started and stopped"
        return Finding(FAIL if why else OK, "Ray", value, "see /tmp/ray")

    # containers have 64 MB of shared memory by default
    free = shared_memory()
    if free is not None and free < SHM_BYTES:
        value += f", /dev/shm has {free / 1e6:.0f} MB left"
        return Finding(WARN, "Ray", value, "docker run --shm-size=1g")
    return Finding(OK, "Ray", f"{value}, not started (--start tries)")


def check_cores() -> Finding:
    """Check cores, a container's limit on them, and threads that are set against the lanes."""
    # half a core less than there are is rounding, not a limit
    number, quota = machine.cores(), machine.cpu_quota()
    value = f"{number}, so as many lanes by default"
    if quota is not None and quota < number - 0.5:
        value += f"; this container may use {quota:g}"
        return Finding(WARN, "cores", value, f"--lanes {max(1, int(quota))}")
    if threads := os.environ.get("OMP_NUM_THREADS"):
        value += f"; OMP_NUM_THREADS={threads}, which lanes set themselves"
    return Finding(OK, "cores", value)


def check_memory() -> Finding:
    """Check that as many lanes as cores have room in memory."""
    # some systems do not say
    free = machine.free_memory()
    if free is None:
        return Finding(OK, "memory", "unknown on this system")
    fit = int((free - LANE_BYTES) // LANE_BYTES)
    value = f"{free / 1e9:.1f} GB free, some {LANE_BYTES / 1e9:g} GB a lane at laptop scale"
    state = OK if fit >= machine.cores() else WARN if fit >= 1 else FAIL
    return Finding(state, "memory", value, f"--lanes {fit}" if fit >= 1 else "end other programs")


def check_disk(folder: str | Path) -> Finding:
    """Check that the paper's studies at laptop scale have room."""
    free = machine.free_disk(folder)
    state = OK if free >= DISK_BYTES else WARN if free >= DISK_BYTES / 10 else FAIL
    remedy = "`plan` says what a study needs; --store chooses another place"
    return Finding(state, "disk", f"{free / 1e9:.1f} GB free", remedy)


def check_store(store: str | Path) -> Finding:
    """Check that results can be written."""
    try:
        try_writing(store)
    except (OSError, ValueError) as error:  # ValueError: an unknown scheme
        return Finding(FAIL, "store", f"{store}: {error}", "--store chooses another place")
    return Finding(OK, "store", f"{store} is writable")


def check_mlflow(root: Path) -> Finding:
    """Check that MLflow answers; training never waits for it, so this only warns."""
    from mae_ablation.tracking.address import find_trouble, tracking_place

    where, why = tracking_place(root), find_trouble(root)
    if why:
        later = "studies run and catch up later; or unset MLFLOW_TRACKING_URI"
        return Finding(WARN, "MLflow", f"{where}: {why}", remedy_of(why, later))
    return Finding(OK, "MLflow", where)


def check_data() -> Finding:
    """Check that the bundled set is there; others are only named."""
    from mae_ablation.data.sets import FASHION_MNIST
    from mae_ablation.recipe.recipe import Data
    from mae_ablation.registry import component_names

    if not FASHION_MNIST.is_file():
        return Finding(FAIL, "data", f"{FASHION_MNIST} is not there", "install the package again")
    # a folder of the user's own has no classes before it is named
    sets = [Data(name=name) for name in component_names("dataset")]
    bundled, *found = (each.name for each in sets if not each.set.missing(each))
    absent = [each.name for each in sets if each.set.missing(each) and each.set.classes]
    value = f"{bundled} is bundled{''.join(', ' + name for name in found)}"
    return Finding(OK, "data", f"{value}; not in ./data: {', '.join(absent)}")
