"""How many lanes a cluster has room for, now and at most: pure functions of plain data.

Nodes are dictionaries of Ray's resources, such as {"CPU": 4.0, "GPU": 1.0}.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import floor
from pathlib import Path

from mae_ablation.errors import UserError
from mae_ablation.run.lanes import Lanes

Node = dict[str, float]
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""`ray up` puts its cluster file there, on the head"""
TINY = 1e-9  # 1 / 0.1 is a little less than 10


def seats(node: Node, lanes: Lanes) -> int:
    """Count the workers a node has room for. A worker's part of a GPU is of one GPU."""
    room = []
    for name, each in lanes.need.items():
        there = node.get(name, 0.0)
        if name == "GPU" and each < 1:
            room.append(int(there) * floor(1 / each + TINY))
        elif name.startswith("accelerator_type:"):
            room.append(int(1e6) if there else 0)
        else:
            room.append(floor(there / each + TINY))
    return min(room)


def room(nodes: Sequence[Node], lanes: Lanes) -> int:
    """Count the lanes that some nodes have room for; workers of one may be on several nodes."""
    return sum(seats(node, lanes) for node in nodes) // lanes.workers


def fitted(lanes: Lanes, nodes: Sequence[Node]) -> Lanes:
    """Return the lanes with the threads that come to each worker.

    On one machine every core is used once; on several, a node's cores are shared by the workers
    that its GPUs have room for, and lanes without GPUs have one core each.
    """
    usable = [node for node in nodes if seats(node, lanes)]
    if len(nodes) == 1 and usable:
        cores = int(nodes[0].get("CPU", 1))
        count = lanes.count or max(1, room(nodes, lanes))
        return replace(lanes, cpus=max(1, cores // (count * lanes.workers)))
    if lanes.gpus and usable:
        shares = (int(node["CPU"]) // seats(node, lanes) for node in usable)
        return replace(lanes, cpus=max(1, min(shares)))
    return lanes


def backend(lanes: Lanes, nodes: Sequence[Node]) -> str:
    """Choose torch.distributed's backend.

    NCCL refuses two workers on one GPU, and GPUs that are only numbers: Ray knows the type of real
    ones.
    """
    able = [node for node in nodes if seats(node, lanes)]
    real = all(any(name.startswith("accelerator_type:") for name in node) for node in able)
    return "nccl" if lanes.workers > 1 and lanes.gpus >= 1 and able and real else "gloo"


def worker_types(cluster: dict) -> list[Node]:
    """Return the resources of the workers' node types of a cluster file."""
    types = cluster.get("available_node_types") or {}
    head = cluster.get("head_node_type")
    return [kind.get("resources") or {} for name, kind in types.items() if name != head]


def most(cluster: dict, nodes: Sequence[Node], lanes: Lanes) -> int:
    """Count the lanes that an autoscaling cluster of this file can grow to.

    Args:
        cluster: what `ray up` was given.
        nodes: the nodes it has now.
    """
    types = cluster.get("available_node_types") or {}
    head = cluster.get("head_node_type")
    left, sum_of_seats = cluster.get("max_workers", 2), 0
    if head in types:
        sum_of_seats += seats(types[head].get("resources") or {}, lanes)
    workers = [kind for name, kind in types.items() if name != head]
    for kind in sorted(workers, key=lambda k: -seats(k.get("resources") or {}, lanes)):
        number = min(left, kind.get("max_workers", left))
        sum_of_seats += number * seats(kind.get("resources") or {}, lanes)
        left -= number
    return max(sum_of_seats // lanes.workers, room(nodes, lanes))


def states_resources(cluster: dict) -> bool:
    """Tell if the file says what its workers have; that of machines one has (`local`) does not."""
    types = worker_types(cluster)
    return bool(types) and all(types)


def cluster_file(path: Path = BOOTSTRAP) -> dict | None:
    """Read the file of the autoscaling cluster whose head this machine is; None elsewhere."""
    import yaml

    try:
        return yaml.safe_load(path.expanduser().read_text())
    except (OSError, yaml.YAMLError):
        return None


def limit(lanes: Lanes, nodes: Sequence[Node], cluster: dict | None) -> int:
    """Say how many lanes there may be.

    Raises:
        UserError: there will never be room for those asked for: Ray would wait for ever.
    """
    there = most(cluster, nodes, lanes) if cluster else room(nodes, lanes)
    if there >= (lanes.count or 1):
        return lanes.count or there
    if cluster and not states_resources(cluster):  # workers that have not joined yet
        return lanes.count or 1
    if cluster:
        raise UserError(f"{lanes}: the cluster grows to {there} of them: {_remedy(there, lanes)}")
    total = lanes.workers * (lanes.count or 1)
    for name, each in lanes.need.items():
        have = sum(node.get(name, 0.0) for node in nodes)
        if each * total > have:
            wanted = f"{lanes} need {each * total:g} {name}"
            raise UserError(f"{wanted}, the cluster has {have:g}: {_remedy(there, lanes)}")
    raise UserError(f"{lanes}: no room on the cluster's nodes: {_remedy(there, lanes)}")


def _remedy(there: int, lanes: Lanes) -> str:
    if there:
        return f"--lanes {there}"
    if lanes.workers > 1:
        return "fewer --workers"
    return "leave out --gpus" if lanes.gpus else "use fewer --lanes"
