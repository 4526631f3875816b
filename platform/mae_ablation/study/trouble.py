"""What to do about an error of a place that results are kept in or shown in.

Passing trouble ends by itself: the same command does the rest. Lasting trouble comes again, and
somebody has to do something first.
"""

import errno

AGAIN = "the same command catches up"
MEND = "`mae-ablation store verify --mend` has the phase finished again"

CODES = {
    "PERMISSION_DENIED": "this user may not write there: ask whoever runs the server",
    "UNAUTHENTICATED": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "CUSTOMER_UNAUTHORIZED": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "ENDPOINT_NOT_FOUND": "MLFLOW_TRACKING_URI names something that is no MLflow server of today",
    "NOT_IMPLEMENTED": "MLFLOW_TRACKING_URI names something that is no MLflow server of today",
    "INVALID_STATE": "restore the experiment, or delete it for good: `mlflow gc`",
    "INVALID_PARAMETER_VALUE": "MLflow will refuse it again; store and reports have all of it",
    "BAD_REQUEST": "MLflow will refuse it again; store and reports have all of it",
    "RESOURCE_DOES_NOT_EXIST": "somebody has deleted it in MLflow: restore it there",
}
"""lasting ones, as MLflow calls them"""

WORDS = {
    "in the deleted state": CODES["INVALID_STATE"],
    "deleted_experiment": CODES["INVALID_STATE"],
    "out-of-date database schema": "upgrade it: `mlflow db upgrade URI`, after a copy",
    "can't locate revision": "a newer MLflow made this database: install that version",
    "no such table": "the database is not MLflow's, or of another version: name another one",
    "no such column": "the database is of another version: `mlflow db upgrade URI`, after a copy",
    "not a database": "move the file away; a new one is filled from the store",
    "malformed": "move the file away; a new one is filled from the store",
    "readonly database": "make the file and its folder writable",
    "is not writable": "make it writable; then the same command catches up",
    "unable to open database": "make the folder of the file writable",
    "is full": "make room on the disk; then the same command catches up",
    "permission denied": "no permission: check the user, the key, or who may write there",
    "access denied": "these credentials may not use the place: check them and its policy",
    "accessdenied": "these credentials may not use the place: check them and its policy",
    "forbidden": "these credentials may not use the place: check them and its policy",
    "invalidaccesskeyid": "check the credentials",
    "signaturedoesnotmatch": "check the credentials",
    "nosuchbucket": "make the bucket, or name another one with --store",
    "bucket does not exist": "make the bucket, or name another one with --store",
    "no module named": "install it; then the same command catches up",
}
"""lasting ones, by what their text holds"""

NUMBERS = {
    errno.EACCES: "no permission: make it writable",
    errno.EPERM: "no permission: make it writable",
    errno.EROFS: "the file system is read-only: choose another place",
    errno.ENOSPC: "make room on the disk; then the same command catches up",
    errno.EDQUOT: "make room in the quota; then the same command catches up",
    errno.ENAMETOOLONG: "choose a place with a shorter path",
    errno.ENOTDIR: "a file is where a folder is needed: choose another place",
    errno.EISDIR: "a folder is where a file is needed: choose another place",
}
"""lasting ones, as the system calls them"""


def remedy_of(error: BaseException | str, again: str = AGAIN) -> str:
    """Return what to do: `again` for passing trouble, such as no connection, a timeout or a lock.

    Args:
        error: an exception, or the text of one.
    """
    lasting = lasting_remedy(error)
    return again if lasting is None else lasting


def lasting_remedy(error: BaseException | str) -> str | None:
    """Return what to do about lasting trouble; None: it passes, as far as one can tell."""
    text = str(error).lower()
    found = next((remedy for words, remedy in WORDS.items() if words in text), None)
    found = found or CODES.get(getattr(error, "error_code", None))
    if found is None and isinstance(error, OSError):
        found = NUMBERS.get(error.errno)
    return found
