"""Tells how many lanes a cluster has room for, now and at most: pure functions of plain data.

Nodes are dictionaries of Ray's resources, such as {"CPU": 4.0, "GPU": 1.0}.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import floor
from pathlib import Path

from mae_ablation.errors import UserError
from mae_ablation.run.lanes import Lanes
from mae_ablation.run.ray_private import read_kuberay_config

Node = dict[str, float]
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""`ray up` puts its cluster file there, on the head"""
TINY = 1e-9  # 1 / 0.1 is a little less than 10
ACCELERATOR = "accelerator_type:"
"""Ray gives this resource to nodes with real GPUs, and none to those of tests"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """The nodes that an autoscaling cluster may start."""

    types: tuple[tuple[Node, int], ...] = ()
    """resources of a node of each type, and how many of them there may be"""
    workers: int = 0
    """nodes of all types together, without the head"""
    head: Node = field(default_factory=dict)
    lanes: int = 0
    """lanes to ask for where nothing says the types: `--autoscale`"""

    @classmethod
    def from_cluster_file(cls, cluster: dict) -> "Growth":
        """Read what the file of `ray up` says of node types."""
        types, workers = cluster.get("available_node_types") or {}, cluster.get("max_workers", 2)
        head = types.get(cluster.get("head_node_type")) or {}
        return cls(
            types=tuple(
                (kind.get("resources") or {}, kind.get("max_workers", workers))
                for kind in types.values()
                if kind is not head
            ),
            workers=workers,
            head=head.get("resources") or {},
        )

    @property
    def is_stated(self) -> bool:
        """True if nodes can be asked for; of machines of one's own (`local`) nothing is said."""
        return bool(self.lanes or self.types) and all(node for node, _ in self.types)

    def count_most(self, lanes: Lanes) -> int:
        """Count the lanes that there is room for once every node has started.

        Nodes with GPUs are not started for lanes without.
        """
        # the roomiest types first: an autoscaler may start any, and lanes are asked for at most
        left, places = self.workers, seats(self.head, lanes)
        kinds = [kind for kind in self.types if lanes.gpus or not kind[0].get("GPU")]
        for node, at_most in sorted(kinds, key=lambda each: -seats(each[0], lanes)):
            number = min(left, at_most)
            places += number * seats(node, lanes)
            left -= number
        return max(self.lanes, places // lanes.workers)


def read_growth() -> Growth | None:
    """Read what the cluster may grow by whose head this machine is; None: nothing says it grows.

    `ray up` leaves its file on the head; on Kubernetes the cluster's groups are asked for.
    """
    import yaml

    try:
        return Growth.from_cluster_file(yaml.safe_load(BOOTSTRAP.expanduser().read_text()))
    except (OSError, yaml.YAMLError):
        cluster = read_kuberay_config()
        return Growth.from_cluster_file(cluster) if cluster else None


def choose_gpus(lanes: Lanes, nodes: Sequence[Node], growth: Growth | None) -> Lanes:
    """Return the lanes with one GPU for each worker wherever nodes have any, or may have."""
    if lanes.gpus is not None:
        return lanes
    # node types count as well as nodes: at the start of a cluster there may be only its head
    types = [node for node, _ in growth.types] if growth else []
    return replace(lanes, gpus=1.0 if any(node.get("GPU") for node in (*nodes, *types)) else 0.0)


def seats(node: Node, lanes: Lanes) -> int:
    """Count the workers a node has room for. A worker's part of a GPU is of one GPU."""
    room = []
    for name, each in lanes.need.items():
        there = node.get(name, 0.0)
        # Ray gives parts of one GPU, never half of two
        if name == "GPU" and each < 1:
            room.append(int(there) * floor(1 / each + TINY))
        elif name.startswith(ACCELERATOR):
            room.append(int(1e6) if there else 0)
        else:
            room.append(floor(there / each + TINY))
    return min(room)


def count_room(nodes: Sequence[Node], lanes: Lanes) -> int:
    """Count the lanes that some nodes have room for; workers of one may be on several nodes."""
    return sum(seats(node, lanes) for node in nodes) // lanes.workers


def find_gpu_type(lanes: Lanes, nodes: Sequence[Node]) -> str | None:
    """Find the type of the GPUs that lanes may run on; None: there are several, or nobody knows."""
    usable = [node for node in nodes if lanes.gpus and seats(node, lanes)]
    types = {
        name.removeprefix(ACCELERATOR) for node in usable for name in node if ACCELERATOR in name
    }
    return types.pop() if len(types) == 1 else None


def fit_threads(lanes: Lanes, nodes: Sequence[Node]) -> Lanes:
    """Return the lanes with the threads that come to each worker.

    On one machine every core is used once; on several, a node's cores are shared by the workers
    that its GPUs have room for, and lanes without GPUs have one core each.
    """
    usable = [node for node in nodes if seats(node, lanes)]
    if len(nodes) == 1 and usable:
        # the lanes of one machine divide its cores, so that none is idle and none is shared
        cores = int(nodes[0].get("CPU", 1))
        count = lanes.count or max(1, count_room(nodes, lanes))
        return replace(lanes, cpus=max(1, cores // (count * lanes.workers)))
    if lanes.gpus and usable:
        shares = (int(node["CPU"]) // seats(node, lanes) for node in usable)
        return replace(lanes, cpus=max(1, min(shares)))
    return lanes


def choose_backend(lanes: Lanes, nodes: Sequence[Node]) -> str:
    """Choose torch.distributed's backend: NCCL refuses two workers on one GPU, and GPUs that are
    only numbers."""
    able = [node for node in nodes if seats(node, lanes)]
    real = all(any(name.startswith(ACCELERATOR) for name in node) for node in able)
    return "nccl" if lanes.workers > 1 and lanes.gpus >= 1 and able and real else "gloo"


def count_lanes(lanes: Lanes, nodes: Sequence[Node], growth: Growth | None) -> int:
    """Say how many lanes there may be.

    Raises:
        UserError: there will never be room for those asked for: Ray would wait for ever.
    """
    # there is room, or there will be
    there = count_room(nodes, lanes)
    if growth:
        there = max(there, growth.count_most(lanes))
    if there >= (lanes.count or 1):
        return lanes.count or there
    if growth and not growth.is_stated:  # workers that have not joined yet
        return lanes.count or 1

    # there never will be: what is lacking, and what to ask for instead
    remedy = f"--lanes {there}" if there else "leave out --gpus" if lanes.gpus else "fewer --lanes"
    if not there and lanes.workers > 1:
        remedy = "fewer --workers"
    if growth:
        raise UserError(f"{lanes}: the cluster grows to {there} of them: {remedy}")
    total = lanes.workers * (lanes.count or 1)
    for name, each in lanes.need.items():
        have = sum(node.get(name, 0.0) for node in nodes)
        if each * total > have:
            wanted = f"{lanes} need {each * total:g} {name}"
            raise UserError(f"{wanted}, the cluster has {have:g}: {remedy}")
    raise UserError(f"{lanes}: no room on the cluster's nodes: {remedy}")
