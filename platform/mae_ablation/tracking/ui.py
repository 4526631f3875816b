"""The MLflow UI, started light: one web worker and no job queue (8 s instead of 30, 0.5 GB)."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from mae_ablation.study.errors import UserError

HOST, PORT = "127.0.0.1", 5000


def runs_url(experiment_id: str, port: int = PORT) -> str:
    """Opens the study's table of trials; MLFLOW_TRACKING_URI names the server if it is one."""
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    base = server.rstrip("/") if server.startswith("http") else f"http://{HOST}:{port}"
    query = "workflowType=machine_learning&viewStateShareKey=trials"
    return f"{base}/#/experiments/{experiment_id}/runs?{query}"


def serve(root: Path, port: int) -> int:
    """Run the UI over `root`/mlflow.db until it is stopped; returns its exit status.

    Raises:
        UserError: nothing to show yet, or the port is busy.
    """
    if not (root / "mlflow.db").exists():
        raise UserError(f"no mlflow.db in {root}: run a study first", "ui")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            message = f"port {port} is busy: choose another with --port {port + 1}"
            raise UserError(message, "ui") from None
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{root.resolve()}/mlflow.db",
    }
    command = [sys.executable, "-m", "mlflow", "ui"]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    print(f"MLflow UI: http://{HOST}:{port}/?workflowType=machine_learning (Ctrl-C stops it)")
    try:
        return subprocess.run(command, cwd=root, env=environment).returncode
    except KeyboardInterrupt:
        return 0
