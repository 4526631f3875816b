"""Cluster files: the shipped ones are sound, a forgotten placeholder stops, the rest is said."""

import os
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from mae_ablation.errors import UserError
from mae_ablation.launch.cluster_file import (
    TEMPLATES,
    find_refusal,
    list_unfinished,
    list_unsafe,
    read_cluster_file,
    template,
)

AWS = {
    "FILL IN s3://BUCKET/mae-ablation (BUCKET is an output of the stack)": "s3://bucket/mae",
    "FILL IN the bucket and the security group in this file, then write aws here": "aws",
    "FILL IN sg-... (the stack's output SecurityGroup)": "sg-0123456789abcdef0",
}
LOCAL = {
    "{FILL IN: the head's address}": "10.0.0.10",
    '{FILL IN: "a list of the workers\' addresses, such as [10.0.0.11, 10.0.0.12], or []"}': (
        "[10.0.0.11]"
    ),
    "{FILL IN: the account's name}": "me",
    '{FILL IN: "a folder that every machine has, such as /shared/mae-ablation, or s3://..."}': (
        "/shared/mae"
    ),
}
FILLED = {"aws": AWS, "local": LOCAL}


def remarks(path):
    return list_unfinished(path) + list_unsafe(path)


def fill_in(text, values):
    for blank, value in values.items():
        assert text.count(blank) == 1
        text = text.replace(blank, value)
    return text


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a cluster file; the repository is the working folder and the home has a token."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(ROOT)
    token = tmp_path / "home" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("secret")

    def write(text):
        (tmp_path / "cluster.yaml").write_text(text)
        return tmp_path / "cluster.yaml"

    return write


def without_place(lines):
    return [line.partition(": ")[2] for line in lines]


@pytest.mark.parametrize("name", FILLED)
def test_a_shipped_file_that_is_filled_in_is_accepted_and_has_no_problem(write, name):
    path = write(fill_in(template(name), FILLED[name]))
    assert remarks(path) == []
    assert find_refusal(path) is None


@pytest.mark.parametrize("name", FILLED)
def test_a_shipped_file_keeps_what_it_promises(write, name):
    data = yaml.safe_load(fill_in(template(name), FILLED[name]))
    head, worker = data["head_start_ray_commands"], data["worker_start_ray_commands"]
    starts = [command for command in head + worker if "ray start" in command]
    assert len(starts) == 2
    for command in starts:
        assert command.startswith("unset OMP_NUM_THREADS;")
        assert "export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0;" in command
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in starts[0]
    assert [c for c in head if "mlflow server --host 127.0.0.1 --port 5000 --workers 1" in c]
    assert data["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    ray = next(line for line in (ROOT / "constraints.txt").read_text().split() if "ray==" in line)
    install = next(c for c in data["setup_commands"] if "pip install" in c)
    assert f'"ray[default,tune,train]=={ray.removeprefix("ray==")}" -e ~/mae-ablation' in install
    assert "-c ~/mae-ablation/constraints.txt" in install


def test_on_aws_the_head_has_no_gpu_and_gpu_machines_are_spot_from_zero(write):
    data = yaml.safe_load(fill_in(template("aws"), AWS))
    head, gpu = (data["available_node_types"][name] for name in ("head", "gpu"))
    assert head["resources"] == {"CPU": 4, "GPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert (gpu["min_workers"], gpu["max_workers"], data["max_workers"]) == (0, 8, 8)
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert gpu["node_config"]["IamInstanceProfile"] == {"Name": "mae-ablation-worker"}
    assert data["provider"]["cache_stopped_nodes"] is False


def test_what_a_study_reads_of_a_file(write):
    file = read_cluster_file(write(fill_in(template("local"), LOCAL)))
    assert (file.name, file.provider, file.head_ip) == ("mae-ablation", "local", "10.0.0.10")
    assert (file.store, file.mlflow) == ("/shared/mae", "http://127.0.0.1:5000")
    assert file.placeholders == []


def test_a_file_of_somebody_else_is_read_whatever_it_lacks(write):
    file = read_cluster_file(write("provider: {type: gcp}\n"))
    assert (file.name, file.provider, file.store, file.mlflow) == ("default", "gcp", None, None)
    merged = "x: &x {a: 1}\nprovider: {type: local, <<: *x}\nmetadata: 3\nfile_mounts: 4\n"
    path = write(merged)
    file = read_cluster_file(path)
    assert (file.provider, file.head_ip, file.store) == ("local", None, None)
    assert len(remarks(path)) == 1  # it has no head_start_ray_commands


@pytest.mark.parametrize("name", FILLED)
def test_a_forgotten_placeholder_is_said_with_its_line(write, name):
    text = template(name)
    for blank in FILLED[name]:
        others = {key: value for key, value in FILLED[name].items() if key != blank}
        path = write(fill_in(text, others))
        line = text[: text.index(blank)].count("\n") + 1
        (said,) = list_unfinished(path)
        assert said.startswith(f"{path}:{line}: fill in ")
        assert read_cluster_file(path).placeholders == [said]


def test_ray_up_stops_at_the_unfilled_file_before_it_asks_aws(write, monkeypatch, capfd):
    import click
    from ray.autoscaler._private import commands

    monkeypatch.setattr(commands, "_bootstrap_config", lambda *_, **__: pytest.fail("goes on"))
    with pytest.raises(click.ClickException):
        commands.create_or_update_cluster(
            str(write(template("aws"))), None, None, False, False, True
        )
    out, err = capfd.readouterr()
    assert "Unknown provider type" in out + err
    assert "FILL IN the bucket and the security group in this file" in out + err


def test_ray_up_refuses_the_unfilled_on_premises_file(write):
    for blank in list(LOCAL)[:3]:  # the fourth, the store, is nothing that Ray looks at
        path = write(fill_in(template("local"), {k: v for k, v in LOCAL.items() if k != blank}))
        place = list_unfinished(path)[0].partition(": fill in")[0]
        assert find_refusal(path).startswith(f"{place}: Ray refuses it: {{'FILL IN': ")


UNSAFE = [  # of the filled file: what is changed, into what, what is said then
    ("SecurityGroupIds: *group", "", "no SecurityGroupIds: Ray makes a group that opens ssh to"),
    (
        "cache_stopped_nodes: false",
        "security_group: {IpPermissions: [{FromPort: 80, IpRanges: [{CidrIp: 0.0.0.0/0}]}]}",
        "this rule opens port 80 to the world",
    ),
    ("--dashboard-host=127.0.0.1", "--dashboard-host 0.0.0.0", "the dashboard listens on every"),
    ("--autoscaling-config=~/ray_bootstrap_config.yaml", "", "no --autoscaling-config: the head"),
    ("store: s3:", "other: s3:", "no metadata.mae_ablation.store: the machines share no"),
]


@pytest.mark.parametrize(("part", "other", "said"), UNSAFE)
def test_what_is_unsafe_is_said(write, part, other, said):
    text = fill_in(template("aws"), AWS)
    assert text.count(part) == 1
    path = write(text.replace(part, other))
    (line,) = list_unsafe(path)
    assert said in line and list_unfinished(path) == []


START = "provider: {type: local, worker_ips: []}\nhead_start_ray_commands:\n  - ray stop\n  - "
SOUND = "unset OMP_NUM_THREADS; RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 ray start --head"


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            "unset OMP_NUM_THREADS; ",
            "no `unset OMP_NUM_THREADS;` before `ray start`: `ray up` sets",
        ),
        ("RAY_AUTH_MODE=token ", "no RAY_AUTH_MODE=token: whoever reaches the machine's ports may"),
        ("RAY_USAGE_STATS_ENABLED=0 ", "no RAY_USAGE_STATS_ENABLED=0: Ray sends usage statistics"),
    ],
)
def test_what_a_start_command_lacks_is_said_with_its_line(write, part, said):
    assert remarks(write(START + SOUND)) == []
    path = write(START + SOUND.replace(part, ""))
    (line,) = remarks(path)
    assert line.startswith(f"{path}:4: {said}")


def test_what_every_shell_of_a_node_sets_counts(write):
    common = "\nsetup_commands: [echo export RAY_AUTH_MODE=token >> ~/.bashrc]\n"
    assert remarks(write(START + SOUND.replace("RAY_AUTH_MODE=token ", "") + common)) == []


def test_a_worker_s_start_is_looked_at_like_the_head_s(write):
    head = START.replace("[]", "[10.0.0.2]") + SOUND + " --autoscaling-config=x\n"
    (line,) = remarks(write(head))
    assert without_place([line])[0].startswith("no worker_start_ray_commands with `ray start`")
    (line,) = remarks(write(head + "worker_start_ray_commands:\n- OMP_NUM_THREADS=4 ray start\n"))
    assert line.split(":", 1)[1].startswith("6: no RAY_AUTH_MODE=token")


def test_a_file_to_be_copied_that_is_missing_stops(write, tmp_path, monkeypatch):
    path = write(fill_in(template("aws"), AWS))
    (tmp_path / "home" / ".ray" / "auth_token").unlink()
    assert without_place(list_unfinished(path)) == [
        "~/.ray/auth_token does not exist: make it by `ray get-auth-token --generate`"
    ]
    monkeypatch.chdir(tmp_path)
    said = "platform does not exist: run `ray up` in the repository's folder"
    assert said in without_place(list_unfinished(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "not a Ray cluster file: expected `cluster_name` and `provider`"),
        ("cluster_name: a\n", ":1: not a Ray cluster file: provider.type is missing"),
        ("a: 1\nb: [\n", ":3: not valid YAML"),
        ("a: &x {b: 1}\nc: {<<: *x}\nd: 2024-99-99\n", "not valid YAML: month must be in 1..12"),
        ("a: &x {b: 1}\nc: {<<: *x}\nd: !no 3\n", ":3: not valid YAML: could not determine"),
        (template("kubernetes"), ":1: a Kubernetes manifest, not a file for `ray up`"),
    ],
)
def test_what_is_no_cluster_file_is_one_line(write, text, said):
    with pytest.raises(UserError) as error:
        read_cluster_file(write(text))
    assert said in str(error.value)


def test_what_ray_refuses_is_one_line(write):
    text = fill_in(template("aws"), AWS)
    path = write(text.replace("max_workers: 8  ", "max_worker: 8  "))
    assert "Ray refuses it: Additional properties are not allowed ('max_worker'" in find_refusal(
        path
    )
    path = write("cluster_name: a\nprovider: {type: local}\n")
    assert find_refusal(path).startswith(
        f"{path}: Ray refuses it: Please supply a `head_ip` and list"
    )
    path = write("cluster_name: a\nprovider: {type: nowhere}\n")
    assert find_refusal(path).startswith(
        f"{path}: Ray refuses it: NotImplementedError: Unsupported"
    )


def test_the_repository_s_file_is_the_shipped_one():
    if not read_cluster_file(ROOT / "cluster.yaml").placeholders:
        pytest.skip("cluster.yaml is filled in")
    assert (ROOT / "cluster.yaml").read_text() == template("aws")


def cluster(*words, cwd, home):
    return subprocess.run(
        [sys.executable, "-m", "mae_ablation", "cluster", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
    )


def test_a_user_prints_a_template_fills_it_in_and_has_it_checked(write, tmp_path):
    home = tmp_path / "home"
    printed = cluster("template", "local", cwd=tmp_path, home=home)
    path = write(printed.stdout)
    done = cluster("check", path, cwd=ROOT, home=home)
    assert done.returncode == 2 and done.stdout == ""
    assert [line.split(": ")[1][:7] for line in done.stderr.splitlines()] == ["fill in"] * 4
    write(fill_in(printed.stdout, LOCAL).replace("--dashboard-host=127.0.0.1", ""))
    done = cluster("check", path, cwd=ROOT, home=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{path}: Ray accepts it\n"
    write(fill_in(printed.stdout, LOCAL).replace("unset OMP_NUM_THREADS;", ""))
    done = cluster("check", path, cwd=ROOT, home=home)
    assert done.returncode == 0
    assert done.stdout.endswith(f"{path}: Ray accepts it; see the remarks above\n")


def test_the_kubernetes_template_runs_a_study_and_every_container_is_closed():
    job = yaml.safe_load(template("kubernetes"))
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert "mae-ablation run studies/mask_ratio.yaml --store" in spec["entrypoint"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert cluster["authOptions"] == {"mode": "token"} and cluster["enableInTreeAutoscaling"]
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text().split()
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] == workers["replicas"] == 0
    groups = [cluster["headGroupSpec"], workers]
    containers = [group["template"]["spec"]["containers"][0] for group in groups]
    for owner in [cluster["autoscalerOptions"], *containers]:
        assert {e["name"]: e["value"] for e in owner["env"]} == {
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-gpus": "0"}
    assert containers[1]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_every_template_is_text_without_a_long_line():
    for name in TEMPLATES:
        lines = template(name).splitlines()
        assert all(len(line) <= 100 or "resolve:ssm" in line for line in lines), name
