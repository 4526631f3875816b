"""The MLflow client: SQLite beside the study, or what MLFLOW_TRACKING_URI names; and the locks of a
database that several drivers want to write."""

import fcntl
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# MLflow reads these when it is imported
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # the tracker tries again itself
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # a call and a line per run

from mlflow import MlflowClient
from mlflow.entities import FileInfo, Run

from mae_ablation.store.waiting import waiting
from mae_ablation.tracking.address import database_file, server_uri, sqlite_address

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)

PREFIX = "mlflow-artifacts:/"


class LocalClient(MlflowClient):
    """SQLite tracking whose files go where `mlflow ui`, started in its folder, serves them from.

    An experiment's artifact location is written as `mlflow-artifacts:/...`, so the folder can be
    moved; a plain SQLite client could not write there.
    """

    def __init__(self, database: Path) -> None:
        self.database = database
        self.artifact_root = database.parent / "mlartifacts"
        self._artifact_uris: dict[str, str] = {}  # by run
        with one_at_a_time(database):
            super().__init__(sqlite_address(database))
            with sqlite3.connect(database) as connection:
                # readers do not block the writer, which is twice as fast
                connection.execute("PRAGMA journal_mode=WAL")

    def create_run(self, *args, **kwargs) -> Run:
        run = super().create_run(*args, **kwargs)
        self._artifact_uris[run.info.run_id] = run.info.artifact_uri
        return run

    def _folder(self, run_id: str, sub: str | None = None) -> Path:
        # a query for each file would be as slow as the copy
        if run_id not in self._artifact_uris:
            self._artifact_uris[run_id] = self.get_run(run_id).info.artifact_uri
        inside = self._artifact_uris[run_id].removeprefix(PREFIX).lstrip("/")
        folder = self.artifact_root / inside / (sub or "")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        shutil.copy(local_path, self._folder(run_id, artifact_path))

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        top = self._folder(run_id)
        found = self._folder(run_id, path).iterdir()
        return [FileInfo(str(f.relative_to(top)), f.is_dir(), f.stat().st_size) for f in found]


def open_client(root: Path) -> MlflowClient:
    """Return a client of the server of MLFLOW_TRACKING_URI, else of the database in `root`."""
    uri = server_uri()
    return MlflowClient(uri) if uri else LocalClient(database_file(root))


def client_to_read(root: Path) -> MlflowClient:
    """Return such a client of a database that exists; nothing is made and nothing locked."""
    return MlflowClient(server_uri() or sqlite_address(database_file(root)))


class WriteLock:
    """A lock on a small file beside the database: one driver writes an experiment, others wait.

    The system lets go of it when the process ends, however it ends.
    """

    def __init__(self, database: Path, experiment: str) -> None:
        self._path = database.with_name(f"{database.name}-{experiment}.lock")
        self._file: BinaryIO | None = None
        self.folder = database.parent

    def take(self) -> bool:
        """Say whether it is ours now, or was before."""
        if self._file is None:
            file = open(self._path, "ab")  # noqa: SIM115 - held until it is given back
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
            self._file = file
        return True

    def give_back(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def one_at_a_time(database: Path) -> Iterator[None]:
    """Let one process open a new database: of several that make its tables at once, all but one
    fail (measured)."""
    with open(database.with_name(f"{database.name}-open.lock"), "ab") as file:
        with waiting(f"another process that opens {database}"):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
