"""Request: what the user asked for, whole; made once, by the command line or a notebook.

Its fields are the flags of `run` and `plan`, and their texts below are the help.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from mae_ablation.errors import UserError
from mae_ablation.store.paths import expanded
from mae_ablation.study.flags import (
    Count,
    File,
    Folder,
    GpuShare,
    Hours,
    LaneCount,
    Phases,
    Plugins,
    Price,
    StorePlace,
)
from mae_ablation.study.shipped import find_study

if TYPE_CHECKING:
    from mae_ablation.study.speed import Machine

LOCAL_STORE = "store"
STUDY, LANES, PLACE, BUDGET = (
    Group(name, sort_key=place)
    for place, name in enumerate(("Study", "Lanes", "Place", "Budget and estimate"))
)


@dataclass(frozen=True)
class Selection:
    """Studies, what is changed of them, and where their results and reports lie."""

    studies: Annotated[tuple[File, ...], Parameter(metavar="STUDY.yaml")]
    """files of studies or of suites of them, or names of those that ship: mask_ratio"""
    _: KW_ONLY
    recipe: Annotated[str | None, Parameter(group=STUDY, metavar="NAME")] = None
    """another recipe than the study's: a name or a file"""
    changes: Annotated[
        tuple[str, ...], Parameter(name="--set", group=STUDY, metavar="FIELD=VALUE")
    ] = ()
    """change a field of the recipe, text as it stands; may be given several times"""
    seeds: Annotated[Count | None, Parameter(group=STUDY)] = None
    """take seeds 0 to N-1"""
    until_decided: Annotated[bool, Parameter(group=STUDY)] = False
    """take more seeds for the rows that the study's seeds (3 or more) have not decided"""
    most: Annotated[Count | None, Parameter(group=STUDY)] = None
    """take N seeds at most, until decided (default: 20)"""
    phases: Annotated[Phases, Parameter(group=STUDY)] = ()
    """phases instead of the study's, separated by commas"""
    plugins: Annotated[Plugins, Parameter(group=STUDY)] = ()
    store: Annotated[StorePlace, Parameter(group=STUDY)] = LOCAL_STORE
    reports: Annotated[Folder, Parameter(group=STUDY)] = Path("reports")
    """write reports into this folder (default: ./reports)"""

    def __post_init__(self) -> None:
        """Take what a notebook is likely to pass: one file, texts for paths, lists for tuples."""
        given = self.studies
        several = isinstance(given, Sequence) and not isinstance(given, str)
        plain = {
            "studies": tuple(find_study(study) for study in (given if several else [given])),
            "changes": tuple(self.changes),
            "phases": tuple(self.phases),
            "plugins": tuple(map(str, self.plugins)),
            "store": str(self.store),
            "reports": expanded(self.reports),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Request(Selection):
    """A selection with where it runs, how long, and what an hour costs."""

    lanes: Annotated[LaneCount, Parameter(group=LANES)] = None
    """run N trials side by side (default: auto, as many as there is room for)"""
    workers: Annotated[Count, Parameter(group=LANES)] = 1
    """have N workers of each lane train one trial together (default: 1)"""
    gpus: Annotated[GpuShare, Parameter(group=LANES)] = None
    """give each worker so much of a GPU, 0: train on CPUs (default: auto, 1 where there are any)"""
    micro_batch: Annotated[Count | None, Parameter(group=LANES)] = None
    """images per forward pass of a worker, the rest is accumulated (default: what fits)"""
    accelerator: Annotated[str | None, Parameter(group=LANES, metavar="TYPE")] = None
    """take GPUs of this type, as Ray names it: A10G"""
    local: Annotated[bool, Parameter(group=PLACE)] = False
    """run on this machine"""
    address: Annotated[str | None, Parameter(group=PLACE, metavar="A")] = None
    """run on the Ray cluster at this address"""
    autoscale: Annotated[Count | None, Parameter(group=PLACE)] = None
    """ask the cluster at the address for nodes, until N lanes run"""
    cluster: Annotated[File | None, Parameter(group=PLACE)] = None
    """run on the cluster that `ray up FILE` has started (default: cluster.yaml, if it is up)"""
    hours: Annotated[Hours | None, Parameter(group=BUDGET)] = None
    """leave after so long; what is decided by then is valid"""
    gpu_hours: Annotated[Hours | None, Parameter(group=BUDGET)] = None
    """leave after so many hours of all the GPUs of the lanes together"""
    price: Annotated[Price | None, Parameter(name="--price-per-gpu-hour", group=BUDGET)] = None
    """price of a GPU-hour in any currency; the estimate then says the money"""
    max_cost: Annotated[Price | None, Parameter(group=BUDGET)] = None
    """leave when the lanes' GPUs have cost so much, at the price of a GPU-hour"""

    def __post_init__(self) -> None:
        """Raise a UserError for what cannot be meant."""
        super().__post_init__()
        for name in ("seeds", "most", "lanes", "workers", "micro_batch", "autoscale"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                message = f"{value} is too few: give a whole number from 1"
                raise UserError(message, f"--{name.replace('_', '-')}")
        # one place, and money only for what costs some
        places = {"--local": self.local, "--address": self.address, "--cluster": self.cluster}
        named = [flag for flag, value in places.items() if value]
        if len(named) > 1:
            raise UserError(f"{' and '.join(named)} name two places: leave one out", named[1])
        if self.autoscale and (self.local or self.cluster):
            message = "it is for a cluster at an --address: leave it out"
            raise UserError(message, "--autoscale")
        if self.max_cost is not None and not self.price:
            raise UserError("it needs a price: add --price-per-gpu-hour P", "--max-cost")
        if self.gpus == 0:
            self.require_no_gpu_costs("--gpus 0 asks for no GPU: leave it out")

    def require_no_gpu_costs(self, why: str) -> None:
        """Raise a UserError if GPU-hours are to be limited or priced where there are none."""
        for flag, value in (("--price-per-gpu-hour", self.price), ("--gpu-hours", self.gpu_hours)):
            if value is not None:
                raise UserError(why, flag)

    def machine(self, *, local: bool) -> "Machine":
        """Return the machine it would run on, as far as that is known before Ray is started.

        Raises:
            UserError: GPU-hours are to be limited or priced, and this machine has no GPU.
        """
        from mae_ablation.study.machine import gpus
        from mae_ablation.study.speed import machine_of

        # elsewhere there are GPUs, unless they are not wanted
        found = self.gpus
        if found is None:
            found = 1.0 if not local or gpus() else 0.0
        if not found:
            self.require_no_gpu_costs("this machine has no GPU: add --gpus 1 to plan with one")
        return machine_of(lanes=self.lanes, workers=self.workers, gpus=found, local=local)
