"""Remedies for an error of a place that results are kept in or shown in.

Passing trouble ends by itself: the same command does the rest. Lasting trouble comes again, and
somebody has to do something first.
"""

import errno

SAME_COMMAND = "the same command catches up"
MEND = "`mae-ablation store verify --mend` has the phase finished again"

LASTING: dict[str, tuple[str | int, ...]] = {
    "restore the experiment, or delete it for good: `mlflow gc`": (
        *("in the deleted state", "deleted_experiment", "INVALID_STATE"),
    ),
    "upgrade it: `mlflow db upgrade URI`, after a copy": (
        *("out-of-date database schema", "no such column"),
    ),
    "a newer MLflow made this database: install that version": ("can't locate revision",),
    "the database is not MLflow's, or of another version: name another one": ("no such table",),
    "the database is of another version: `mlflow db upgrade URI`, after a copy": (
        "no such column",
    ),
    "move the file away; a new one is filled from the store": ("not a database", "malformed"),
    "make the file and its folder writable": ("readonly database",),
    "make it writable; then the same command catches up": ("is not writable",),
    "make the folder of the file writable": ("unable to open database",),
    "make room on the disk; then the same command catches up": ("is full", errno.ENOSPC),
    "no permission: check the user, the key, or who may write there": ("permission denied",),
    "these credentials may not use the place: check them and its policy": (
        *("access denied", "accessdenied", "forbidden"),
    ),
    "check the credentials": ("invalidaccesskeyid", "signaturedoesnotmatch"),
    "make the bucket, or name another one with --store": ("nosuchbucket", "bucket does not exist"),
    "install it; then the same command catches up": ("no module named",),
    "this user may not write there: ask whoever runs the server": ("PERMISSION_DENIED",),
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD": (
        *("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"),
    ),
    "MLFLOW_TRACKING_URI names something that is no MLflow server of today": (
        *("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED"),
    ),
    "MLflow will refuse it again; store and reports have all of it": (
        *("INVALID_PARAMETER_VALUE", "BAD_REQUEST"),
    ),
    "somebody has deleted it in MLflow: restore it there": ("RESOURCE_DOES_NOT_EXIST",),
    "no permission: make it writable": (errno.EACCES, errno.EPERM),
    "the file system is read-only: choose another place": (errno.EROFS,),
    "make room in the quota; then the same command catches up": (errno.EDQUOT,),
    "choose a place with a shorter path": (errno.ENAMETOOLONG,),
    "a file is where a folder is needed: choose another place": (errno.ENOTDIR,),
    "a folder is where a file is needed: choose another place": (errno.EISDIR,),
}
"""causes by their remedy: words of the error's text, MLflow's codes, the system's numbers"""


def remedy_of(error: BaseException | str, again: str = SAME_COMMAND) -> str:
    """Return what to do: `again` for passing trouble, such as no connection, a timeout or a lock.

    Args:
        error: an exception, or the text of one.
    """
    return lasting_remedy(error) or again


def lasting_remedy(error: BaseException | str) -> str | None:
    """Return what to do about lasting trouble; None: it passes, as far as one can tell."""
    text, code = str(error).lower(), getattr(error, "error_code", None)
    number = error.errno if isinstance(error, OSError) else None
    causes = [(cause, remedy) for remedy, causes in LASTING.items() for cause in causes]
    # the text says most, the number least
    words = [remedy for cause, remedy in causes if str(cause).islower() and cause in text]
    others = [remedy for known in (code, number) for cause, remedy in causes if cause == known]
    return next(iter([*words, *others]), None)
