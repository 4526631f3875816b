"""The device one asks for is the device one gets: errors of a GPU, no GPU, and GPUs left alone."""

import os
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import write_place
from toys import trial_of

from mae_ablation.run import lane_pool
from mae_ablation.run.lane import HardwareError, find_device, run_task
from mae_ablation.run.lanes import Lanes
from mae_ablation.run.run_state import Faults, RunState, Task
from mae_ablation.train import hardware
from mae_ablation.train.hardware import explain_missing_gpu, is_hardware_error
from mae_ablation.train.trial import run_trial
from mae_ablation.train.workers import Workers

OF_THE_GPU = [
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported",
    "CUDA error: the launch timed out and was terminated",
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled cuda error, NCCL version 2.27.3",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost.",
]
OF_THE_TRIAL = [
    "loss is nan",
    "CUDA error: device-side assert triggered",
    "mat1 and mat2 shapes cannot be multiplied (50x16 and 32x8)",
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "NCCL error: remote process exited or there was a network error",
]


def test_a_gpu_s_errors_are_told_from_a_trial_s():
    for text in OF_THE_GPU:
        assert is_hardware_error(RuntimeError(text)), text
    for text in OF_THE_TRIAL:
        assert not is_hardware_error(RuntimeError(text)), text


@pytest.mark.parametrize("text", [OF_THE_GPU[1], OF_THE_TRIAL[1]])
def test_a_gpu_s_error_leaves_no_mark_in_the_store_and_a_trial_s_does(
    toy, tmp_path, monkeypatch, text
):
    def fail(*arguments):
        raise RuntimeError(text)

    monkeypatch.setattr("mae_ablation.train.trial.train_phase", fail)
    monkeypatch.setattr("mae_ablation.train.trial.free_gpu_memory", lambda device: None)
    monkeypatch.setattr("mae_ablation.train.trial.usable_gpu_bytes", lambda share: 2**30)
    trial = trial_of(toy, "pretrain")
    if text in OF_THE_GPU:
        with pytest.raises(RuntimeError, match="launch failure"):
            run_trial(trial, tmp_path, device="cuda")
    else:
        assert "device-side assert" in run_trial(trial, tmp_path, device="cuda")
    assert bool(list(tmp_path.glob("*/*/failure.json"))) == (text in OF_THE_TRIAL)
    assert not list(tmp_path.glob("*/*/claim*")), "free for another lane"


def test_a_lane_puts_such_a_trial_back(monkeypatch):
    def train(*arguments, **options):
        raise RuntimeError(OF_THE_GPU[0])

    monkeypatch.setattr("mae_ablation.run.dataset_cache.share_dataset", lambda *given: None)
    config = dict.fromkeys(("cache", "lane", "store", "commit", "lanes", "run"))
    task, beat = Task(0, trial=None), SimpleNamespace(report=None)
    with pytest.raises(HardwareError, match="uncorrectable ECC"):
        run_task(task, {**config, "train": train, "gpus": 1.0}, "cpu", Workers(), beat)
    outcome = run_task(task, {**config, "train": train, "gpus": 0.0}, "cpu", Workers(), beat)
    assert "uncorrectable ECC" in outcome.failure, "no GPU, no error of a GPU's"


# no GPU where one was promised ------------------------------------------------------------------


class Queue:
    """Notes what it is told, as an actor."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        def remote(*said, **more):
            self.told.append((name, *said, *more.items()))

        return SimpleNamespace(remote=remote)


@pytest.fixture
def node(monkeypatch):
    """The resources of the node that the lane is on, in place of a Ray."""
    import ray

    resources = {"CPU": 4.0, "GPU": 1.0}
    context = SimpleNamespace(get_node_id=lambda: "here")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": "here", "Resources": resources}])
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    return resources


def test_a_lane_on_cpus_sees_no_gpu_and_opens_no_context(node, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("CUDA was asked"))
    queue = Queue()
    assert find_device(queue, "0.1", "") == "cpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    ((said, lane, gpu, name),) = queue.told
    assert (said, lane, gpu) == ("enter", "0.1", "") and name.startswith("CPU ")


def test_a_gpu_of_a_test_is_only_a_number(node):
    queue = Queue()
    assert find_device(queue, "0.1", "GPU 0 of here") == "cpu"
    assert queue.told[0][-1].endswith("GB, as GPU 0 of here is only a number")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_a_lane_that_was_promised_a_gpu_and_finds_none_refuses(node, monkeypatch, tmp_path):
    node["accelerator_type:A10G"] = 1.0
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n")
    monkeypatch.setattr(hardware, "NVIDIA_VERSION", version)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    queue = Queue()
    with pytest.raises(HardwareError):
        find_device(queue, "0.1", "GPU 0 of here")
    ((said, lane, gpu, reason, hopeless),) = queue.told
    assert (said, lane, gpu, hopeless) == ("fault", "0.1", "GPU 0 of here", ("hopeless", True))
    assert reason == (
        f"NVIDIA driver 535.104.05, torch {torch.__version__} is built for CUDA 13.0, which needs "
        "driver 580 or newer: update the driver, install a torch that is built for an older CUDA, "
        "or train on CPUs with --gpus 0"
    )


def test_why_there_is_no_gpu_is_said_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "NVIDIA_VERSION", tmp_path / "none")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built without CUDA: install one that is" in explain_missing_gpu()
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    assert "no NVIDIA driver here" in explain_missing_gpu()
    (tmp_path / "none").write_text("NVRM version: ... Kernel Module  580.65.06  Sun Jul 27")
    assert "580.65.06" in explain_missing_gpu() and "see what `nvidia-smi`" in explain_missing_gpu()


def test_a_gpu_that_is_there_is_named_with_its_memory(node, monkeypatch):
    node["accelerator_type:A10G"] = 1.0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", lambda *size, device: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    found = SimpleNamespace(name="NVIDIA A10G", total_memory=23.7e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: found)
    queue = Queue()
    assert find_device(queue, "0.1", "GPU 0 of here") == "cuda"
    assert queue.told == [("enter", "0.1", "GPU 0 of here", "NVIDIA A10G, 24 GB")]


# the pool's side --------------------------------------------------------------------------------


@pytest.fixture
def pool(monkeypatch):
    """A pool on a machine of two GPUs, whose lanes are started and do nothing."""

    class Thread:
        end = None

        def __init__(self, lanes, config, notes):
            self.key = config["lane"]

        def start(self):
            pass

        def is_alive(self):
            return True

    now = SimpleNamespace(monotonic=lambda: now.s, s=100.0)
    monkeypatch.setattr(lane_pool, "time", now)
    monkeypatch.setattr(lane_pool, "LaneThread", Thread)
    monkeypatch.setattr(lane_pool, "remove_orphaned_groups", lambda: None)
    monkeypatch.setattr(lane_pool, "list_nodes", lambda: [{"CPU": 2.0, "GPU": 2.0}])

    def make(**options):
        pool = lane_pool.LanePool(Lanes(gpus=1.0, **options), {}, "", trials=9)

        def fill(state):
            now.s += 10
            pool.fill(state)

        return pool, fill

    return make


def leave_out(state, *lanes):
    for lane in lanes:
        state.devices[lane] = {f"GPU {lane}": "NVIDIA A10G, 24 GB"}
        state.faults[f"GPU {lane}"] = Faults([1, 2], "ECC")
        state.parked.add(lane)


def test_a_gpu_that_is_left_out_is_said_once_and_its_lane_counts_for_nothing(pool):
    pool, fill = pool(count=2)
    state, said = RunState(trials=[None] * 9, waiting=9), []
    fill(state)
    assert pool.alive == ["0.1", "1.2"]
    leave_out(state, "0.1")
    for _ in range(2):
        pool.tell_devices(state, said.append)
    assert said == ["device: NVIDIA A10G, 24 GB", "GPU 0.1 is left out of this run: ECC"]
    fill(state)
    assert pool.count_working(state) == 1 and len(pool.alive) == 2 and not state.refusal


def test_a_run_without_any_gpu_left_ends_with_the_reason(pool):
    pool, fill = pool(count=2)
    state = RunState(trials=[None] * 9, waiting=9)
    fill(state)
    leave_out(state, *pool.alive)
    fill(state)
    assert state.refusal == "no GPU is left: ECC"


def test_a_cluster_that_grows_starts_other_machines_for_those_left_out(pool):
    pool, fill = pool(count=3, scales=True)
    state = RunState(trials=[None] * 9, waiting=9)
    fill(state)
    leave_out(state, *pool.alive)
    fill(state)
    assert state.refusal is None, "a third one may come"


# a pool of four lanes, one of whose GPUs is broken ------------------------------------------------


def train_on_a_broken_gpu(trial, store, **options):
    """Stands in for a training: the kernels of GPU 2 fail, the other GPUs wait for two of them."""
    import time
    from pathlib import Path

    import ray

    failed = Path(store, "failed")
    if [str(number) for number in ray.get_gpu_ids()] == ["2"]:
        with failed.open("a") as file:
            file.write(f"{trial.label}\n")
        raise RuntimeError("CUDA error: unspecified launch failure")
    while not failed.exists() or len(failed.read_text().splitlines()) < 2:
        time.sleep(0.1)


@pytest.mark.slow
def test_a_pool_with_a_broken_gpu_finishes_every_trial_on_the_others(tmp_path, monkeypatch):
    from mae_ablation.api import plan_study
    from mae_ablation.run.driver import Run, fit_lanes, run_trials
    from mae_ablation.run.ray_session import prepare_environment
    from mae_ablation.store.folder import Store
    from mae_ablation.study.work import OpenWork

    # a test before may have imported Ray, which reads its environment once: without a token
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    prepare_environment("local")
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # lanes cannot import tests
    ratios = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    study = f"recipe: toy\nphases: [pretrain]\nfactors:\n  mask_ratio: {ratios}\n"
    trials = plan_study(write_place(tmp_path, study), store=tmp_path / "store").trials
    run = Run(
        work=OpenWork(trials=trials),
        store=Store(tmp_path / "store"),
        commit="x",
        train=train_on_a_broken_gpu,
    )
    said = []
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=4, num_gpus=4, **options)
    try:
        lanes = fit_lanes(Lanes(gpus=None))
        assert (lanes.count, lanes.gpus) == (4, 1)
        state = run_trials(run, lanes, SimpleNamespace(show=lambda state: None, say=said.append))
    finally:
        ray.shutdown()
    assert state.failed == {} and len(state.finished) == len(trials)
    (out,) = [line for line in said if "is left out of this run" in line]
    assert out.startswith("GPU 2 of ") and out.endswith("CUDA error: unspecified launch failure")
