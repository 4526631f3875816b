"""What a study will take: from the store's own measurements, the packing and a matrix product."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest
from conftest import ROOT

from mae_ablation.api import plan_study
from mae_ablation.errors import UserError
from mae_ablation.report.outcome import list_open_trials
from mae_ablation.report.summary import describe_plans
from mae_ablation.study import machine
from mae_ablation.study.estimate import (
    END_S,
    START_S,
    TRIAL_S,
    against,
    cost_lines,
    estimate,
    makespan,
    utilisation,
)
from mae_ablation.study.request import Request
from mae_ablation.study.speed import (
    ENCODED,
    HEAD_FLOPS,
    STEP_FLOPS,
    Machine,
    Measured,
    Speeds,
    Work,
    at,
    machine_of,
    phase_work,
    read_speed,
)

STUDY = "recipe: toy\nfactors:\n  mask_ratio: [0.5, 0.75]\n"
LANE = Machine(lanes=2)


@pytest.fixture(autouse=True)
def product(monkeypatch):
    """A machine whose matrix products reach 100 GFLOP/s."""
    monkeypatch.setattr(machine, "product_flops_per_s", lambda: 100e9)


@pytest.fixture
def plan(write_study, tmp_path):
    return plan_study(write_study(STUDY), store=tmp_path / "store")


def known(flops, times, kind="pretrain", lanes=2):
    """A phase of one image that took so many times what is assumed."""
    work = Work(kind=kind, images=1, flops=flops)
    return Measured(work=work, seconds=times * work.seconds(LANE.assumed), lanes=lanes)


def finish(plan, trial, **seconds):
    """Leave results of a trial whose phases took so long, by kind, as the phases write them."""
    for phase in trial.phases:
        work, took = phase_work(phase, trial.source, plan.data), seconds[phase.kind]
        result = {"phase": phase.kind, "device": "cpu", "lanes": 2, "seconds": took}
        if phase.kind == "linear_probe":
            epochs = phase.recipe.linear_probe.epochs
            encode = (work.flops - epochs * HEAD_FLOPS) / ENCODED
            result |= {"epochs": epochs, "encoder_flops_per_image": encode, "flops_per_image": 9}
            result |= {"images_per_s": epochs * work.images / took}
        else:
            result |= {"images_per_s": work.images / took, "flops_per_image": work.flops}
        folder = phase.folder(plan.store)
        folder.files.write(f"{folder.name}/result.json", json.dumps(result).encode())


# lanes -------------------------------------------------------------------------------------------


def test_the_last_trial_leaves_lanes_idle():
    assert makespan([6, 5, 4], 2) == 9  # 15 / 2 would be 7.5
    assert makespan([6], 8) == 6 and makespan([], 2) == 0


def test_a_trial_waits_for_what_it_needs_and_others_go_first():
    assert makespan([3, 5, 4], 2, needs={1: 0}) == 8  # 1 after 0, beside 2
    assert makespan([3, 5], 2, needs={1: 0}) == 8


def test_lanes_at_work_take_the_rest_when_they_are_free():
    assert makespan([4], 2, busy=[10, 1]) == 10
    assert makespan([], 2, busy=[7]) == 7


# speed -------------------------------------------------------------------------------------------


def test_a_shape_that_was_measured_is_as_fast_as_its_median():
    speeds = Speeds([known(100, 10), known(100, 30), known(100, 20), known(400, 99)], LANE)
    work = Work(kind="pretrain", images=4, flops=100)
    assert speeds.seconds(work) == (pytest.approx(20 * work.seconds(55e9)), "measured")


def test_another_shape_lies_between_its_neighbours_and_the_median():
    points = [(100, 10.0), (10_000, 30.0)]
    assert at(points, 1000) == (20.0, False)
    assert at(points, 10) == (15.0, False) and at(points, 1e6) == (25.0, False)


def test_another_kind_of_training_is_scaled_and_nothing_at_all_is_assumed():
    finetune = Work(kind="finetune", images=10, flops=55e9)
    assert Speeds([known(100, 3)], LANE).seconds(finetune) == (pytest.approx(30), "scaled")
    assert Speeds([], LANE).seconds(finetune) == (pytest.approx(10), "assumed")
    probe = Work(kind="linear_probe", images=10, flops=60e9, extra_flops=6e9, fixed_s=3)
    assert Speeds([], LANE).seconds(probe) == (pytest.approx(15), "assumed")
    eight = Machine(lanes=1, workers=8, gpus=1.0)
    assert Speeds([], eight).seconds(probe)[0] == pytest.approx(3 + 10 * 66e9 / 80e12)


def test_a_tiny_training_says_little_of_a_large_one():
    # most of its time is no matrix product: by FLOP/s alone the large one would take 50 hours
    tiny = Work(kind="pretrain", images=1200, flops=1e6, extra_flops=STEP_FLOPS)
    took = Measured(work=tiny, seconds=tiny.seconds(LANE.assumed), lanes=2)
    large = Work(kind="pretrain", images=1e6, flops=660e6, extra_flops=STEP_FLOPS)
    assert Speeds([took], LANE).seconds(large)[0] == pytest.approx(large.seconds(55e9))


def test_results_of_as_many_lanes_are_preferred():
    both, work = [known(100, 1, lanes=1), known(100, 4)], Work(kind="pretrain", images=1, flops=100)
    second = work.seconds(LANE.assumed)
    assert Speeds(both, LANE).seconds(work)[0] == pytest.approx(4 * second)
    assert Speeds(both[:1], LANE).seconds(work)[0] == pytest.approx(second)


def test_results_without_times_and_of_other_kinds_say_nothing():
    assert read_speed({"phase": "pca", "seconds": 1.0}) is None
    result = {"phase": "linear_probe", "images_per_s": 9.0, "seconds": 1.0, "epochs": 3}
    assert read_speed(result) is None
    assert read_speed({"phase": "pretrain", "images_per_s": 10.0, "flops_per_image": 5.0}) is None
    assert LANE.like({}) and not LANE.like({"device": "NVIDIA A10G"})
    assert not LANE.like({"workers": 2})


# a study -----------------------------------------------------------------------------------------


def test_a_second_seed_is_estimated_from_the_first(tmp_path, plan):
    for trial in plan.trials:
        finish(plan, trial, pretrain=100.0, linear_probe=10.0)
    more = plan_study(tmp_path / "studies" / "x.yaml", store=tmp_path / "store", seeds=2)
    cost = estimate([more], 2)
    assert cost.basis == {"measured": pytest.approx(240), "scaled": 0, "assumed": 0}
    assert sorted(cost.by_phase.values()) == pytest.approx([10, 10, 10, 10, 100, 100])
    assert TRIAL_S == 1 and cost.seconds == pytest.approx(START_S + 122 + END_S)


def test_nothing_missing_costs_nothing(plan):
    for trial in plan.trials:
        finish(plan, trial, pretrain=1.0, linear_probe=1.0)
    cost = estimate([plan], 2)
    assert cost.seconds == 0 and cost_lines(cost) == []


def test_an_assumption_is_called_one(plan):
    text = describe_plans([], [plan], cost=estimate([plan], machine=LANE))
    assert "(assumed by a matrix product of this machine, nothing like it measured yet:" in text
    assert "at most 55 GFLOP/s a lane" in text


def test_gpu_hours_and_money(plan):
    cost = estimate([plan], machine=Machine(lanes=8, workers=2, gpus=0.5))
    hour = replace(cost, seconds=3600.0)
    (line,) = [line for line in cost_lines(hour, 3.0) if line.startswith("GPU-hours")]
    assert line == "GPU-hours: 8 lanes x 2 workers x 0.5 GPU x 1 h = 8; x 3 = 24.00"


def test_the_truth_is_held_against_the_estimate(plan):
    cost = replace(estimate([plan], machine=LANE), seconds=540.0)
    assert against(cost, 600.0) == (
        "estimated 9 min (assumed by a matrix product of this machine, nothing like it measured "
        "yet: at most 55 GFLOP/s a lane), took 10 min (x 1.11)"
    )


def test_a_run_says_how_much_of_the_machine_it_used():
    results = [{"mfu": mfu, "flops_per_s": 40e9} for mfu in (0.4, 0.5, 0.6)]
    assert utilisation([*results, {"flops_per_s": 1.0}]) == (
        "model FLOPs utilisation of pre-training 50%: 40.0 GFLOP/s a lane, of 80 in matrix products"
    )
    assert utilisation([{"flops_per_s": 1.0}]) == "", "an older version's result"


def test_the_first_seed_of_every_row_comes_first_and_the_longest_by_seconds(plan, write_study):
    two = plan_study(write_study(STUDY), store=plan.store.root, seeds=2)
    for trial in two.trials:  # on this machine the one that masks more takes longer
        if trial.seed == 1 and trial.source == "pretrain":
            seconds = 60.0 if "0.75" in trial.label else 30.0
            finish(two, trial, pretrain=seconds, linear_probe=1.0)
    three = plan_study(write_study(STUDY), store=plan.store.root, seeds=3)
    cost = estimate([three], machine=LANE)
    todo, _ = list_open_trials([three], cost.by_phase)
    places = [(trial.seed, trial.label.removesuffix(f" seed {trial.seed}")) for trial in todo]
    rows = [row.label for row in three.references]
    assert [seed for seed, _ in places] == sorted(seed for seed, _ in places)
    assert [label for seed, label in places if seed == 0] == [
        "mask_ratio=0.75",
        "mask_ratio=0.5",
        *sorted(rows, key=[label for _, label in places].index),
    ]


def test_where_nothing_says_otherwise_gpus_are_used_where_there_are_any(monkeypatch):
    request = Request("x.yaml", lanes=3)
    monkeypatch.setattr(machine, "gpus", lambda: 0)
    assert request.machine(local=True).gpus == 0 and request.machine(local=False).gpus == 1
    with pytest.raises(UserError, match="^--gpu-hours: this machine has no GPU: add --gpus 1"):
        Request("x.yaml", gpu_hours=2.0).machine(local=True)
    monkeypatch.setattr(machine, "gpus", lambda: 8)
    assert request.machine(local=True) == Machine(lanes=3, gpus=1.0)
    assert Request("x.yaml", gpus=0).machine(local=True).gpus == 0


def test_gpus_that_are_hidden_do_not_count(monkeypatch, tmp_path):
    for name in ("0000:17:00.0", "0000:65:00.0"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(machine, "NVIDIA", tmp_path)
    for visible, number in [(None, 2), ("0,1", 2), ("1", 1), ("", 0), ("-1", 0)]:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert machine.gpus() == number


def test_a_cluster_s_estimate_does_not_know_this_machine():
    assert machine_of(local=False) == Machine(lanes=1)
    assert machine_of(lanes=64, gpus=1.0, local=False) == Machine(lanes=64, gpus=1.0)
    assert machine_of().processor and machine_of().lanes >= 1


def test_a_plan_always_measures_a_matrix_product_of_the_machine_it_would_run_on(tmp_path, plan):
    for trial in plan.trials:
        finish(plan, trial, pretrain=100.0, linear_probe=10.0)
    more = plan_study(tmp_path / "studies" / "x.yaml", store=tmp_path / "store", seeds=2)
    (line,) = cost_lines(estimate([more], machine=machine_of()))
    assert "100 % measured at the same shape" in line and line.endswith(
        "reach 100 GFLOP/s a thread"
    )
    (line,) = cost_lines(estimate([more], machine=machine_of(local=False)))
    assert "GFLOP/s a thread" not in line, "on another machine it says nothing"


def test_a_first_estimate_is_near_what_published_phases_took(tmp_path):
    """The fastest of equal phases, two lanes on two cores whose product reached 85 GFLOP/s."""
    study = ROOT / "studies" / "mask_ratio.yaml"
    plan = plan_study(study, store=tmp_path / "store", recipe="overnight")
    alike = {}
    with zipfile.ZipFile(ROOT / "reports" / "published" / "results.zip") as archive:
        for name in archive.namelist():
            if name.endswith("result.json"):
                result = json.loads(archive.read(name))
                alike[result["identity"]] = result["seconds"]
    cost = estimate([plan], machine=LANE)
    pairs = {}
    for trial in plan.trials:
        for phase in trial.phases:
            if phase.identity in alike:
                key = (phase.kind, trial.source, trial.flops)
                pairs.setdefault(key, []).append((alike[phase.identity], phase.identity))
    assert len(pairs) > 20
    for key, took in pairs.items():
        seconds, identity = min(took)
        ratio = cost.by_phase[identity] * 100 / 85 / seconds
        assert 1 / 1.35 < ratio < 1.35, (key, ratio)


def test_a_plan_imports_nothing_heavy():
    code = (
        "import sys, mae_ablation.cli as c\n"
        "assert c.main(['plan', 'studies/paper.yaml', '--gpus', '1',\n"
        "               '--price-per-gpu-hour', '2']) == 0\n"
        "assert not {'torch', 'ray', 'numpy', 'mlflow', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "GPU-hours: 1 lane x 1 worker x 1 GPU" in done.stdout


def test_every_study_is_estimated_with_its_own_data(tmp_path, write_study):
    small = write_study("recipe: toy\nfactors:\n  mask_ratio: [0.5]\n")
    large = small.with_name("y.yaml")
    large.write_text(
        "recipe: toy\nbaseline: {data.train_images: 8000}\nfactors:\n  mask_ratio: [0.5]\n"
    )
    plans = [plan_study(study, store=tmp_path / "store") for study in (small, large)]
    both = estimate(plans, 1)
    assert both.by_phase == estimate(plans[::-1], 1).by_phase
    alone = [estimate([plan], 1).by_phase for plan in plans]
    assert both.by_phase == alone[0] | alone[1]
