"""Turns an error into one line with its value, its place and the remedy."""

import difflib
import re
from collections.abc import Iterable

NO_RESULT, USER_ERROR, INTERRUPTED = 1, 2, 130
"""Exit statuses: a trial has no result, what was asked cannot be, the user has left."""

# torch hands over an error of another process or thread as that traceback's text
WRAPPED = re.compile(r"Caught \w+ in .+\.$")
PLACE = '  File "'
RAISED = re.compile(r"[A-Za-z_][\w.]*: \S.*")
"""Begin its first line, which has no reason, its lines of places, and of exceptions."""


class UserError(Exception):
    """Is printed as `place: message`, without a traceback; exit status 2."""

    def __init__(self, message: str, place: str = "") -> None:
        text = f"{place}: {message}" if place else message
        if not WRAPPED.match(text.partition("\n")[0]):  # torch makes one of a whole traceback
            text = text.replace("\n", "\\n")  # a folder's name may hold one
        super().__init__(text)


class Emptier(UserError):
    """Refuses to replace a file by one with fewer results. Exit status 1, as for any result that
    is missing."""


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """Return `unknown key "mask_ration" (did you mean "mask_ratio"?)`, or list what is known."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"
    return f'unknown {what} "{name}" ({hint})'


def one_line(error: BaseException) -> str:
    """Return `ValueError: the reason`, also of an error that has crossed a process."""
    error = getattr(error, "cause", None) or error  # Ray keeps the exception itself beside its text
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__

    # the reason is on the line of the exception that was raised there last
    if WRAPPED.match(lines[0]):
        last = max((i for i, line in enumerate(lines) if line.startswith(PLACE)), default=0)
        raised = next((line for line in lines[last + 1 :] if RAISED.match(line)), None)
        if raised:
            name, _, words = raised.partition(": ")
            return f"{name.rsplit('.', 1)[-1]}: {words}"
    return f"{type(error).__name__}: {lines[0].strip()}"


def name_first(names: Iterable[str], most: int = 3) -> str:
    """List the first names, and how many more there are: "a, b, c and 2 more"."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
