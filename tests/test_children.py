"""What one command starts ends with it, by whatever signal it ended."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from processes import free_port

from mae_ablation.cli import main
from mae_ablation.run import children

SERVER = """\
import socket, subprocess, sys, time
if len(sys.argv) == 2:  # as mlflow does: the one that listens is a child of the one that is started
    sys.exit(subprocess.call([sys.executable, __file__, sys.argv[1], "child"]))
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
time.sleep(60)
"""
ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def is_taken(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def within(seconds, condition):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize("number", [*ASKED, signal.SIGKILL], ids=lambda n: n.name)
def test_a_server_and_what_it_started_end_with_the_command(tmp_path, number):
    (tmp_path / "server.py").write_text(SERVER)
    port = free_port()
    code = "import sys; from mae_ablation.tracking.ui import run_server\n"
    code += "sys.exit(run_server([sys.executable, *sys.argv[1:]]))"
    command = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "server.py"), str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert command.stdout.readline() == "listening\n" and is_taken(port)
    command.send_signal(number)
    status = command.wait(10)
    assert within(children.GRACE_S + 5, lambda: not is_taken(port))
    assert status == (0 if number == signal.SIGINT else -number)


def test_a_server_that_does_not_listen_to_reason_is_killed(monkeypatch):
    monkeypatch.setattr(children, "GRACE_S", -1.5)  # half a second of patience, not seven
    deaf = "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
    process = children.start(["sh", "-c", deaf], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"deaf\n"
    children.end(process)
    assert process.returncode == -signal.SIGKILL
    assert within(5, lambda: not group_is_there(process.pid))


def test_the_status_and_the_words_of_a_command_that_ends_by_itself():
    assert children.output_of(["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, "out\nerr\n")


def group_is_there(group):
    try:
        os.killpg(group, 0)
        return True
    except ProcessLookupError:
        return False


@pytest.mark.slow
def test_the_ui_leaves_no_server_behind(tmp_path):
    from mae_ablation.tracking.client import open_client

    folder = tmp_path / "what? #1 100% ä '&;$()[]{}"
    folder.mkdir()
    open_client(folder).create_experiment("seen in the UI")
    port = free_port()
    command = subprocess.Popen(
        [sys.executable, "-m", "mae_ablation", "ui", "--port", str(port)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert within(300, lambda: is_taken(port))
        assert within(60, lambda: "seen in the UI" in experiments(port))
    finally:
        command.kill()
        command.wait(20)
    assert within(children.GRACE_S + 5, lambda: not is_taken(port))


def experiments(port):
    import json
    import urllib.request

    address = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=10"
    try:
        with urllib.request.urlopen(address, timeout=20) as reply:
            return [each["name"] for each in json.load(reply)["experiments"]]
    except OSError:
        return []


def test_a_busy_port_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert main(["ui", "--port", str(port)]) == 2
    assert f"port {port} is busy: choose another with --port {port + 1}" in capsys.readouterr().err
