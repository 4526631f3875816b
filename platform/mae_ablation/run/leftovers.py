"""Leftovers of lanes: placement groups without a controller, controllers that nobody waits for.

Ray removes the placement group of a controller that died only while a dashboard runs (measured with
2.60): else it keeps its CPUs and GPUs, and the lane finds no room when it starts again.
"""

import contextlib
import os
import signal


def remove_leftovers() -> None:
    """Remove this job's placement groups whose maker is dead.

    Ray calls the maker of those that the driver itself has made (Tune's) a dead actor, too.
    """
    import ray
    from ray._private.state import state
    from ray._raylet import PlacementGroupID
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    job = ray.get_runtime_context().get_job_id()
    # who made a group is not in Ray's public table
    for row in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(row)
        mine = group.creator_job_id.hex() == job and group.creator_actor_dead
        made_by_driver = ray.ActorID(group.creator_actor_id).is_nil()
        if mine and not made_by_driver and group.state != PlacementGroupTableData.REMOVED:
            with contextlib.suppress(ray.exceptions.RayError):
                remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))


def kill_controllers() -> None:
    """End this job's lanes, whatever they are at; their controllers are on this machine."""
    import ray

    job = ray.get_runtime_context().get_job_id()
    for actor in ray._private.state.actors(job_id=ray.JobID.from_hex(job)).values():
        if actor["ActorClassName"] == "TrainController" and actor["State"] == "ALIVE":
            with contextlib.suppress(ProcessLookupError):
                os.kill(actor["Pid"], signal.SIGKILL)
