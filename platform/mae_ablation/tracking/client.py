"""The MLflow client: SQLite beside the study by default, or the server of MLFLOW_TRACKING_URI."""

import logging
import os
import shutil
import sqlite3
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # the tracker tries again itself
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")

from mlflow import MlflowClient
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)

PREFIX = "mlflow-artifacts:/"


class LocalClient(MlflowClient):
    """SQLite tracking whose files go where `mlflow ui`, started in `root`, serves them from.

    An experiment's artifact location is written as `mlflow-artifacts:/...`, so the folder can be
    moved; a plain SQLite client could not write there.
    """

    def __init__(self, root: Path) -> None:
        self.artifact_root = root.resolve() / "mlartifacts"
        database = root.resolve() / "mlflow.db"
        super().__init__(f"sqlite:///{database}")
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # readers do not block the writer

    def _folder(self, run_id: str, sub: str | None = None) -> Path:
        uri = self.get_run(run_id).info.artifact_uri
        if not uri.startswith(PREFIX):
            raise ValueError(f"run {run_id}: artifact URI {uri!r} does not start with {PREFIX!r}")
        folder = self.artifact_root / uri[len(PREFIX) :].lstrip("/") / (sub or "")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        shutil.copy(local_path, self._folder(run_id, artifact_path))

    def list_artifacts(self, run_id: str, path: str | None = None):
        return LocalArtifactRepository(str(self._folder(run_id))).list_artifacts(path)


def connect(root: Path) -> MlflowClient:
    """Client of MLFLOW_TRACKING_URI if that is set, else of `root`/mlflow.db."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return MlflowClient(uri) if uri else LocalClient(root)
