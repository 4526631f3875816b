"""Lanes: how many, how large, and where there is room for them."""

from dataclasses import replace

import pytest

from mae_ablation.errors import UserError
from mae_ablation.registry import preparations
from mae_ablation.run.capacity import backend, fitted, limit, most, room, seats
from mae_ablation.run.lane_pool import end_of, reason_of
from mae_ablation.run.lanes import Lanes, batches, derivation

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
        shape = fitted(lanes, [LAPTOP])
        assert (limit(shape, [LAPTOP], None), shape.cpus) == (count, cpus)


def test_with_gpus_the_gpus_decide():
    machine = {"CPU": 64.0, "GPU": 8.0}
    whole, quarter = Lanes(gpus=1), Lanes(gpus=0.25)
    assert limit(fitted(whole, [machine]), [machine], None) == 8
    assert fitted(whole, [machine]).cpus == 8
    assert limit(fitted(quarter, [machine]), [machine], None) == 32
    assert seats({"CPU": 8.0, "GPU": 2.0}, Lanes(gpus=0.4)) == 4, "a part of a GPU is of one GPU"


def test_on_a_cluster_the_head_without_gpu_stays_free():
    nodes = [HEAD, GPU_NODE, GPU_NODE]
    assert room(nodes, Lanes(gpus=1)) == 2
    assert fitted(Lanes(gpus=1), nodes).cpus == 4
    assert room(nodes, Lanes(gpus=1, workers=2)) == 1, "a lane over two nodes"
    assert room(nodes, Lanes(gpus=1, accelerator="A10G")) == 2
    assert room(nodes, Lanes(gpus=1, accelerator="H100")) == 0


def test_nccl_for_whole_gpus_that_are_real():
    numbers = {"CPU": 4.0, "GPU": 1.0}
    pair = Lanes(gpus=1, workers=2)
    assert backend(pair, [HEAD, GPU_NODE, GPU_NODE]) == "nccl"
    assert backend(pair, [HEAD, GPU_NODE, numbers]) == "gloo"
    assert backend(Lanes(gpus=0.5, workers=2), [GPU_NODE]) == "gloo"
    assert backend(Lanes(gpus=1), [GPU_NODE]) == "gloo"


CLUSTER = {
    "max_workers": 5,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 4, "GPU": 0}},
        "small": {"resources": {"CPU": 4, "GPU": 1}},
        "large": {"resources": {"CPU": 32, "GPU": 8}, "max_workers": 1},
    },
}


def test_a_cluster_that_scales_has_room_for_what_it_can_become():
    lanes = Lanes(gpus=1)
    assert most(CLUSTER, [HEAD], lanes) == 8 + 4
    assert limit(lanes, [HEAD], CLUSTER) == 12
    assert limit(replace(lanes, count=3), [HEAD], CLUSTER) == 3
    with pytest.raises(UserError, match="grows to 12 of them: --lanes 12"):
        limit(replace(lanes, count=20), [HEAD], CLUSTER)


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
        limit(fitted(lanes, [LAPTOP]), [LAPTOP], None)


def test_what_is_fitted_before_a_pre_training_has_no_batch_to_divide(toy):
    assert preparations()
    assert batches(toy, ["pretrain", *preparations()]) == {"pretrain": toy.pretrain.batch_size}


def test_how_batches_are_shared_is_said(toy):
    recipe = replace(toy, pretrain=replace(toy.pretrain, batch_size=96))
    lanes = Lanes(workers=4, micro_batch=12)
    assert derivation(recipe, ["pretrain", "knn"], lanes) == [
        "batch 96 = 4 workers x 12 images x 2 accumulated (pretrain)"
    ]
    assert derivation(recipe, ["pretrain"], Lanes()) == []
    with pytest.raises(UserError, match="batch 50"):
        derivation(toy, ["pretrain"], lanes)


def test_why_a_lane_ended_is_one_line():
    class ActorDiedError(Exception):
        pass

    assert end_of(ActorDiedError("...")).reason == "its controller was killed"
    assert (
        "out of memory"
        in reason_of("Task was killed due to the node running low on memory.").reason
    )
    killed = reason_of("The actor is dead because its worker process has died. Worker exit type")
    assert killed.blame and "killed" in killed.reason
    assert not reason_of("The actor died because its node has died. Node Id: 5").blame
    assert not reason_of("ActorUnavailableError: The actor is temporarily unavailable").blame
    assert end_of(ValueError("no such\nthing")).reason == "ValueError: no such"
