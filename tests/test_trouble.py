"""Passing trouble gets "the same command", lasting trouble what has to be done first."""

import errno
import sqlite3
import time

import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, UNAUTHENTICATED

from mae_ablation.store import waiting
from mae_ablation.study.trouble import SAME_COMMAND, lasting_remedy, remedy_of
from mae_ablation.tracking.client import one_at_a_time

PASSING = [
    MlflowException("API request to http://127.0.0.1:1/api failed: Connection refused"),
    MlflowException("(sqlite3.OperationalError) database is locked"),
    sqlite3.OperationalError("database is locked"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    TimeoutError("s3://x/y did not answer within 15 s"),
    OSError(errno.ESTALE, "Stale file handle"),
    RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "come again"}),
]
LASTING = [
    (MlflowException("not yours", PERMISSION_DENIED), "may not write"),
    (MlflowException("who are you", UNAUTHENTICATED), "MLFLOW_TRACKING_USERNAME"),
    (RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}), "refuse it again"),
    (MlflowException("Detected out-of-date database schema (found version"), "mlflow db upgrade"),
    (sqlite3.OperationalError("attempt to write a readonly database"), "writable"),
    (sqlite3.DatabaseError("file is not a database"), "move the file away"),
    (OSError(errno.EACCES, "Permission denied"), "no permission"),
    (OSError(errno.ENOSPC, "No space left on device"), "make room"),
    (OSError(errno.EROFS, "Read-only file system"), "another place"),
    (OSError("When getting information: AWS Error ACCESS_DENIED: Access Denied"), "credentials"),
    (ModuleNotFoundError("No module named 'psycopg2'"), "install"),
]


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_what_passes_needs_the_same_command(error):
    assert lasting_remedy(error) is None and remedy_of(error) == SAME_COMMAND
    assert remedy_of(error, "wait") == "wait"


@pytest.mark.parametrize(("error", "remedy"), LASTING, ids=lambda x: str(x)[:40])
def test_what_lasts_says_what_to_do(error, remedy):
    assert remedy in remedy_of(error)


def test_a_wait_says_for_what(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(waiting, "SAID_AFTER_S", 0.05)
    with waiting.waiting("something quick"):
        pass
    with waiting.waiting("the kettle"):
        time.sleep(0.3)
    assert capsys.readouterr().err == "waiting for the kettle ...\n"
    with one_at_a_time(tmp_path / "mlflow.db"):
        time.sleep(0.2)  # holding it is no waiting
    assert capsys.readouterr().err == ""


def test_an_answer_or_its_error_is_handed_over():
    assert waiting.answer_in_time(lambda: 7, "a place") == 7
    with pytest.raises(ZeroDivisionError):
        waiting.answer_in_time(lambda: 1 / 0, "a place")
