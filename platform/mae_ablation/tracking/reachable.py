"""Reachable: whether MLflow would take what a study finds; asked without MLflow itself."""

import os
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path

from mae_ablation.tracking.address import database, server, shown

ANSWER_S = 3.0


def place(root: Path) -> str:
    """Where a study started in `root` is tracked."""
    return shown(server() or str(database(root)))


def trouble(root: Path) -> str:
    """Why MLflow cannot be written; empty: it can, or a database will be made."""
    where = server()
    if where and where.startswith(("http://", "https://")):
        return _server_trouble(shown(where))
    if where and ("://" not in where or where.startswith("file:")):
        return "MLflow takes no folders any more: http://HOST:PORT or sqlite:///FILE"
    if where:
        return ""  # a database server: MLflow's own business
    file = database(root)
    if not file.exists():
        return "" if os.access(file.parent, os.W_OK) else f"{file.parent} is not writable"
    return _database_trouble(file)


def _server_trouble(url: str) -> str:
    try:
        urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=ANSWER_S).close()
    except urllib.error.HTTPError as error:
        return "" if error.code < 500 else f"answers with status {error.code}"
    except (OSError, ValueError) as error:
        return f"does not answer: {getattr(error, 'reason', error)}"
    return ""


def _database_trouble(path: Path) -> str:
    if not os.access(path, os.W_OK):
        return f"{path} is not writable"
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=ANSWER_S)
        try:
            connection.execute("select name from sqlite_master").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return f"{path}: {error}"
    return ""
