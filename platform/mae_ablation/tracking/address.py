"""Says where MLflow lies, the server of MLFLOW_TRACKING_URI or a database of this machine, and
whether it would take what a study finds; all without MLflow itself."""

import os
import re
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

from mae_ablation.store.paths import expanded

HOST, PORT = "127.0.0.1", 5000
SQLITE, DRIVER = "sqlite:///", "sqlite+pysqlite:///"
MODEL_TRAINING = "workflowType=machine_learning"
"""Stands in every link: without it a new browser lands on a page of zeros."""

MLFLOW_ANSWER_S = 3.0
"""Seconds that a server or a database has for an answer."""


def server_uri() -> str | None:
    """Return the URI of a server, if MLFLOW_TRACKING_URI names one, or anything else that is no
    SQLite file. Several drivers may write there."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    return uri if uri and not uri.startswith((SQLITE, DRIVER)) else None


def database_file(root: Path) -> Path:
    """Return the SQLite file: that of MLFLOW_TRACKING_URI=sqlite:///FILE, else `root`/mlflow.db."""
    uri, named = os.environ.get("MLFLOW_TRACKING_URI", ""), None
    if uri.startswith((SQLITE, DRIVER)):
        from sqlalchemy import make_url

        named = make_url(uri).database  # as MLflow reads it
    return (root / expanded(named or "mlflow.db")).resolve()


def sqlite_address(file: Path) -> str:
    """Return the address of a database in a folder of any name, "what?" and "100%" included."""
    from sqlalchemy import URL

    # with its driver: of a plain sqlite:/// address MLflow makes the folder before it is decoded
    return URL.create("sqlite+pysqlite", database=str(file)).render_as_string(hide_password=False)


def hide_password(uri: str) -> str:
    """Return an address as it may be printed and kept: without a user's name and password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def tracking_place(root: Path) -> str:
    """Return where a study started in `root` is tracked."""
    return hide_password(server_uri() or str(database_file(root)))


def runs_url(experiment_id: str) -> str:
    """Return the link to the study's table of trials."""
    return f"{_pages()}/{experiment_id}/runs?{MODEL_TRAINING}&viewStateShareKey=trials"


def run_url(experiment_id: str, run_id: str) -> str:
    """Return the link to a trial's run."""
    return f"{_pages()}/{experiment_id}/runs/{run_id}?{MODEL_TRAINING}"


def _pages() -> str:
    """Return the first part of the UI's links: the server's, or of the `ui` on this machine."""
    there = hide_password(server_uri() or "")
    return f"{there if there.startswith('http') else f'http://{HOST}:{PORT}'}/#/experiments"


def find_trouble(root: Path) -> str:
    """Say why MLflow cannot be written; "" where it can, or a database will be made."""
    where = server_uri()
    if where and where.startswith(("http://", "https://")):
        return _server_trouble(hide_password(where))
    if where:  # a database server is MLflow's own business
        folder = "://" not in where or where.startswith("file:")
        return "MLflow takes no folders any more: http://HOST:PORT or sqlite:///FILE" * folder

    # a database of this machine, which the first run makes
    file = database_file(root)
    place = file if file.exists() else file.parent
    if not os.access(place, os.W_OK):
        return f"{place} is not writable"
    if file.exists():
        address = f"{file.as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=MLFLOW_ANSWER_S)) as connection:
                connection.execute("select name from sqlite_master").fetchall()
        except sqlite3.Error as error:
            return f"{file}: {error}"
    return ""


def _server_trouble(url: str) -> str:
    try:
        urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=MLFLOW_ANSWER_S).close()
    except urllib.error.HTTPError as error:
        return "" if error.code < 500 else f"answers with status {error.code}"
    except (OSError, ValueError) as error:
        return f"does not answer: {getattr(error, 'reason', error)}"
    return ""
