"""The doctor: one line a check, with what was found and what to do."""

import os
import sqlite3
import sys
from importlib.metadata import version
from types import ModuleType

import pytest
from conftest import ROOT

from mae_ablation import doctor
from mae_ablation.cli import main
from mae_ablation.doctor import FAIL, OK, WARN, Finding
from mae_ablation.study import machine


def test_a_finding_is_a_line_and_says_the_remedy_only_where_it_is_needed():
    bad = Finding(state=FAIL, name="disk", value="0.1 GB free", remedy="delete something")
    assert str(bad) == "FAIL  disk: 0.1 GB free; delete something"
    good = Finding(state=OK, name="disk", value="9.1 GB free", remedy="delete something")
    assert str(good) == "ok    disk: 9.1 GB free"


def test_python_that_is_too_old():
    assert doctor.python((3, 10, 1)).state == FAIL and doctor.python((3, 12, 0)).state == OK


def test_versions_outside_their_ranges():
    from packaging.requirements import Requirement

    assert doctor.out_of_range("pyyaml", Requirement("pyyaml>=5")) == ""
    found = version("pyyaml")
    assert doctor.out_of_range("pyyaml", Requirement("pyyaml<2")) == f"pyyaml {found} is not <2"
    assert doctor.out_of_range("no-such", Requirement("no-such")) == "no-such is missing"


def test_a_temporary_folder_too_deep_for_ray_s_sockets(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert doctor.ray().state in (OK, WARN)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "deep/" * 12)
    finding = doctor.ray()
    assert finding.state == FAIL and "characters too long" in finding.value


def test_a_container_s_limit_on_cores(monkeypatch, tmp_path):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert machine.cpu_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.cpu_quota(tmp_path) is None and machine.cpu_quota(tmp_path / "none") is None
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(machine, "cpu_quota", lambda: 2.0)
    finding = doctor.cores()
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
    assert doctor.memory(int(64e9)).state == OK
    assert (doctor.memory(int(5e9)).state, doctor.memory(int(5e9)).remedy) == (WARN, "--lanes 2")
    assert doctor.memory(int(1e9)).state == FAIL


def test_a_full_disk(monkeypatch, tmp_path):
    for free, state in ((1e12, OK), (1e9, WARN), (1e7, FAIL)):
        monkeypatch.setattr(machine, "free_disk", lambda folder, free=free: free)
        assert doctor.disk(tmp_path).state == state


def test_a_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    assert doctor.store_writable(tmp_path / "store").state == OK
    finding = doctor.store_writable(tmp_path / "file")
    assert finding.state == FAIL and "--store" in str(finding)
    assert doctor.store_writable("ftp://x/y").state == FAIL
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_mlflow_that_cannot_be_reached_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert doctor.mlflow(tmp_path).state == OK
    sqlite3.connect(tmp_path / "mlflow.db").close()
    assert doctor.mlflow(tmp_path).state == OK
    (tmp_path / "mlflow.db").write_text("no database, but long enough to be taken for one" * 9)
    assert "not a database" in doctor.mlflow(tmp_path).value
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    finding = doctor.mlflow(tmp_path)
    assert finding.state == WARN and "does not answer" in finding.value


def test_data_sets_that_are_not_here_are_only_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    finding = doctor.data()
    assert finding.state == OK and "not in ./data: cifar10" in finding.value


def test_a_folder_that_hides_the_standard_library_s_platform(monkeypatch):
    assert doctor.shadow().state == OK
    hiding = ModuleType("platform")
    hiding.__path__ = ["/home/me/platform"]
    monkeypatch.setitem(sys.modules, "platform", hiding)
    finding = doctor.shadow()
    assert finding.state == FAIL and "/home/me/platform hides the standard" in finding.value


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
    assert len(lines) == 11 and sum(line.startswith("FAIL") for line in lines) == int(broken)
