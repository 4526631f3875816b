"""The MLflow UI, started light: one web worker and no job queue (8 s instead of 30, 0.5 GB)."""

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from mae_ablation.errors import UserError
from mae_ablation.run import children
from mae_ablation.tracking.address import (
    HOST,
    MODEL_TRAINING,
    database_file,
    hide_password,
    server_uri,
    sqlite_address,
)


def serve(root: Path, port: int) -> int:
    """Run the UI over `root`/mlflow.db, or the database of MLFLOW_TRACKING_URI, until it is
    stopped; returns its exit status.

    Raises:
        UserError: nothing to show yet, or the port is busy.
    """
    # whatever can be refused, before a server is started
    if there := server_uri():
        raise UserError(f"MLFLOW_TRACKING_URI names a server: open {hide_password(there)}", "ui")
    file = database_file(root)
    if not file.exists():
        raise UserError(f"no {file.name} in {file.parent}: run a study first", "ui")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            message = f"port {port} is busy: choose another with --port {port + 1}"
            raise UserError(message, "ui") from None

    # one worker, no job queue, unless the user's environment says otherwise
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": sqlite_address(file),
    }
    command = [sys.executable, "-m", "mlflow", "ui"]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    print(f"MLflow UI: http://{HOST}:{port}/?{MODEL_TRAINING} (Ctrl-C stops it)", flush=True)
    return run_server(command, cwd=file.parent, env=environment)


def run_server(command: Sequence[str], **options: object) -> int:
    """Run a server until it ends, with its exit status, or until Ctrl-C, with 0.

    Whatever else ends us, what `children.start` has started ends with us.
    """
    server = children.start(command, **options)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        children.end(server)
