"""The MLflow UI, started light: one web worker and no job queue (8 s instead of 30, 0.5 GB)."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from mae_ablation.study.errors import UserError
from mae_ablation.tracking.address import HOST, MODEL_TRAINING, database, server, shown


def serve(root: Path, port: int) -> int:
    """Run the UI over `root`/mlflow.db, or the database of MLFLOW_TRACKING_URI, until it is
    stopped; returns its exit status.

    Raises:
        UserError: nothing to show yet, or the port is busy.
    """
    if there := server():
        raise UserError(f"MLFLOW_TRACKING_URI names a server: open {shown(there)}", "ui")
    file = database(root)
    if not file.exists():
        raise UserError(f"no {file.name} in {file.parent}: run a study first", "ui")
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
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{file}",
    }
    command = [sys.executable, "-m", "mlflow", "ui"]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    print(f"MLflow UI: http://{HOST}:{port}/?{MODEL_TRAINING} (Ctrl-C stops it)")
    try:
        return subprocess.run(command, cwd=file.parent, env=environment).returncode
    except KeyboardInterrupt:
        return 0
