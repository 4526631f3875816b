"""Where a study runs: what the first line says, for every way to get there, and what it costs."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from mae_ablation.errors import UserError
from mae_ablation.launch import place
from mae_ablation.launch.place import Address, Cluster, choose_place
from mae_ablation.study.request import Request

OTHERS = "--cluster FILE, --address A or RAY_ADDRESS choose another place"
HERE = "--local stays on this machine"
LOCAL = """\
cluster_name: four
provider: {type: local, head_ip: 10.0.0.1, worker_ips: [10.0.0.2]}
auth: {ssh_user: me, ssh_private_key: ~/.ssh/key}
metadata: {mae_ablation: {store: /shared/mae, mlflow: "http://127.0.0.1:5000"}}
"""
AWS = "cluster_name: cloud\nprovider: {type: aws, region: us-west-2}\n"


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A folder, a home and a Ray folder of the test's own, with nothing in them."""
    home = tmp_path / "home"
    (home / "ray").mkdir(parents=True)
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("RAY_TMPDIR", str(home))
    for name in ("RAY_ADDRESS", *place.AWS_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    return home


def usual(**asked):
    return choose_place(Request("x.yaml", **asked))


def start(home, state="running", status="up-to-date"):
    """What `ray up` of provider local leaves."""
    node = {"tags": {"ray-node-type": "head", "ray-node-status": status}, "state": state}
    (home / "ray" / "cluster-four.state").write_text(json.dumps({"10.0.0.1": node}))


def test_nothing_but_this_machine():
    assert usual() == Address(address="local", line=f"Ray: this machine ({OTHERS})")


def test_a_cluster_file_that_is_not_filled_in():
    Path("cluster.yaml").write_text(AWS + "auth: {ssh_user: FILL IN the account's name}\n")
    said = f"Ray: this machine (./cluster.yaml is not filled in; {OTHERS})"
    assert usual() == Address(address="local", line=said)
    with pytest.raises(UserError, match="^cluster.yaml:3: fill in the account's name$"):
        usual(cluster=Path("cluster.yaml"))


def test_a_cluster_that_is_not_up(machine):
    Path("cluster.yaml").write_text(LOCAL)
    said = Address(address="local", line=f"Ray: this machine (./cluster.yaml is not up; {OTHERS})")
    assert usual() == said
    for state, status in (("terminated", "up-to-date"), ("running", "update-failed")):
        start(machine, state, status)
        assert usual() == said
    with pytest.raises(UserError, match="^cluster.yaml: its cluster is not up: ray up cluster.ya"):
        usual(cluster=Path("cluster.yaml"))


def test_a_cluster_that_is_up(machine):
    Path("cluster.yaml").write_text(LOCAL)
    start(machine)
    assert usual() == Cluster(
        file=Path("cluster.yaml"),
        head="10.0.0.1",
        store="/shared/mae",
        mlflow="http://127.0.0.1:5000",
        line=f"Ray: the cluster of ./cluster.yaml (head 10.0.0.1); {HERE}",
    )
    assert usual(local=True) == Address(
        address="local", line=f"Ray: this machine, as --local says ({OTHERS})"
    )


def test_a_file_of_another_name(machine):
    Path("mine").mkdir()
    Path("mine/four.yaml").write_text(LOCAL)
    start(machine)
    assert usual().line == f"Ray: this machine ({OTHERS})"
    found = usual(cluster=Path("mine/four.yaml"))
    assert found.line == f"Ray: the cluster of mine/four.yaml (head 10.0.0.1); {HERE}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "c.yaml: cannot read it: No such file or directory"),
        ("a: [", "c.yaml:1: not valid YAML: expected the node content, but found '<stream end>'"),
        ("a: 1", "c.yaml:1: not a Ray cluster file: provider.type is missing"),
    ],
)
def test_what_is_no_cluster_file(text, message):
    if text:
        Path("c.yaml").write_text(text)
        Path("cluster.yaml").write_text(text)
        assert usual().line == f"Ray: this machine (./cluster.yaml is no cluster file; {OTHERS})"
    with pytest.raises(UserError) as error:
        usual(cluster=Path("c.yaml"))
    assert str(error.value) == message


def test_an_address(monkeypatch):
    by_hand = Address(
        address="10.1.1.1:6379", line=f"Ray: the cluster at 10.1.1.1:6379 (--address); {HERE}"
    )
    assert usual(address="10.1.1.1:6379") == by_hand
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    by_name = Address(address="auto", line=f"Ray: the cluster at auto (RAY_ADDRESS); {HERE}")
    assert usual() == by_name
    assert usual(address="10.1.1.1:6379") == by_hand
    assert usual(local=True).line == f"Ray: this machine, as --local says ({OTHERS})"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert usual() == Address(
        address="local", line=f"Ray: this machine, as RAY_ADDRESS says ({OTHERS})"
    )


def test_on_the_head(machine):
    (machine / "ray_bootstrap_config.yaml").write_text(LOCAL)
    with socket.socket() as gcs:
        gcs.bind(("127.0.0.1", 0))
        gcs.listen()
        (machine / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{gcs.getsockname()[1]}")
        head = Address(address="auto", line=f"Ray: the cluster whose head this machine is; {HERE}")
        assert usual() == head
        Path("cluster.yaml").write_text(LOCAL)  # the repository was copied here, with its file
        start(machine)
        assert usual() == head
        (machine / ".ssh").mkdir()
        (machine / ".ssh" / "key").write_text("")  # and here `ray up` was called
        assert usual().line == f"Ray: the cluster of ./cluster.yaml (head 10.0.0.1); {HERE}"
        Path("cluster.yaml").unlink()
    assert usual().address == "local", "the cluster is gone, its notes are not"


def ray_that(monkeypatch, tmp_path, script):
    """Stands for the command `ray`."""
    program = tmp_path / "ray"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(place, "ray_command", lambda *words: [str(program), *words])


def test_a_cloud_is_asked_only_with_credentials(monkeypatch, tmp_path):
    ray_that(monkeypatch, tmp_path, 'test "$*" = "get-head-ip cluster.yaml" && echo 54.1.2.3')
    Path("cluster.yaml").write_text(AWS)
    assert usual().line == (
        f"Ray: this machine (./cluster.yaml cannot be looked up without AWS credentials; {OTHERS})"
    )
    with pytest.raises(UserError, match="^cluster.yaml: its cluster cannot be looked up: there"):
        usual(cluster=Path("cluster.yaml"))
    monkeypatch.setenv("AWS_PROFILE", "me")
    assert usual().line == f"Ray: the cluster of ./cluster.yaml (head 54.1.2.3); {HERE}"


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo no such cluster; exit 1", "is not up"), ("sleep 5", "did not answer within 0 s")],
)
def test_a_cloud_that_has_no_answer(monkeypatch, tmp_path, script, reason):
    ray_that(monkeypatch, tmp_path, script)
    monkeypatch.setattr(place, "ASK_S", 0.3)
    Path("cluster.yaml").write_text("cluster_name: c\nprovider: {type: gcp}\n")
    assert usual().line == f"Ray: this machine (./cluster.yaml {reason}; {OTHERS})"


CHEAP = """
import sys, time
from mae_ablation.launch.place import choose_place
from mae_ablation.study.request import Request
began = time.process_time()
print(choose_place(Request('x.yaml')).line)
quick = time.process_time() - began < 0.1
print(quick, sorted({"ray", "torch", "mlflow", "boto3"} & set(sys.modules)))
"""


def test_a_fresh_clone_stays_on_this_machine(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AWS_PROFILE", "me")
    began = time.process_time()
    assert usual().line == f"Ray: this machine (./cluster.yaml is not filled in; {OTHERS})"
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("file", ["", LOCAL, AWS, AWS + "auth: {ssh_user: FILL IN a name}\n"])
def test_a_place_that_is_not_up_costs_milliseconds(file):
    if file:
        Path("cluster.yaml").write_text(file)
    done = subprocess.run([sys.executable, "-c", CHEAP], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line, cost = done.stdout.splitlines()
    assert line.startswith("Ray: this machine (") and cost == "True []"


def test_errors_in_a_study_come_before_the_place():
    began = time.monotonic()
    words = [sys.executable, "-m", "mae_ablation", "run", f"{ROOT}/studies/mask_ratio.yaml"]
    done = subprocess.run(
        [*words, "--cluster", "none.yaml", "--set", "pretrain.epoch=1"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert 'unknown key "pretrain.epoch"' in done.stderr
    assert time.monotonic() - began < 1.5
