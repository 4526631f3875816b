"""Tunnel: a port of this machine that leads through ssh to the dashboard of a cluster's head.

`ray dashboard` makes it, with the user, key and proxy of the cluster file. The dashboard itself
listens on the head's loopback address alone.
"""

import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from mae_ablation.launch.place import Cluster, ray_command
from mae_ablation.run import children
from mae_ablation.store.waiting import waiting

NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
OPEN_S = 60.0
TUNNEL_POLL_S = 0.2


class TunnelLost(Exception):
    """The head cannot be reached. The message is what ssh said."""


class Tunnel:
    """Opens on the first use, and again after it broke. A context manager that closes it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._process: subprocess.Popen | None = None
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the tunnel
        self._url = ""

    def __enter__(self) -> "Tunnel":
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()
        self._said.close()

    def url(self) -> str:
        """Return http://127.0.0.1:PORT of the dashboard, which answers.

        Raises:
            TunnelLost: it does not.
        """
        # a tunnel may live on without leading anywhere: it is asked each time
        if self._process and self._process.poll() is None and answers(self._url):
            return self._url

        # another port, and another ssh; Ctrl-C is for the study's command, not for it
        self._close()
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._said.seek(0)
        self._said.truncate()
        self._process = children.start(
            ray_command("dashboard", str(self._cluster.file), "--port", str(port)),
            stdout=self._said,
            stderr=subprocess.STDOUT,
            env={"RAY_USAGE_STATS_ENABLED": "0", **os.environ},
        )
        until = time.monotonic() + OPEN_S
        with waiting(f"the cluster's head {self._cluster.head}"):
            while not answers(self._url):
                if self._process.poll() is not None or time.monotonic() > until:
                    self._close()
                    raise TunnelLost(self._reason())
                time.sleep(TUNNEL_POLL_S)
        return self._url

    def _close(self) -> None:
        if self._process:
            children.end(self._process)
            self._process = None

    def _reason(self) -> str:
        """Return ssh's own last words, else Ray's."""
        self._said.seek(0)
        lines = [line.strip() for line in self._said.read().splitlines() if line.strip()]
        of_ssh = [line for line in lines if line.startswith(("ssh:", "kex_", "bind", "channel"))]
        of_ssh += [line for line in lines if "Permission denied" in line or "refused" in line]
        return (of_ssh or lines or ["no answer"])[-1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    """Return whether a dashboard answers there, if only to ask for a token."""
    try:
        NO_PROXY.open(f"{url}/api/version", timeout=10).close()
        return True
    except urllib.error.HTTPError:
        return True
    except (OSError, HTTPException):
        return False


def fetch_file(cluster: Cluster, remote: str, local: Path) -> None:
    """Copy a file of the head to this machine.

    Raises:
        TunnelLost: it is not there, or the head cannot be reached.
    """
    with waiting(f"{remote} of the cluster's head {cluster.head}"):
        status, said = children.output_of(
            ray_command("rsync-down", str(cluster.file), remote, str(local)),
            env={"RAY_USAGE_STATS_ENABLED": "0", **os.environ},
        )
    if status or not local.is_file():
        lines = said.strip().splitlines()
        raise TunnelLost(lines[-1] if lines else f"no {remote} there")
