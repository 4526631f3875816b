"""The doctor: one line a check, with what was found and what to do."""

import os
import sqlite3
from importlib.metadata import version

import pytest
from conftest import ROOT

from mae_ablation import doctor
from mae_ablation.cli import main
from mae_ablation.doctor import FAIL, OK, WARN, Finding
from mae_ablation.study import machine


def test_a_finding_says_the_remedy_only_where_it_is_needed():
    bad = Finding(FAIL, "disk", "0.1 GB free", "delete something")
    assert str(bad) == "FAIL  disk: 0.1 GB free; delete something"
    assert str(bad._replace(state=OK)) == "ok    disk: 0.1 GB free"


def test_versions_outside_their_ranges(monkeypatch):
    assert doctor.check_packages().state == OK
    asked = ["pyyaml>=5", "pyyaml<2", "no-such", "nor-this; extra == 'dev'"]
    monkeypatch.setattr(doctor, "requires", lambda distribution: asked)
    finding = doctor.check_packages()
    assert finding.state == FAIL
    assert finding.value == f"pyyaml {version('pyyaml')} is not <2; no-such is missing"


def test_a_temporary_folder_too_deep_for_ray_s_sockets(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert doctor.check_ray().state in (OK, WARN)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "deep/" * 12)
    finding = doctor.check_ray()
    assert finding.state == FAIL and "characters too long" in finding.value


def test_a_container_s_limit_on_cores(monkeypatch, tmp_path):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert machine.cpu_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.cpu_quota(tmp_path) is None and machine.cpu_quota(tmp_path / "none") is None
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(machine, "cpu_quota", lambda: 2.0)
    finding = doctor.check_cores()
    assert finding.state == WARN and finding.remedy == "--lanes 2"


def test_generations_of_a_processor_that_bear_one_name_are_told_apart(tmp_path):
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: A CPU\n\nprocessor\t: 1\n"
    )
    number = f"{os.cpu_count()} cores"
    said = machine.processor(tmp_path / "cpuinfo")
    assert said == f"A CPU (family 25, model 17), {number}"
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nBogoMIPS\t: 48.00\n")  # as on ARM
    assert machine.processor(tmp_path / "cpuinfo") == number
    assert machine.processor(tmp_path / "none") == number


def test_memory_for_fewer_lanes_than_cores(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 4)
    for free, state in ((64e9, OK), (5e9, WARN), (1e9, FAIL)):
        monkeypatch.setattr(machine, "free_memory", lambda free=free: int(free))
        assert doctor.check_memory().state == state
        assert state != WARN or doctor.check_memory().remedy == "--lanes 2"


def test_a_full_disk(monkeypatch, tmp_path):
    for free, state in ((1e12, OK), (1e9, WARN), (1e7, FAIL)):
        monkeypatch.setattr(machine, "free_disk", lambda folder, free=free: free)
        assert doctor.check_disk(tmp_path).state == state


def test_a_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    assert doctor.check_store(tmp_path / "store").state == OK
    finding = doctor.check_store(tmp_path / "file")
    assert finding.state == FAIL and "--store" in str(finding)
    assert doctor.check_store("ftp://x/y").state == FAIL
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_mlflow_that_cannot_be_reached_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert doctor.check_mlflow(tmp_path).state == OK
    sqlite3.connect(tmp_path / "mlflow.db").close()
    assert doctor.check_mlflow(tmp_path).state == OK
    (tmp_path / "mlflow.db").write_text("no database, but long enough to be taken for one" * 9)
    assert "not a database" in doctor.check_mlflow(tmp_path).value
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    finding = doctor.check_mlflow(tmp_path)
    assert finding.state == WARN and "does not answer" in finding.value


def test_data_sets_that_are_not_here_are_only_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    finding = doctor.check_data()
    assert finding.state == OK and "not in ./data: cifar10" in finding.value


@pytest.mark.parametrize("broken", [False, True])
def test_the_exit_status_says_whether_something_fails(monkeypatch, capsys, tmp_path, broken):
    (tmp_path / "file").write_text("")
    store = tmp_path / ("file" if broken else "store")
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setattr(machine, "free_memory", lambda: int(64e9))
    monkeypatch.setattr(machine, "free_disk", lambda folder: int(64e9))
    monkeypatch.chdir(ROOT)
    assert main(["doctor", "--store", str(store)]) == int(broken)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and sum(line.startswith("FAIL") for line in lines) == int(broken)


def test_a_gpu_that_is_asked_for_and_not_there_fails_with_the_remedy(monkeypatch):
    monkeypatch.setattr("mae_ablation.train.device.describe_devices", lambda: "CPU, 1 thread")
    (finding,) = doctor.check_gpu()
    assert finding.state == "FAIL" and finding.remedy.endswith("train on CPUs with --gpus 0")


def test_every_point_of_a_gpu_is_a_line(monkeypatch):
    def fail(bench):
        raise RuntimeError("CUDA error: unspecified launch failure\nmore")

    points = {"loss": lambda bench: f"on {bench.device}", "phases": fail}
    monkeypatch.setattr("mae_ablation.train.gpu_check.FIRST_POINTS", points)
    monkeypatch.setattr("mae_ablation.train.device.describe_devices", lambda: "CUDA: A10G")
    assert [str(each).partition("; ")[0] for each in doctor.check_gpu()] == [
        "ok    GPU, loss: on cuda",
        "FAIL  GPU, phases: RuntimeError: CUDA error: unspecified launch failure",
    ]
