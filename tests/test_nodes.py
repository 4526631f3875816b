"""Several nodes: one is lost in mid-trial, one joins, a lane is spread over two.

The nodes are Ray's own test cluster on this machine, their GPUs numbers without a device.
"""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from conftest import TOY_RECIPE, write_place
from toys import require_same, run_undisturbed

from mae_ablation.api import plan_study
from mae_ablation.run.driver import Run, fit_lanes, run_trials
from mae_ablation.run.lanes import Lanes
from mae_ablation.run.ray_session import STARTS, prepare_environment
from mae_ablation.store.folder import Store
from mae_ablation.study.work import OpenWork

pytestmark = pytest.mark.slow
LEVELS = "[0.25, 0.4, 0.5, 0.6, 0.75, 0.9]"
STUDY = f"recipe: toy\nphases: [pretrain]\nfactors:\n  mask_ratio: {LEVELS}\n"
EPOCHS = 100


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        if "RAY_AUTH_MODE" not in os.environ:
            # a test before may have imported Ray, which reads its environment once: without a token
            patch.setenv("RAY_AUTH_MODE", "disabled")
        prepare_environment("local")
        import ray

        cluster = start_cluster()
        yield cluster
        ray.shutdown()
        cluster.shutdown()
        Path("/tmp/ray/ray_current_cluster").unlink(missing_ok=True)


def start_cluster():
    """A head, and this process joined to it; Ray's own start may time out on a busy machine."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "num_gpus": 0, "include_dashboard": False}
    for tried in range(STARTS):
        cluster = Cluster()
        try:
            cluster.add_node(**head)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            return cluster
        except (RuntimeError, OSError):  # its processes do not answer in time
            ray.shutdown()
            cluster.shutdown()
            if tried == STARTS - 1:
                raise


def add_nodes(cluster, number: int) -> list:
    nodes = [cluster.add_node(num_cpus=1, num_gpus=1) for _ in range(number)]
    cluster.wait_for_nodes()
    return nodes


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """The plan of a study, and its store where nothing happened to it."""
    place = tmp_path_factory.mktemp("nodes")
    study = write_place(place, STUDY, epochs=EPOCHS, checkpoint_every_s=0.2, batch_size=40)
    run_undisturbed(study, place / "undisturbed")
    return study, place / "undisturbed"


def run(study: Path, store: Path, lanes: Lanes, meanwhile=lambda state: None):
    trials = plan_study(study, store=store).trials
    lanes, said = fit_lanes(lanes, "cluster"), []
    assert not lanes.scales
    view = SimpleNamespace(show=meanwhile, say=said.append)
    state = run_trials(
        Run(work=OpenWork(trials=trials), store=Store(store), commit="x"), lanes, view
    )
    return lanes, state, said


def epochs(state) -> list[int]:
    return sorted(lease.progress.get("epoch", 0) for lease in state.running.values())


def test_a_node_is_lost_and_another_joins(cluster, plans, tmp_path):
    study, undisturbed = plans
    nodes = add_nodes(cluster, 2)
    lost, joined, lanes_seen = [], [], set()

    def meanwhile(state):
        lanes_seen.update(state.running)
        if not lost and len(state.running) == 2 and epochs(state)[0] > 3:
            cluster.remove_node(nodes[0], allow_graceful=False)
            lost.append(nodes.pop(0))
        elif lost and not joined and len(state.running) == 1:
            joined.extend(add_nodes(cluster, 1))

    lanes, state, said = run(study, tmp_path / "store", Lanes(gpus=1), meanwhile)
    assert lanes.count == 2 and lost and joined
    assert state.is_over and state.failed == {}
    assert any("its node was lost" in line for line in said), said
    assert all(deaths.in_a_row == 0 for deaths in state.deaths.values()), "not the trial's fault"
    assert len(lanes_seen) == 3, "the node that joined has a lane"
    require_same(tmp_path / "store", undisturbed)
    for node in nodes + joined:
        cluster.remove_node(node)


@pytest.mark.rare
def test_a_node_that_joins_is_used(cluster, plans, tmp_path):
    study, _ = plans
    nodes, lanes_seen = add_nodes(cluster, 1), set()

    def meanwhile(state):
        lanes_seen.update(state.running)
        if lanes_seen and len(nodes) == 1:
            nodes.extend(add_nodes(cluster, 1))

    lanes, state, _ = run(study, tmp_path / "store", Lanes(gpus=1), meanwhile)
    assert (lanes.count, len(lanes_seen), state.failed) == (1, 2, {})
    for node in nodes:
        cluster.remove_node(node)


@pytest.mark.rare
def test_a_lane_of_two_workers_over_two_nodes(cluster, plans, tmp_path):
    study, _ = plans
    nodes = add_nodes(cluster, 2)
    lanes, state, said = run(study, tmp_path / "store", Lanes(gpus=1, workers=2))
    assert (lanes.count, lanes.workers, said) == (1, 2, [])
    assert state.is_over and state.failed == {}
    for node in nodes:
        cluster.remove_node(node)


@pytest.mark.rare
def test_nodes_read_prepared_images_from_s3_and_keep_them(s3, cluster, images, tmp_path):
    """The same numbers as in this process from the same shards, of which each came once."""
    from mae_ablation.data.prepare import prepare_images
    from mae_ablation.data.shards import list_images

    prepare_images(str(images), f"{s3}/nodes", shard=4096)
    data = {"name": "image_folder", "image_size": 30, "validation_images": 2, "workers": 1}
    data |= {"folder": f"{s3}/nodes", "reading": "stream"}
    toy = yaml.safe_load(TOY_RECIPE)
    study = write_place(tmp_path, STUDY, yaml.safe_dump(toy | {"data": data}), batch_size=4)
    run_undisturbed(study, tmp_path / "undisturbed")
    data["cache_dir"] = str(tmp_path / "nvme")
    study = write_place(tmp_path, STUDY, yaml.safe_dump(toy | {"data": data}), batch_size=4)

    nodes = add_nodes(cluster, 2)
    lanes, state, _ = run(study, tmp_path / "store", Lanes(gpus=1))
    assert (lanes.count, state.failed) == (2, {})
    require_same(tmp_path / "store", tmp_path / "undisturbed")
    kept = sorted(path.name for path in (tmp_path / "nvme").glob("*/*.tar"))
    assert kept == [shard.name for shard in list_images(f"{s3}/nodes").shards]
    for node in nodes:
        cluster.remove_node(node)


@pytest.mark.rare
def test_a_store_that_is_not_shared_ends_the_study(cluster, plans, tmp_path, monkeypatch):
    from mae_ablation.errors import UserError
    from mae_ablation.run import driver as run_module

    study, _ = plans
    nodes = add_nodes(cluster, 1)
    monkeypatch.setattr(run_module, "store_id", lambda store: "another machine's store")
    with pytest.raises(UserError, match="is not shared with node .*: use a shared folder or s3://"):
        run(study, tmp_path / "store", Lanes(gpus=1))
    assert not (tmp_path / "store").exists()
    for node in nodes:
        cluster.remove_node(node)
