"""Where MLflow lies: the server of MLFLOW_TRACKING_URI, or a database of this machine."""

import os
import re
from pathlib import Path

from mae_ablation.store.paths import expanded

HOST, PORT = "127.0.0.1", 5000
SQLITE, DRIVER = "sqlite:///", "sqlite+pysqlite:///"
MODEL_TRAINING = "workflowType=machine_learning"
"""in every link: without it a new browser lands on a page of zeros"""


def server() -> str | None:
    """URI of a server, if MLFLOW_TRACKING_URI names one, or anything else that is no SQLite file.
    Several drivers may write there."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    return uri if uri and not uri.startswith((SQLITE, DRIVER)) else None


def database(root: Path) -> Path:
    """The SQLite file: that of MLFLOW_TRACKING_URI=sqlite:///FILE, else `root`/mlflow.db."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    named = _file_of(uri) if uri.startswith((SQLITE, DRIVER)) else None
    return (root / expanded(named or "mlflow.db")).resolve()


def _file_of(uri: str) -> str | None:
    """The file of a SQLite address, as SQLAlchemy reads it, and so MLflow."""
    from sqlalchemy import make_url

    return make_url(uri).database


def sqlite_address(file: Path) -> str:
    """The address of a database, whatever its folder is called: "what?" and "100%" included.

    The driver is named because MLflow makes the folder of a plain sqlite:/// address before it is
    decoded: one more, called "what%3F".
    """
    from sqlalchemy import URL

    return URL.create("sqlite+pysqlite", database=str(file)).render_as_string(hide_password=False)


def shown(uri: str) -> str:
    """An address as it may be printed and kept: without a user's name and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def pages(port: int = PORT) -> str:
    """First part of the UI's links: the server's, or of `python -m platform ui` on this machine."""
    there = shown(server() or "")
    return f"{there if there.startswith('http') else f'http://{HOST}:{port}'}/#/experiments"


def runs_url(experiment_id: str, port: int = PORT) -> str:
    """Opens the study's table of trials."""
    query = f"{MODEL_TRAINING}&viewStateShareKey=trials"
    return f"{pages(port)}/{experiment_id}/runs?{query}"


def run_url(experiment_id: str, run_id: str) -> str:
    """Opens a trial's run."""
    return f"{pages()}/{experiment_id}/runs/{run_id}?{MODEL_TRAINING}"
