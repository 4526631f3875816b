"""Doctor: what of this machine would trouble a study, before one is started.

Every check is a function that gives one finding; none of them changes anything.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from mae_ablation.store.files import require_writable
from mae_ablation.store.paths import expanded_place, is_remote
from mae_ablation.study import machine
from mae_ablation.study.trouble import remedy_of

OK, WARN, FAIL = "ok", "warn", "FAIL"
DISTRIBUTION = "mae-ablation"
LEAST_PYTHON = (3, 11)
LANE_BYTES = 1.5e9  # of a CPU lane's process, laptop recipe; Ray itself takes as much once
DISK_BYTES = 2e9  # the paper's studies at laptop scale, with reports and MLflow
SHM_BYTES = 1e8


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The result of a check."""

    state: str
    """"ok", "warn" (a study runs, but) or "FAIL" (it does not) """
    name: str
    value: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy and self.state != OK else ""
        return f"{self.state:<4}  {self.name}: {self.value}{remedy}"


def examine(store: str | Path, *, start: bool = False) -> Iterator[Finding]:
    """All findings, one after the other as they are made.

    Args:
        store: folder or URI of the results.
        start: start Ray and stop it again.
    """
    here = Path.cwd()
    yield python()
    yield torch_device()
    yield packages()
    yield ray(start)
    yield cores()
    yield memory()
    yield disk(here if is_remote(store) else expanded_place(store))
    yield store_writable(store)
    yield mlflow(here)
    yield data()
    yield shadow()


def python(found: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    least = ".".join(map(str, LEAST_PYTHON))
    return Finding(
        state=OK if found >= LEAST_PYTHON else FAIL,
        name="Python",
        value=f"{'.'.join(map(str, found))} ({sys.executable})",
        remedy=f"{least} or later is needed",
    )


def torch_device() -> Finding:
    try:
        from mae_ablation.train.device import describe_devices

        value = describe_devices()
    except (ImportError, OSError) as error:  # OSError: a library of it is not there
        reason = str(error).splitlines()[0]
        return Finding(state=FAIL, name="torch", value=reason, remedy="pip install torch")
    if machine.gpus() and not value.startswith("CUDA"):
        remedy = "this torch is built without CUDA: see pytorch.org"
        return Finding(state=WARN, name="torch", value=f"{value}, beside a GPU", remedy=remedy)
    return Finding(state=OK, name="torch", value=f"{version('torch')}, {value}")


def packages() -> Finding:
    """Versions within the ranges that the package asks for."""
    try:
        from packaging.requirements import Requirement

        asked = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except (PackageNotFoundError, ImportError):  # `packaging` comes with Ray
        value = f"{DISTRIBUTION} or its packages are not installed"
        return Finding(state=WARN, name="versions", value=value, remedy="pip install -e .")
    wrong = [
        fault for each in asked if each.marker is None and (fault := out_of_range(each.name, each))
    ]
    value = "; ".join(wrong) or f"all {len(asked)} packages within pyproject's ranges"
    remedy = "pip install -e . -c constraints.txt"
    return Finding(state=FAIL if wrong else OK, name="versions", value=value, remedy=remedy)


def out_of_range(name: str, requirement) -> str:
    """Say what is wrong with a package's version; "" if nothing is."""
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"{name} is missing"
    if requirement.specifier.contains(found, prereleases=True):
        return ""
    return f"{name} {found} is not {requirement.specifier}"


def ray(start: bool = False) -> Finding:
    """Check what Ray needs; it is started only if asked."""
    from mae_ablation.run.readiness import shared_memory, socket_path_left, starts

    if find_spec("ray") is None:
        return Finding(state=FAIL, name="Ray", value="missing", remedy="pip install 'ray[train]'")
    value = version("ray")
    if (left := socket_path_left()) < 0:
        value += f", its temporary folder's path is {-left} characters too long"
        return Finding(state=FAIL, name="Ray", value=value, remedy="set RAY_TMPDIR=/tmp")
    if start:
        why = starts()
        value += f": {why}" if why else ", started and stopped"
        return Finding(state=FAIL if why else OK, name="Ray", value=value, remedy="see /tmp/ray")
    free = shared_memory()
    if free is not None and free < SHM_BYTES:
        value += f", /dev/shm has {free / 1e6:.0f} MB left"
        return Finding(state=WARN, name="Ray", value=value, remedy="docker run --shm-size=1g")
    return Finding(state=OK, name="Ray", value=f"{value}, not started (--start tries)")


def cores() -> Finding:
    """Cores, a container's limit on them, and threads that would be set against the lanes."""
    number, quota = machine.cores(), machine.cpu_quota()
    value = f"{number}, so as many lanes by default"
    if quota is not None and quota < number - 0.5:
        value += f"; this container may use {quota:g}"
        remedy = f"--lanes {max(1, int(quota))}"
        return Finding(state=WARN, name="cores", value=value, remedy=remedy)
    if threads := os.environ.get("OMP_NUM_THREADS"):
        value += f"; OMP_NUM_THREADS={threads}, which lanes set themselves"
    return Finding(state=OK, name="cores", value=value)


def memory(free: int | None = None) -> Finding:
    free = machine.free_memory() if free is None else free
    if free is None:
        return Finding(state=OK, name="memory", value="unknown on this system")
    lanes = machine.cores()
    fit = int((free - LANE_BYTES) // LANE_BYTES)
    value = f"{free / 1e9:.1f} GB free, some {LANE_BYTES / 1e9:g} GB a lane at laptop scale"
    state = OK if fit >= lanes else WARN if fit >= 1 else FAIL
    remedy = f"--lanes {fit}" if fit >= 1 else "end other programs"
    return Finding(state=state, name="memory", value=value, remedy=remedy)


def disk(folder: str | Path) -> Finding:
    free = machine.free_disk(folder)
    state = OK if free >= DISK_BYTES else WARN if free >= DISK_BYTES / 10 else FAIL
    remedy = "`plan` says what a study needs; --store chooses another place"
    return Finding(state=state, name="disk", value=f"{free / 1e9:.1f} GB free", remedy=remedy)


def store_writable(store: str | Path) -> Finding:
    try:
        require_writable(store)
    except (OSError, ValueError) as error:  # ValueError: an unknown scheme
        remedy = "--store chooses another place"
        return Finding(state=FAIL, name="store", value=f"{store}: {error}", remedy=remedy)
    return Finding(state=OK, name="store", value=f"{store} is writable")


def mlflow(root: Path) -> Finding:
    from mae_ablation.tracking.address import find_trouble, tracking_place

    where, why = tracking_place(root), find_trouble(root)
    if why:  # training never waits for tracking
        later = "studies run and catch up later; or unset MLFLOW_TRACKING_URI"
        remedy = remedy_of(why, later)
        return Finding(state=WARN, name="MLflow", value=f"{where}: {why}", remedy=remedy)
    return Finding(state=OK, name="MLflow", value=where)


def data() -> Finding:
    """The bundled set must be there; others are only named."""
    from mae_ablation.data.sets import FASHION_MNIST
    from mae_ablation.recipe.recipe import Data
    from mae_ablation.registry import component_names

    if not FASHION_MNIST.is_file():
        remedy = "install the package again"
        value = f"{FASHION_MNIST} is not there"
        return Finding(state=FAIL, name="data", value=value, remedy=remedy)
    sets = [Data(name=name) for name in component_names("dataset")]
    bundled, *found = (each.name for each in sets if not each.set.missing(each))
    absent = [each.name for each in sets if each.set.missing(each) and each.set.classes]
    value = f"{bundled} is bundled{''.join(', ' + name for name in found)}"
    return Finding(state=OK, name="data", value=f"{value}; not in ./data: {', '.join(absent)}")


def shadow() -> Finding:
    """In a clone, `import platform` finds our folder: it has to stand in for the library's."""
    import platform

    if not callable(getattr(platform, "system", None)):
        where = getattr(platform, "__path__", [platform])
        return Finding(
            state=FAIL,
            name="platform",
            value=f"{list(where)[0]} hides the standard library's module of that name",
            remedy="start elsewhere: python -m mae_ablation",
        )
    place = Path(str(platform.__file__)).parent
    return Finding(state=OK, name="platform", value=f"{place} works as the standard module")
