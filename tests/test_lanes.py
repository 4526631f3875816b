"""Lanes: how many, how large, and where there is room for them."""

from dataclasses import replace
from functools import partial

import pytest
import yaml

from mae_ablation.errors import UserError
from mae_ablation.launch.cluster_file import template
from mae_ablation.registry import preparations
from mae_ablation.run import capacity, ray_private
from mae_ablation.run.capacity import (
    Growth,
    choose_backend,
    choose_gpus,
    count_lanes,
    count_room,
    fit_threads,
    seats,
)
from mae_ablation.run.lane_pool import explain_end
from mae_ablation.run.lanes import Lanes, batch_sizes, division_lines

LAPTOP = {"CPU": 8.0}
GPU_NODE = {"CPU": 4.0, "GPU": 1.0, "accelerator_type:A10G": 1.0}
HEAD = {"CPU": 4.0}


def test_on_one_machine_every_core_is_used_once():
    for lanes, count, cpus in [
        (Lanes(), 8, 1),
        (Lanes(count=1), 1, 8),
        (Lanes(count=3), 3, 2),
        (Lanes(workers=2), 4, 1),
        (Lanes(count=2, workers=2), 2, 2),
    ]:
        shape = fit_threads(lanes, [LAPTOP])
        assert (count_lanes(shape, [LAPTOP], None), shape.cpus) == (count, cpus)


def test_with_gpus_the_gpus_decide():
    machine = {"CPU": 64.0, "GPU": 8.0}
    whole, quarter = Lanes(gpus=1), Lanes(gpus=0.25)
    assert count_lanes(fit_threads(whole, [machine]), [machine], None) == 8
    assert fit_threads(whole, [machine]).cpus == 8
    assert count_lanes(fit_threads(quarter, [machine]), [machine], None) == 32
    assert seats({"CPU": 8.0, "GPU": 2.0}, Lanes(gpus=0.4)) == 4, "a part of a GPU is of one GPU"


def test_on_a_cluster_the_head_without_gpu_stays_free():
    nodes = [HEAD, GPU_NODE, GPU_NODE]
    assert count_room(nodes, Lanes(gpus=1)) == 2
    assert fit_threads(Lanes(gpus=1), nodes).cpus == 4
    assert count_room(nodes, Lanes(gpus=1, workers=2)) == 1, "a lane over two nodes"
    assert count_room(nodes, Lanes(gpus=1, accelerator="A10G")) == 2
    assert count_room(nodes, Lanes(gpus=1, accelerator="H100")) == 0


def test_nccl_for_whole_gpus_that_are_real():
    numbers = {"CPU": 4.0, "GPU": 1.0}
    pair = Lanes(gpus=1, workers=2)
    assert choose_backend(pair, [HEAD, GPU_NODE, GPU_NODE]) == "nccl"
    assert choose_backend(pair, [HEAD, GPU_NODE, numbers]) == "gloo"
    assert choose_backend(Lanes(gpus=0.5, workers=2), [GPU_NODE]) == "gloo"
    assert choose_backend(Lanes(gpus=1), [GPU_NODE]) == "gloo"


GROWTH = Growth.from_cluster_file(
    {
        "max_workers": 5,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 4, "GPU": 0}},
            "small": {"resources": {"CPU": 4, "GPU": 1}},
            "large": {"resources": {"CPU": 32, "GPU": 8}, "max_workers": 1},
        },
    }
)


def test_a_cluster_that_scales_has_room_for_what_it_can_become():
    lanes = Lanes(gpus=1)
    assert GROWTH.count_most(lanes) == 8 + 4
    assert count_lanes(lanes, [HEAD], GROWTH) == 12
    assert count_lanes(replace(lanes, count=3), [HEAD], GROWTH) == 3
    with pytest.raises(UserError, match="grows to 12 of them: --lanes 12"):
        count_lanes(replace(lanes, count=20), [HEAD], GROWTH)


AUTO = Lanes(gpus=None)


def test_one_gpu_for_each_worker_wherever_there_are_any_or_may_be():
    for nodes, growth, gpus in [
        ([LAPTOP], None, 0),
        ([{"CPU": 64.0, "GPU": 8.0}], None, 1),
        ([HEAD, GPU_NODE], None, 1),
        ([HEAD], GROWTH, 1),
        ([HEAD], Growth(lanes=8), 0),
    ]:
        assert choose_gpus(AUTO, nodes, growth).gpus == gpus
    assert choose_gpus(Lanes(gpus=0), [GPU_NODE], None).gpus == 0, "on purpose"
    assert choose_gpus(Lanes(gpus=0.5), [GPU_NODE], None).gpus == 0.5


def test_the_type_of_the_gpus_is_known_where_all_nodes_have_the_same():
    other = {"CPU": 4.0, "GPU": 1.0, "accelerator_type:H100": 1.0}
    assert capacity.find_gpu_type(Lanes(gpus=1), [HEAD, GPU_NODE, GPU_NODE]) == "A10G"
    assert capacity.find_gpu_type(Lanes(gpus=1), [GPU_NODE, other]) is None
    assert capacity.find_gpu_type(Lanes(gpus=0), [GPU_NODE]) is None
    assert str(Lanes(count=8, cpus=4, gpus=1, gpu_type="A10G")) == "8 lanes x 4 threads and 1 A10G"


def test_lanes_without_gpus_start_no_nodes_with_gpus():
    """The head's four cores, and not the 32 beside eight GPUs."""
    assert GROWTH.count_most(Lanes(gpus=0)) == 4
    assert count_lanes(Lanes(gpus=0), [HEAD], GROWTH) == 4


def test_a_cluster_at_an_address_grows_as_far_as_one_says():
    assert count_lanes(Lanes(), [HEAD], Growth(lanes=20)) == 20
    assert Growth(lanes=20).is_stated and not Growth(types=(({}, 2),), workers=2).is_stated
    with pytest.raises(UserError, match="grows to 20 of them: --lanes 20"):
        count_lanes(Lanes(count=21), [HEAD], Growth(lanes=20))


@pytest.mark.parametrize("name", ["aws", "kubernetes"])
def test_the_shipped_clusters_run_a_lane_on_every_gpu(name, tmp_path, monkeypatch):
    """Both start with nothing but a head."""
    text = template(name)
    if name == "aws":
        (tmp_path / "bootstrap.yaml").write_text(text)
        monkeypatch.setattr(capacity, "BOOTSTRAP", tmp_path / "bootstrap.yaml")
    else:
        serve_kubernetes(yaml.safe_load(text), tmp_path, monkeypatch)
    growth = capacity.read_growth()
    head = {name: float(number) for name, number in growth.head.items()}
    lanes = choose_gpus(AUTO, [head], growth)
    lanes = fit_threads(lanes, [head, *(node for node, _ in growth.types)])
    assert (lanes.gpus, lanes.cpus, count_lanes(lanes, [head], growth)) == (1, 4, 8)


def serve_kubernetes(job, place, monkeypatch):
    """A pod of the job's cluster, and a Kubernetes that answers for it."""
    from ray.autoscaler._private.kuberay import node_provider

    spec = job["spec"]["rayClusterSpec"]
    cluster = {"metadata": {"name": "x", "namespace": "mine"}, "spec": spec}

    class Server:
        def __init__(self, namespace):
            assert namespace == "mine"

        def get(self, path):
            assert path == "rayclusters/x"
            return cluster

    (place / "namespace").write_text("mine\n")
    monkeypatch.setattr(capacity, "BOOTSTRAP", place / "none")
    monkeypatch.setattr(ray_private, "SERVICE_ACCOUNT", place)
    monkeypatch.setattr(node_provider, "KubernetesHttpApiClient", Server)
    monkeypatch.setenv("RAY_CLUSTER_NAME", "x")
    return cluster


def test_a_cluster_on_kubernetes_that_does_not_scale_is_as_large_as_it_is(tmp_path, monkeypatch):
    cluster = serve_kubernetes(yaml.safe_load(template("kubernetes")), tmp_path, monkeypatch)
    del cluster["spec"]["enableInTreeAutoscaling"]
    assert capacity.read_growth() is None
    monkeypatch.delenv("RAY_CLUSTER_NAME")
    assert capacity.read_growth() is None, "no pod at all"


def test_ray_s_scheduler_starts_gpu_machines_for_gpu_lanes_and_none_for_cpu_lanes():
    """Ray's own scorer, with the shipped cluster file and what a run asks for."""
    from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
    from ray.autoscaler._private.resource_demand_scheduler import (
        _default_utilization_scorer,
        get_nodes_for,
    )

    scorer = partial(
        _default_utilization_scorer, node_availability_summary=NodeAvailabilitySummary({})
    )
    types = yaml.safe_load(template("aws"))["available_node_types"]
    growth = Growth.from_cluster_file(yaml.safe_load(template("aws")))
    head = {name: float(number) for name, number in growth.head.items()}

    def started(lanes):
        lanes = fit_threads(lanes, [head, *(node for node, _ in growth.types)])
        need = [lanes.need] * (count_lanes(lanes, [head], growth) * lanes.workers)
        room = [dict(head)]
        for bundle in list(need):  # what the head takes needs no other machine
            fits = next((n for n in room if all(n.get(k, 0) >= v for k, v in bundle.items())), None)
            if fits:
                need.remove(bundle)
                for name, number in bundle.items():
                    fits[name] -= number
        nodes, _ = get_nodes_for(types, {}, "head", 8, need, utilization_scorer=scorer)
        return nodes

    assert started(choose_gpus(AUTO, [head], growth)) == {"gpu": 8}
    assert started(Lanes(gpus=0)) == {}


def test_ray_s_newer_scheduler_starts_gpu_machines_and_pods_from_none_at_all():
    """The shipped cluster file, and the groups of the RayJob as KubeRay hands them to Ray."""
    from ray.autoscaler._private.kuberay import autoscaling_config
    from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import ClusterResourceConstraint

    job = yaml.safe_load(template("kubernetes"))["spec"]["rayClusterSpec"]
    pods = {"metadata": {"name": "x", "namespace": "y"}, "spec": job}
    kuberay = autoscaling_config._derive_autoscaling_config_from_ray_cr(pods)

    for cluster in (yaml.safe_load(template("aws")), kuberay):
        growth = Growth.from_cluster_file(cluster)
        lanes = choose_gpus(AUTO, [growth.head], growth)
        need = [lanes.need] * count_lanes(lanes, [growth.head], growth)
        asked = ClusterResourceConstraint(
            resource_requests=ResourceRequestUtil.group_by_count(
                [ResourceRequestUtil.make(bundle) for bundle in need]
            )
        )
        types = {
            name: NodeTypeConfig(
                name=name,
                min_worker_nodes=kind.get("min_workers", 0),
                max_worker_nodes=kind.get("max_workers", 0),
                resources=kind["resources"],
            )
            for name, kind in cluster["available_node_types"].items()
            if name != cluster["head_node_type"]
        }
        request = SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=types,
            max_num_nodes=9,  # the head is one
            cluster_resource_constraints=[asked],
        )
        launches = ResourceDemandScheduler().schedule(request).to_launch
        assert {each.instance_type: each.count for each in launches} == {"gpu": 8}


@pytest.mark.parametrize(
    ("lanes", "message"),
    [
        (Lanes(count=9), "9 lanes x 1 thread need 9 CPU, the cluster has 8: --lanes 8"),
        (Lanes(gpus=0.5), "need 0.5 GPU, the cluster has 0: leave out --gpus"),
        (Lanes(workers=9), "x 9 workers x 1 thread need 9 CPU, the cluster has 8: fewer --workers"),
    ],
)
def test_asking_for_more_than_there_is_is_one_line(lanes, message):
    with pytest.raises(UserError, match=message):
        count_lanes(fit_threads(lanes, [LAPTOP]), [LAPTOP], None)


def test_what_is_fitted_before_a_pre_training_has_no_batch_to_divide(toy):
    assert preparations()
    assert batch_sizes(toy, ["pretrain", *preparations()]) == {"pretrain": toy.pretrain.batch_size}


def test_how_batches_are_shared_is_said(toy):
    recipe = replace(toy, pretrain=replace(toy.pretrain, batch_size=96))
    lanes = Lanes(workers=4, micro_batch=12)
    assert division_lines(recipe, ["pretrain", "knn"], lanes) == [
        "batch 96 = 4 workers x 12 images x 2 accumulated (pretrain)"
    ]
    assert division_lines(recipe, ["pretrain"], Lanes()) == []
    with pytest.raises(UserError, match="batch 50"):
        division_lines(toy, ["pretrain"], lanes)


def test_why_a_lane_ended_is_one_line():
    class ActorDiedError(Exception):
        pass

    def explain(text):
        return explain_end(RuntimeError(text))

    assert explain_end(ActorDiedError("...")).reason == "its controller was killed"
    low = "Task was killed due to the node running low on memory."
    assert "out of memory" in explain(low).reason
    killed = explain("The actor is dead because its worker process has died. Worker exit type")
    assert killed.blame and "killed" in killed.reason
    assert not explain("The actor died because its node has died. Node Id: 5").blame
    assert not explain("ActorUnavailableError: The actor is temporarily unavailable").blame
    assert explain_end(ValueError("no such\nthing")).reason == "ValueError: no such"
