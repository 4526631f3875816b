"""Ray's private parts that a run needs, checked with the version below and asked nowhere else.

Each function says what it is for and when it can go. `tests/test_ray_private.py` runs them with the
Ray that is installed; a version that has changed them fails there, and not in a run.
"""

import contextlib
import os
import signal
from pathlib import Path

CHECKED_WITH = "2.60.0"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def silence_dead_workers() -> None:
    """Drop the pages that Ray prints on every dead worker, which the driver tells in a line.

    Can go when `ray.init` has a setting for it.
    """
    import ray

    ray._private.worker.print_to_stdstream = lambda *arguments, **options: None


def dead_processes() -> list[str]:
    """Return the names of Ray's processes on this machine that have ended.

    Can go when Ray tells a driver that its node died, instead of ending it some seconds later.
    """
    import ray

    node = ray._private.worker._global_node
    return [name for name, _ in node.dead_processes()] if node else []


def remove_orphaned_groups() -> None:
    """Remove this job's placement groups whose maker, a lane's controller, is dead.

    Ray removes such a group only while a dashboard runs (measured with 2.60): else it keeps its
    CPUs and GPUs, and the lane finds no room when it starts again. Ray calls the maker of those
    that the driver itself has made (Tune's) a dead actor, too.

    Can go when Ray removes them, or when its public table of groups says who made each.
    """
    import ray
    from ray._private.state import state
    from ray._raylet import PlacementGroupID
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    job = ray.get_runtime_context().get_job_id()
    for row in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(row)
        mine = group.creator_job_id.hex() == job and group.creator_actor_dead
        made_by_driver = ray.ActorID(group.creator_actor_id).is_nil()
        if mine and not made_by_driver and group.state != PlacementGroupTableData.REMOVED:
            with contextlib.suppress(ray.exceptions.RayError):
                remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))


def kill_controllers() -> None:
    """End this job's lanes, whatever they are at; their controllers are on this machine.

    Can go when a TorchTrainer that is fitted in a thread can be stopped from another.
    """
    import ray

    job = ray.get_runtime_context().get_job_id()
    for actor in ray._private.state.actors(job_id=ray.JobID.from_hex(job)).values():
        if actor["ActorClassName"] == "TrainController" and actor["State"] == "ALIVE":
            with contextlib.suppress(ProcessLookupError):
                os.kill(actor["Pid"], signal.SIGKILL)


def read_kuberay_config() -> dict | None:
    """Ask Kubernetes for the groups of the cluster that this pod belongs to, as a cluster file has
    them; None: this is no such pod, or its cluster does not scale.

    KubeRay lets the service account of a head that scales read its cluster.

    Can go when Ray tells a driver what node types there are.
    """
    name, namespace = os.environ.get("RAY_CLUSTER_NAME"), SERVICE_ACCOUNT / "namespace"
    if not name or not namespace.is_file():
        return None
    from ray.autoscaler._private.kuberay import autoscaling_config

    producer = autoscaling_config.AutoscalingConfigProducer(name, namespace.read_text().strip())
    try:
        cluster = producer.kubernetes_api_client.get(f"rayclusters/{name}")
    except OSError:  # of requests: no way to the server, or no permission
        return None
    if not cluster["spec"].get("enableInTreeAutoscaling"):
        return None
    return autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)


def list_failed_launches() -> list[str]:
    """Return the nodes that the autoscaler could not start, each with its reason.

    Empty where nothing scales, and with the autoscaler of before Ray's second.

    Can go when Ray has a public function for `ray status`.
    """
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    failed = [(each.ray_node_type_name, each.details or "") for each in status.failed_launches]
    return [f"{kind}: {' '.join(reason.split())}" for kind, reason in dict.fromkeys(failed)]


def check_cluster_config(config: dict) -> None:
    """Have `ray up`'s own check look at what a cluster file holds, without asking a cloud.

    Can go when `ray up` has a flag that only checks.

    Raises:
        jsonschema.ValidationError, click.ClickException: Ray refuses it.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))
